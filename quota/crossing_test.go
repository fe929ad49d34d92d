package quota

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCrossedThreshold(t *testing.T) {
	at := []int{50, 80, 100, 150}
	for _, c := range []struct {
		before, after, allowance int64
		at                       []int
		want                     int
	}{
		{0, 0, 10, at, 0},
		{0, 4, 10, at, 0},
		{4, 5, 10, at, 50},
		{5, 5, 10, at, 0}, // it was there already
		{5, 7, 10, at, 0},
		{7, 8, 10, at, 80},
		{4, 8, 10, at, 80}, // the higher one alone
		{0, 10, 10, at, 100},
		{9, 10, 10, at, 100},
		{10, 14, 10, at, 0},
		{14, 15, 10, at, 150},
		{0, 1000, 10, at, 150},
		{8, 4, 10, at, 0}, // taken down
		// 80 percent of 3 is more than 2.
		{1, 2, 3, []int{66, 67, 80}, 66},
		{2, 3, 3, []int{66, 67, 80}, 80},
		{0, 1, 1, at, 100},
		{0, 1, 2, at, 50},
		// What is below one percent.
		{0, 9, 1000, []int{1}, 0},
		{9, 10, 1000, []int{1}, 1},
		// In any order; none.
		{0, 9, 10, []int{80, 50}, 80},
		{0, 9, 10, nil, 0},
		// A limit of 0 has no percentage.
		{0, 1, 0, at, 0},
		{5, 6, 0, at, 0},
		// The largest numbers.
		{0, MaxAmount, 3 * MaxAmount, []int{33, 34}, 33},
		{0, 3*MaxAmount - 1, 3 * MaxAmount, []int{99, 100}, 99},
		{3*MaxAmount - 1, 3 * MaxAmount, 3 * MaxAmount, []int{100, MaxThreshold}, 100},
		{0, 10 * MaxAmount, MaxAmount, []int{MaxThreshold}, MaxThreshold},
		{0, 10*MaxAmount - 1, MaxAmount, []int{MaxThreshold}, 0},
	} {
		if got := CrossedThreshold(c.before, c.after, c.allowance, c.at); got != c.want {
			t.Errorf("from %d to %d of %d at %v: %d%%, want %d%%", c.before, c.after, c.allowance, c.at, got, c.want)
		}
	}
}

// However a count grows, each threshold that it reaches is crossed by one step, and of those that a step
// crosses the highest is returned.
func TestStepsCrossEachThresholdOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		allowance := rapid.Int64Range(1, 3*MaxAmount).Draw(t, "allowance")
		at := rapid.SliceOfNDistinct(rapid.IntRange(1, MaxThreshold), 1, 5, rapid.ID).Draw(t, "at")
		slices.Sort(at)
		isReached := func(count int64, threshold int) bool {
			return float64(count)/float64(allowance) >= float64(threshold)/100
		}
		before, highest := int64(0), 0
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			// Steps that end exactly at a threshold, rounded up and down, and others.
			target := allowance / 100 * int64(rapid.SampledFrom(at).Draw(t, "threshold"))
			after := max(before, rapid.SampledFrom([]int64{target - 1, target, target + 1, target + 100, before + allowance/7}).Draw(t, "after"))
			crossed := CrossedThreshold(before, after, allowance, at)
			if crossed != 0 && crossed <= highest {
				t.Fatalf("from %d to %d of %d, %d%% is crossed after %d%%", before, after, allowance, crossed, highest)
			}
			highest = max(highest, crossed)
			for _, threshold := range at {
				// The floating point numbers may be wrong at the threshold itself.
				if threshold > highest && isReached(after-1, threshold) || threshold == highest && !isReached(after+1, threshold) {
					t.Fatalf("at %d of %d, the highest crossed is %d%%, of %v", after, allowance, highest, at)
				}
			}
			before = after
		}
	})
}

