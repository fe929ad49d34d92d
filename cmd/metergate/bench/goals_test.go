package bench

import (
	"fmt"
	"slices"
	"testing"
)

// A goal is a bound for the median of a figure. The benchmark that measures the figure reports it,
// and after all benchmarks a table shows the goals that were measured, so that nobody copies numbers.
type goal struct {
	name string
	most float64
	text func(float64) string
	here string // empty: not measured
}

var (
	redisGoal    = &goal{name: "processor time of a metered request on Redis, compared with the bare proxy", most: 1.25, text: ratio}
	scriptGoal   = &goal{name: "Redis' own processor time for it, compared with the minimal pair of scripts", most: 28.0 / 24, text: ratio}
	embeddedGoal = &goal{name: "processor time of a metered request on the embedded store, compared with the bare proxy", most: 1.4, text: ratio}
	addedGoal    = &goal{name: "added median latency at 1,000 requests/s, beyond two PINGs of Redis", most: 0.1e6, text: duration}
	memoryGoal   = &goal{name: "memory for 10,000 slow requests in flight", most: 500 << 20, text: mebibytes}
)

// measured records the rounds of a goal's figure, and a remark about them or an empty one. If the
// benchmark failed, for example because many requests did, its figures mean nothing.
func (g *goal) measured(t testing.TB, values []float64, remark string) {
	if t.Failed() {
		return
	}
	verdict := "not reached"
	if median(values) <= g.most {
		verdict = "reached"
	}
	g.here = fmt.Sprintf("%s%s%s: %s", g.text(median(values)), spread(values, g.text), remark, verdict)
}

// goalTable is a table of the goals that were measured; empty if there are none.
func goalTable(goals ...*goal) string {
	rows := [][]string{{"goal", "here"}}
	for _, g := range goals {
		if g.here != "" {
			rows = append(rows, []string{fmt.Sprintf("%s: at most %s", g.name, g.text(g.most)), g.here})
		}
	}
	if len(rows) == 1 {
		return ""
	}
	return markdown(rows)
}

// find returns the series of a server.
func find(all []series, name string) series {
	return all[slices.IndexFunc(all, func(s series) bool { return s.name == name })]
}
