package bench

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// A round is the result of one run of a load.
type round struct {
	rate                float64 // requests a second
	p50, p90, p99, p999 time.Duration
	late50, late99      time.Duration // how late requests were sent; only at a fixed rate
	cpu                 time.Duration // of the server's process, a request
	redis               time.Duration // of the process of its own Redis, a request; 0: it has none
	own                 time.Duration // of the load itself, a request; only in BenchmarkGenerator
	sent, failed        int           // requests; those that were not answered with 200
}

// setPercentiles sorts the times that requests took and fills in their percentiles.
func (r *round) setPercentiles(took []time.Duration) {
	slices.Sort(took)
	r.p50, r.p90, r.p99, r.p999 = percentile(took, 500), percentile(took, 900), percentile(took, 990), percentile(took, 999)
}

// percentile returns the shortest of the sorted times that at least perMille of a
// thousand of them do not exceed; 0 if there are none.
func percentile(sorted []time.Duration, perMille int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*perMille+999)/1000-1]
}

// A column is one figure of a round.
type column struct {
	name  string
	value func(round) float64
	text  func(float64) string
	some  bool   // only some servers have this figure; of the others it is 0, and not shown
	base  string // the series whose figures are the base of the ratios; empty: that of the table
	// onlyRatio leaves out the figure itself, which another column shows.
	onlyRatio bool
}

func number(v float64) string { return fmt.Sprintf("%.0f", v) }

func ratio(v float64) string { return fmt.Sprintf("%.2f", v) }

// duration formats nanoseconds with three digits.
func duration(v float64) string {
	d, sign := time.Duration(v), ""
	if d < 0 {
		d, sign = -d, "-"
	}
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%s%.3g s", sign, d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%s%.3g ms", sign, float64(d)/1e6)
	}
	return fmt.Sprintf("%s%.3g µs", sign, float64(d)/1e3)
}

var (
	rateColumn   = column{name: "requests/s", value: func(r round) float64 { return r.rate }, text: number}
	p50Column    = column{name: "p50", value: func(r round) float64 { return float64(r.p50) }, text: duration}
	p90Column    = column{name: "p90", value: func(r round) float64 { return float64(r.p90) }, text: duration}
	p99Column    = column{name: "p99", value: func(r round) float64 { return float64(r.p99) }, text: duration}
	p999Column   = column{name: "p99.9", value: func(r round) float64 { return float64(r.p999) }, text: duration}
	late50Column = column{name: "sent late, p50", value: func(r round) float64 { return float64(r.late50) }, text: duration}
	late99Column = column{name: "sent late, p99", value: func(r round) float64 { return float64(r.late99) }, text: duration}
	cpuColumn    = column{name: "CPU/request", value: func(r round) float64 { return float64(r.cpu) }, text: duration}
	tunedColumn  = column{name: "compared with tuned", value: cpuColumn.value, text: ratio, base: tunedName, onlyRatio: true}
	redisColumn  = column{name: "Redis", some: true, value: func(r round) float64 { return float64(r.redis) }, text: duration}
	bothColumn   = column{name: "both", value: func(r round) float64 { return float64(r.cpu + r.redis) }, text: duration}
	failedColumn = column{name: "failed", value: func(r round) float64 { return float64(r.failed) }, text: number}
)

// comparedWith has the ratios of a column compare with another series.
func (c column) comparedWith(base string) column {
	c.base = base
	return c
}

// A series is the rounds of one server, in the same order as those of the others.
type series struct {
	name   string
	rounds []round
}

// ratioTable shows medians and their ratios to base, with the least and the greatest
// ratio. Each ratio compares two servers in the same round, because a machine that others
// use is not the same a minute later. The row of base shows the least and the greatest of
// its own figures.
func ratioTable(first string, columns []column, all []series, base series) string {
	rows := [][]string{append([]string{first}, names(columns)...)}
	for _, s := range all {
		row := []string{s.name}
		for _, c := range columns {
			base := base
			if c.base != "" {
				base = find(all, c.base)
			}
			row = append(row, s.cell(c, base))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// cell is the figure of a column, with its ratio to base.
func (s series) cell(c column, base series) string {
	values := s.values(c)
	cell := c.text(median(values))
	switch {
	case c.some && median(values) == 0:
		return ""
	case s.name == base.name && c.onlyRatio:
		return "1"
	case s.name == base.name:
		return cell + spread(values, c.text)
	case median(base.values(c)) == 0: // there is no ratio to zero
		return cell
	}
	ratios := s.ratios(base, c)
	if c.onlyRatio {
		return ratio(median(ratios)) + spread(ratios, ratio)
	}
	return cell + " = " + ratio(median(ratios)) + spread(ratios, ratio)
}

// sizeTable shows one figure of several servers, measured at several sizes. The servers are the
// columns. Those without the figure are left out.
func sizeTable(first string, c column, sizes []string, all [][]series, base string) string {
	if c.base != "" {
		base = c.base
	}
	rows := [][]string{{first}}
	for _, size := range sizes {
		rows = append(rows, []string{size})
	}
	for at, server := range all[0] {
		if server.cell(c, server) == "" {
			continue
		}
		rows[0] = append(rows[0], server.name)
		for i, servers := range all {
			rows[i+1] = append(rows[i+1], servers[at].cell(c, find(servers, base)))
		}
	}
	return markdown(rows)
}

// differenceTable shows medians with the least and the greatest figure. Its last rows
// show how much more each of the others has than base in the same round.
func differenceTable(first string, columns []column, base series, others ...series) string {
	rows := [][]string{append([]string{first}, names(columns)...)}
	for _, s := range append([]series{base}, others...) {
		row := []string{s.name}
		for _, c := range columns {
			row = append(row, s.cell(c, s))
		}
		rows = append(rows, row)
	}
	for _, s := range others {
		row := []string{s.name + ", more"}
		for _, c := range columns {
			more := s.more(base, c)
			row = append(row, c.text(median(more))+spread(more, c.text))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

func names(columns []column) (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

func (s series) values(c column) []float64 {
	values := make([]float64, len(s.rounds))
	for i, r := range s.rounds {
		values[i] = c.value(r)
	}
	return values
}

// against compares each round with the same round of another series.
func (s series) against(base series, c column, compare func(a, b float64) float64) []float64 {
	values := s.values(c)
	for i, v := range base.values(c) {
		values[i] = compare(values[i], v)
	}
	return values
}

// more is how much more each round has than the same round of another series.
func (s series) more(base series, c column) []float64 {
	return s.against(base, c, func(a, b float64) float64 { return a - b })
}

// ratios compares each round with the same round of another series.
func (s series) ratios(base series, c column) []float64 {
	return s.against(base, c, func(a, b float64) float64 { return a / b })
}

// median returns the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	upper, lower := sorted[len(sorted)/2], sorted[(len(sorted)-1)/2]
	return lower + (upper-lower)/2
}

func spread(values []float64, text func(float64) string) string {
	return fmt.Sprintf(" (%s..%s)", text(slices.Min(values)), text(slices.Max(values)))
}

// show prints a table for copying, with the machine above the first one.
func show(t testing.TB, table string) {
	showMachine.Do(func() { fmt.Printf("\n%s\n", machine()) })
	fmt.Printf("\n%s\n", table)
}

var showMachine sync.Once

// markdown lays out a table. The first row is its head.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			text.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		text.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				text.WriteString("|" + strings.Repeat("-", w+2))
			}
			text.WriteString("|\n")
		}
	}
	return text.String()
}