func TestCrossingID(t *testing.T) {
	// It must not change with a release: gateways of two releases would notify twice.
	const known = "msg_829ddfbb0e0c8024d066778757a96c2ad6c5fb77"
	if got := CrossingID("u-1", "report-month", "2026-11", 80, 1000, 0); got != known {
		t.Errorf("the ID is %s, want %s", got, known)
	}
	isID := regexp.MustCompile(`^msg_[0-9a-f]{40}$`)
	ids := map[string]bool{}
	accounts := []string{"u", "u2", MemberAccount("acme", "u"), PoolAccount("acme"), strings.Repeat("ü", 128)}
	n := 0
	for _, account := range accounts {
		for _, limit := range []string{"month", "report-month", "shared-month", "month-units", "month-soft"} {
			for _, window := range []string{"2026-11", "2026-12", "month-2026-11-15", "ever"} {
				for _, threshold := range []int{1, 8, 80, 100} {
					for _, allowance := range []int64{1, 10, 100} {
						for _, rearmed := range []int64{0, 1, 10, 100} {
							id := CrossingID(account, limit, window, threshold, allowance, rearmed)
							if !isID.MatchString(id) {
								t.Fatalf("the ID is %q", id)
							}
							ids[id] = true
							n++
						}
					}
				}
			}
		}
	}
	if len(ids) != n {
		t.Errorf("%d crossings have %d IDs", n, len(ids))
	}
	if CrossingID("u", "month", "2026-11", 80, 10, 2) != CrossingID("u", "month", "2026-11", 80, 10, 2) {
		t.Error("the same crossing has two IDs")
	}
}

func TestCrossingPercent(t *testing.T) {
	for _, c := range []struct{ used, allowance, want int64 }{
		{8, 10, 80}, {2, 3, 66}, {3, 3, 100}, {30, 3, 1000}, {0, 3, 0}, {4 * MaxAmount, 3 * MaxAmount, 133}, {5, 0, 500},
	} {
		if got := (Crossing{Used: c.used, Allowance: c.allowance}).Percent(); got != c.want {
			t.Errorf("%d of %d are %d%%, want %d%%", c.used, c.allowance, got, c.want)
		}
	}
}

func TestNotifyAt(t *testing.T) {
	newPlan := func(at ...int) (*Plan, error) {
		return NewPlan(PlanOptions{Name: "p", WarnAt: 80, NotifyAt: at, Limits: []Limit{{Amount: 5, Period: Month}, {Amount: 9, Period: Month, Shared: true}}})
	}
	given := []int{100, 80, 100, 1, MaxThreshold}
	p, err := newPlan(given...)
	if err != nil {
		t.Fatal(err)
	}
	want := []int{1, 80, 100, MaxThreshold}
	for _, same := range []*Plan{p, p.ForScope(UserScope), p.ForScope(PoolScope), p.ForScope(MemberScope), p.ForPeriod(Month)} {
		if !slices.Equal(same.NotifyAt(), want) {
			t.Errorf("the thresholds are %v, want %v", same.NotifyAt(), want)
		}
	}
	if !slices.Equal(given, []int{100, 80, 100, 1, MaxThreshold}) {
		t.Errorf("the options were changed: %v", given)
	}
	for _, wrong := range []int{0, -1, MaxThreshold + 1} {
		if _, err := newPlan(80, wrong); err == nil || !strings.Contains(err.Error(), "1 to 1000 percent, got") {
			t.Errorf("a threshold of %d: error %v", wrong, err)
		}
	}
	none, err := newPlan()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		choice PlanChoice
		want   bool
	}{
		{PlanChoice{}, false},
		{PlanChoice{ByName: map[string]*Plan{"p": p}}, false}, // the token's plan is not known
		{none.OnlyChoice(), false},
		{p.OnlyChoice(), true},
		{PlanChoice{Claimed: none, ByName: map[string]*Plan{"none": none}}, false},
		{PlanChoice{Claimed: none, ByName: map[string]*Plan{"none": none, "p": p}}, true},
	} {
		if got := c.choice.Notifies(); got != c.want {
			t.Errorf("%+v notifies: %v, want %v", c.choice, got, c.want)
		}
	}
}
