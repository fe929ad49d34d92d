package quotatest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// testTermsModel makes random calls under a plan with anchors and a limit that carries, lets time go
// on by days, and compares each result with a few lines of arithmetic: what was admitted in a window
// is counted there, the windows follow one another, and what is carried is worked out once.
func testTermsModel(t *testing.T, h *harness) {
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		mode := rapid.SampledFrom([]quota.AnchorMode{quota.CalendarAnchor, quota.ClaimAnchor, quota.FirstUseAnchor}).Draw(t, "mode")
		limit := quota.Limit{Amount: rapid.Int64Range(1, 6).Draw(t, "amount"), Period: quota.Month, Carry: rapid.SampledFrom([]int64{1, 2, quota.MaxAmount}).Draw(t, "carry")}
		m := &termsModel{h: h, user: fmt.Sprint("terms-", run), limit: limit, plan: NewAnchoredPlan("paid", mode, limit),
			used: map[string]int64{}, allowed: map[string]int64{}, carried: map[string]int64{}}
		for range rapid.IntRange(5, 25).Draw(t, "steps") {
			plans := withTerms(m.plan, rapid.SampledFrom([]int{1, 1, 15, 31}).Draw(t, "day"))
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				hours := time.Duration(rapid.IntRange(1, 40*24).Draw(t, "hours")) * time.Hour
				if h.clock.Now().Add(hours).Sub(m.counted) < keep/2 || m.counted.IsZero() { // else it is a new user again
					h.clock.Advance(hours)
				}
			case 2:
				m.release(t, m.reserve(t, plans))
			case 3:
				m.grant(t, plans)
			default:
				m.commit(t, m.reserve(t, plans))
			}
		}
		m.checkScan(t)
	})
}

// A termsModel has what must be true of one user, by window.
type termsModel struct {
	h       *harness
	user    string
	limit   quota.Limit
	plan    *quota.Plan
	last    quota.Window // the one in which a request was last made
	counted time.Time    // when a request was last counted
	// What was used, what is allowed in all, and what of that was carried.
	used, allowed, carried map[string]int64
}

// enter checks the window of a snapshot that a call has returned, and notes what is allowed in it.
func (m *termsModel) enter(t *rapid.T, s quota.Snapshot) quota.Window {
	c := s.Limits[0]
	w := c.Window
	now := m.h.clock.Now()
	if !w.Contains(now) || w.End.Sub(w.Start) > 31*24*time.Hour+time.Hour {
		t.Fatalf("the window is %v to %v at %v", w.Start, w.End, now)
	}
	if w.ID == m.last.ID && !w.End.Equal(m.last.End) || w.ID != m.last.ID && w.Start.Before(m.last.End) {
		t.Fatalf("the window %v to %v comes after %v to %v", w.Start, w.End, m.last.Start, m.last.End)
	}
	if _, known := m.allowed[w.ID]; !known {
		// With nothing used for a whole window, all of its part could be carried.
		carried := int64(0)
		if m.last.ID != "" {
			amount := m.limit.AllowedIn(s.Terms.WindowBefore(quota.NewCalendar(nil), quota.Month, now))
			carried = min(amount, m.limit.Carry)
			if m.last.End.Equal(w.Start) {
				carried = max(0, min(m.allowed[m.last.ID]-m.used[m.last.ID], carried))
			}
		}
		m.carried[w.ID], m.allowed[w.ID] = carried, m.limit.AllowedIn(w)+carried
	}
	if c.Carried != m.carried[w.ID] || s.Allowance(0) != m.allowed[w.ID] {
		t.Fatalf("in %s %d of %d were carried, want %d of %d; terms %q", w.ID, c.Carried, s.Allowance(0), m.carried[w.ID], m.allowed[w.ID], s.Terms)
	}
	m.last = w
	return w
}

// reserve makes a request, which must be admitted if there is room; nil: it was refused.
func (m *termsModel) reserve(t *rapid.T, plans quota.PlanChoice) *quota.Reservation {
	d, err := m.h.store.Reserve(context.Background(), requestWith(plans, m.user))
	if err != nil {
		t.Fatal(err)
	}
	if d.Snapshot.Terms.Anchor() != (quota.Anchor{}) && m.plan.Anchor() == quota.CalendarAnchor {
		t.Fatalf("the terms are %q", d.Snapshot.Terms)
	}
	// A first use has its window from the first counted request on.
	if m.last.ID != "" && m.used[m.last.ID] == 0 && len(m.used) == 0 {
		m.last = quota.Window{}
		m.allowed, m.carried = map[string]int64{}, map[string]int64{}
	}
	w := m.enter(t, d.Snapshot)
	if want := m.used[w.ID] < m.allowed[w.ID]; d.Admitted != want || d.Snapshot.Limits[0].Used != m.used[w.ID] {
		t.Fatalf("in %s admitted %v at %s, want %v with %d of %d used", w.ID, d.Admitted, headline(d.Snapshot), want, m.used[w.ID], m.allowed[w.ID])
	}
	if !d.Admitted {
		return nil
	}
	return &d.Reservation
}

func (m *termsModel) commit(t *rapid.T, r *quota.Reservation) {
	if r == nil {
		return
	}
	s, err := m.h.store.Commit(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	m.used[m.last.ID]++
	m.counted = m.h.clock.Now()
	if got := s.Limits[0]; got.Used != m.used[m.last.ID] || got.Window.ID != m.last.ID {
		t.Fatalf("after a count %s, want %d used in %s", headline(*s), m.used[m.last.ID], m.last.ID)
	}
}

func (m *termsModel) release(t *rapid.T, r *quota.Reservation) {
	if r == nil {
		return
	}
	if _, err := m.h.store.Release(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

// grant adds one request in the running window of a user who was counted.
func (m *termsModel) grant(t *rapid.T, plans quota.PlanChoice) {
	if len(m.used) == 0 || !m.last.Contains(m.h.clock.Now()) {
		return
	}
	plans.Anchor = nil
	s, err := m.h.store.ApplyChange(context.Background(), m.user, plans, quota.Change{Action: quota.ActionGrant, Requests: 1})
	if err != nil {
		t.Fatal(err)
	}
	m.allowed[m.last.ID]++
	if s.Allowance(0) != m.allowed[m.last.ID] {
		t.Fatalf("after a grant %s, want %d in all", headline(s), m.allowed[m.last.ID])
	}
}
