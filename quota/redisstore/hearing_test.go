package redisstore

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A logBuffer has what was logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), text)
}

const deafText = "does not let the gateway subscribe"

// TestRefusedSubscribeIsReportedOnce checks a Redis that serves all calls but SUBSCRIBE: because
// of the user's rights, because a proxy knows no SUBSCRIBE, or because it closes the connection.
// Once Redis permits it, announcements come.
func TestRefusedSubscribeIsReportedOnce(t *testing.T) {
	t.Parallel()
	for name, breakSubscribe := range map[string]func(*testing.T, *redistest.Server, *redistest.FaultProxy) (heal func()){
		"no right": func(t *testing.T, r *redistest.Server, _ *redistest.FaultProxy) func() {
			r.Needs(t, "6", "ACL")
			r.Do("ACL", "SETUSER", "default", "-subscribe")
			return func() { r.Do("ACL", "SETUSER", "default", "+subscribe") }
		},
		"a proxy closes": func(_ *testing.T, _ *redistest.Server, p *redistest.FaultProxy) func() {
			p.OnCommand(subscribeFate(redistest.Cut))
			return p.Heal
		},
		"a proxy says nothing": func(_ *testing.T, _ *redistest.Server, p *redistest.FaultProxy) func() {
			p.OnCommand(subscribeFate(redistest.Drop))
			return p.Heal
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := redistest.StartFaultProxy(t, server.Addr)
			var log logBuffer
			s := openWith(t, Options{URL: proxy.URL(), Timeout: short, Log: slog.New(slog.NewTextHandler(&log, nil))})
			changed := make(chan struct{}, 1)
			defer s.Watch("u", changed)()
			testkit.Receive(t, "the confirmation", changed)
			if s.SubscribeFails() {
				t.Error("a subscription that Redis confirms is reported")
			}

			heal := breakSubscribe(t, server, proxy)
			proxy.CutConnections()
			defer s.Watch("v", make(chan struct{}, 1))()
			testkit.Eventually(t, "the failure shows", s.SubscribeFails)
			testkit.Eventually(t, "the failure is logged", func() bool { return log.count(deafText) == 1 })
			for len(changed) > 0 {
				<-changed
			}

			heal()
			testkit.Receive(t, "the confirmation after the repair", changed)
			testkit.Eventually(t, "the end is logged", func() bool { return log.count("confirms subscriptions again") == 1 })
			if s.SubscribeFails() || log.count(deafText) != 1 {
				t.Errorf("fails %v after the repair, %d warnings, want false and 1", s.SubscribeFails(), log.count(deafText))
			}
		})
	}
}

func subscribeFate(fate redistest.Fate) func(redistest.Command) redistest.Fate {
	return func(cmd redistest.Command) redistest.Fate {
		if len(cmd) > 0 && strings.EqualFold(cmd[0], "subscribe") {
			return fate
		}
		return redistest.Pass
	}
}

// TestHearingWaitsForAServingRedis checks that an outage of Redis is not taken for a refused
// SUBSCRIBE, not even when it has just ended.
func TestHearingWaitsForAServingRedis(t *testing.T) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	var h hearing
	h.asked(1, true, at(0))
	for _, step := range []struct {
		at, serves float64
		overdue    bool
	}{
		{4.9, 1, false}, {5, 0, true}, {6, 0, false}, {9.9, 1, false}, {10, 1, true}, {11, 0, true},
		{16, 1, true}, {17, 1, true},
	} {
		if got := h.isOverdue(at(step.at)); got != step.overdue {
			t.Fatalf("after %v s: overdue %v", step.at, got)
		}
		if step.overdue {
			if _, deaf := h.checked(step.serves == 1, at(step.at)); deaf {
				t.Fatalf("after %v s: deaf", step.at)
			}
		}
	}
	if cause, deaf := h.checked(true, at(18)); !deaf || cause != errNoConfirmation {
		t.Errorf("deaf %v because of %v, want true because of %v", deaf, cause, errNoConfirmation)
	}
	if !h.confirmed() || h.isDeaf() || h.isOverdue(at(100)) {
		t.Error("a confirmation does not end it")
	}
	// Without channels nothing is confirmed, and nothing is missed.
	h.asked(0, false, at(100))
	h.lost(at(100), errNoConfirmation)
	if h.isOverdue(at(200)) {
		t.Error("waits for a confirmation although nobody watches")
	}
}
