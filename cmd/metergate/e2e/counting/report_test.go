package counting

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"metergate/cmd/metergate/gatewaytest"
)

// A report is the table at the end of a test with faults. It has a line for each plan.
type report struct{ lines []*line }

type line struct {
	plan                                  string
	users, requests, refused, unavailable int64
	seen, counted, sent, over, lost       int64
	told, charged, reported               int64
}

// judge checks a user's counts, in requests and in units, against the rules. allowed is how many
// requests over the limit the rules allow.
func (r *report) judge(t *testing.T, u *gatewaytest.Account, counted, charged, allowed int64) {
	t.Helper()
	seen, sent, over := u.Seen.Load(), u.Sent.Load(), int64(0)
	if u.Limit > 0 {
		over = max(0, counted-u.Limit)
	}
	name := u.Plan
	if u.Fails {
		name += ", failing"
	}
	at := slices.IndexFunc(r.lines, func(l *line) bool { return l.plan == name })
	if at < 0 {
		at = len(r.lines)
		r.lines = append(r.lines, &line{plan: name})
	}
	l := r.lines[at]
	l.users++
	l.requests += u.Requests.Load()
	l.refused += u.Refused.Load()
	l.unavailable += u.Unavailable.Load()
	l.seen += seen
	l.counted += counted
	l.sent += sent
	l.over += over
	l.lost += max(0, seen-counted)
	told, reported := u.Told.Load(), u.Reported.Load()
	l.told += told
	l.charged += charged
	l.reported += reported
	if charged < told || charged > reported {
		t.Errorf("user %s: clients were told of %d units, %d are charged, the upstream's successes cost %d", u.User, told, charged, reported)
	}
	if most := u.Units + allowed*gatewaytest.MaxCost; u.Units > 0 && charged > most {
		t.Errorf("user %s: %d units charged with a limit of %d; the rules allow %d", u.User, charged, u.Units, most)
	}
	switch {
	case counted < seen:
		t.Errorf("user %s: clients saw %d successes, only %d are counted", u.User, seen, counted)
	case counted > sent:
		t.Errorf("user %s: %d are counted, the upstream sent only %d", u.User, counted, sent)
	}
	if over > allowed {
		t.Errorf("user %s: %d counted with a limit of %d; the rules allow %d over it", u.User, counted, u.Limit, allowed)
	}
	if n := u.Refused.Load(); n > 0 && u.Limit == 0 && u.Units == 0 && !u.Crowded {
		t.Errorf("user %s: %d times 429, far below any limit", u.User, n)
	}
	if u.Limit == 0 && u.Units == 0 && !u.Crowded && !u.Fails && seen == 0 {
		t.Errorf("user %s: no success in the whole run", u.User)
	}
}

func (r *report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "plan\tusers\trequests\t429\t503\t2xx seen\tcounted\t2xx sent\tover\tlost\tunits told\tcharged\treported\t")
	for _, l := range r.lines {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.plan, l.users, l.requests,
			l.refused, l.unavailable, l.seen, l.counted, l.sent, l.over, l.lost, l.told, l.charged, l.reported)
	}
	w.Flush()
	return b.String()
}
