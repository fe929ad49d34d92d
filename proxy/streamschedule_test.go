package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// TestStreamScheduleTimeline plays streams for a while. Changes are announced at the
// given times; a read that finds a change writes an event.
func TestStreamScheduleTimeline(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	every := func(step, from, to time.Duration) (times []time.Duration) {
		for at := from; at <= to; at += step {
			times = append(times, at)
		}
		return times
	}
	for _, c := range []struct {
		name    string
		changes []time.Duration
		expires time.Duration
		want    string
	}{
		{"nothing changes", nil, 46 * s, "read 10s, comment 15s, read 20s, read 30s, comment 30s, read 40s, comment 45s, expire 46s"},
		{"a change is read at once, and puts off the next read and comment", []time.Duration{3 * s}, 20 * s, "read 3s, read 13s, comment 18s, expire 20s"},
		{"five changes are five reads", every(ms, 0, 4*ms), s, "read 0s, read 1ms, read 2ms, read 3ms, read 4ms, expire 1s"},
		{"more changes share reads, one in 50 ms", every(ms, 0, 120*ms), s, "read 0s, read 1ms, read 2ms, read 3ms, read 4ms, read 50ms, read 100ms, read 150ms, expire 1s"},
		{"a pause earns a new burst", append(every(ms, 0, 9*ms), every(ms, 500*ms, 509*ms)...), s,
			"read 0s, read 1ms, read 2ms, read 3ms, read 4ms, read 50ms, read 500ms, read 501ms, read 502ms, read 503ms, read 504ms, read 550ms, expire 1s"},
		{"a steady rate below one in 50 ms is not put off", every(60*ms, 0, 240*ms), s, "read 0s, read 60ms, read 120ms, read 180ms, read 240ms, expire 1s"},
		{"the token's end comes before a read that is due", []time.Duration{2 * s}, 2 * s, "expire 2s"},
		{"a token that has expired already", nil, -s, "expire 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := playStream(c.changes, c.expires); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// playStream does what the loop of a stream does, with a clock of its own.
func playStream(changes []time.Duration, expires time.Duration) string {
	start := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	schedule := streamSchedule{expires: start.Add(expires), pacedAt: start, readAt: start.Add(rereadEvery)}
	var steps []string
	now, written, unread := start, start, false
	note := func(step string) { steps = append(steps, fmt.Sprint(step, " ", now.Sub(start))) }
	for {
		wake := schedule.wakeAt(written)
		if len(changes) > 0 && !start.Add(changes[0]).After(wake) {
			now, changes, unread = start.Add(changes[0]), changes[1:], true
			schedule.readAt = now
		} else if wake.After(now) {
			now = wake
		}
		switch schedule.next(now) {
		case stepExpire:
			note("expire")
			return strings.Join(steps, ", ")
		case stepRead:
			note("read")
			if schedule.noteRead(now, now.Add(rereadEvery)); unread {
				written, unread = now, false
			}
		}
		if schedule.needsComment(written, now) {
			note("comment")
			written = now
		}
	}
}

func TestRereadAfterWindowEnds(t *testing.T) {
	at := time.Date(2026, time.November, 17, 12, 0, 55, 0, time.UTC)
	endsIn := func(d time.Duration) quota.Count { return quota.Count{Window: quota.Window{End: at.Add(d)}} }
	for _, c := range []struct {
		name   string
		ends   []time.Duration // of the total's window and those of the limits
		jitter float64
		want   time.Duration
	}{
		{"all windows are long", []time.Duration{time.Hour, time.Hour}, 0, 10 * time.Second},
		{"all windows are long, with jitter", []time.Duration{time.Hour, time.Hour}, 1, 9 * time.Second},
		{"a limit's minute ends", []time.Duration{time.Hour, time.Hour, 5 * time.Second}, 0, 5 * time.Second},
		{"a limit's minute ends, with jitter", []time.Duration{time.Hour, time.Hour, 5 * time.Second}, 1, 5*time.Second + 250*time.Millisecond},
		{"the total's window ends", []time.Duration{3 * time.Second, 5 * time.Second}, 0, 3 * time.Second},
		{"a window has ended already", []time.Duration{0, -time.Second}, 0, 10 * time.Second},
	} {
		s := quota.Snapshot{At: at, Total: endsIn(c.ends[0])}
		for _, d := range c.ends[1:] {
			s.Limits = append(s.Limits, endsIn(d))
		}
		if got := rereadAfter(&s, c.jitter); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	// A Snapshot that nothing is known of: after an error of the store.
	if got := rereadAfter(new(quota.Snapshot), 0); got != rereadEvery {
		t.Errorf("nothing known: %v, want %v", got, rereadEvery)
	}
}

// A stream whose user's organisation changes the shared numbers all the time reads every 200 ms. A
// change of the user's own numbers is read at once even then, and the last change is always read.
func TestStreamSchedulePacesSharedChanges(t *testing.T) {
	start := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	schedule := streamSchedule{expires: start.Add(time.Hour), pacedAt: start, readAt: start.Add(rereadEvery)}
	written := start
	var reads []string
	for now := start; now.Before(start.Add(1300 * time.Millisecond)); now = now.Add(time.Millisecond) {
		since := now.Sub(start)
		if since < time.Second { // the last one comes after 999 ms
			schedule.noteSharedChange(written, now)
		}
		if since == 450*time.Millisecond {
			schedule.noteChange(now)
		}
		if schedule.next(now) == stepRead {
			reads = append(reads, since.String())
			schedule.noteRead(now, now.Add(rereadEvery))
			written = now.Add(3 * time.Millisecond) // that is how long it takes to read and write
		}
	}
	const want = "200ms 403ms 450ms 653ms 856ms 1.059s"
	if got := strings.Join(reads, " "); got != want {
		t.Errorf("reads at %s, want %s", got, want)
	}
}
