package redisstore

import (
	"testing"
	"time"

	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// A plain commit is not told what Redis's clock says, but a time that this clock has reached. Whatever happens to the clock since then, the
// request is counted once, and nothing stays held.
func TestPlainCommitWhenTheClockHasMoved(t *testing.T) {
	for name, move := range map[string]time.Duration{
		"no":                     0,
		"beyond the lease":       2 * time.Minute,
		"back":                   -2 * time.Minute,
		"beyond the window":      31 * 24 * time.Hour,
		"before the window":      -31 * 24 * time.Hour,
		"as long as counts stay": 3 * 365 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			server, clock, moved := redistest.Start(t), quotatest.NewClock(noon), time.Duration(0)
			server.Needs(t, "7.0", "functions")
			s := openWith(t, Options{
				URL: server.URL(), Timeout: patient, Now: clock.Now, functionsFirst: true,
				Offset: func() time.Duration { return clock.Offset() + moved },
			})
			first := mustReserve(t, s, "u")
			r := mustReserve(t, s, "u")
			mustCommit(t, s, &first)
			moved = move
			ahead := s.redisAhead.Load()
			ran := allCommandsOf(t, server, func() { mustCommit(t, s, &r) })
			if ran["fcall"] != 1 || ran["evalsha"] != 0 || ran["time"] != 0 {
				t.Errorf("%v, want one function that does not ask for the time", ran)
			}
			if s.redisAhead.Load() != ahead {
				t.Error("the store takes the time of the reply for Redis's")
			}
			mustCommit(t, s, &r)
			used, held := userHash(t, s, "u")["used/2026-11"], userHash(t, s, "u")["held/2026-11"]
			if move < 365*24*time.Hour && used != "2" || held != "" || s.LostHolds() != 0 {
				t.Errorf("%q used, %q held, %d holds lost", used, held, s.LostHolds())
			}
		})
	}
}

// A gateway that has reserved nothing for a user does not know the time of their Redis: its commits are served by scripts.
func TestPlainCommitOfAnotherGateway(t *testing.T) {
	server, clock := redistest.Start(t), quotatest.NewClock(noon)
	server.Needs(t, "7.0", "functions")
	one, other := openLike(t, Options{functionsFirst: true}, server.URL(), clock), openLike(t, Options{functionsFirst: true}, server.URL(), clock)
	first, r := mustReserve(t, one, "u"), mustReserve(t, one, "u")
	mustCommit(t, one, &first)
	ran := allCommandsOf(t, server, func() { mustCommit(t, other, &r) })
	if ran["fcall"] != 0 || ran["time"] != 1 {
		t.Errorf("%v, want a script that asks for the time", ran)
	}
	wantState(t, one, "u", 2, 0)
}
