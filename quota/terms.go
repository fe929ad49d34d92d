package quota

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Terms are what a store keeps of an account beside its counts, and by which it lays them out: the
// days on which its months and years begin, and what was carried into its windows. The zero value is
// the calendar, with nothing carried. Terms are values: methods that change something return a copy.
//
// A store keeps them as the text of String, and changes them by comparing and setting it.
type Terms struct {
	months, years anchorSpans
	fixed         *Anchor // an administrator has set it
	given         *Anchor // of a pool: a member's token was the first to claim it
	firstUse      *Anchor // see FirstUseAnchor
	// provisional: firstUse is that of a request that was admitted; none is counted yet.
	provisional bool
	// changed is when the account was last given another anchor than it had, see anchorRest.
	changed time.Time
	// carried has what is known of limits that carry, by carryKey.
	carried map[string]carry
}

// IsZero reports whether nothing is kept.
func (t Terms) IsZero() bool { return t.String() == "" }

// WindowAt returns the account's window of a period that contains at.
func (t Terms) WindowAt(c *Calendar, period Period, at time.Time) Window {
	spans := t.spans(period)
	if len(spans) == 0 {
		return c.WindowAt(period, at)
	}
	return spans.windowAt(period, at.In(c.loc))
}

// WindowsAt returns the account's windows that contain at, one for each of periods, in their order.
func (t Terms) WindowsAt(c *Calendar, periods []Period, at time.Time) []Window {
	windows := make([]Window, len(periods))
	for i, period := range periods {
		windows[i] = t.WindowAt(c, period, at)
	}
	return windows
}

// WindowBefore returns the account's window before that which contains at.
func (t Terms) WindowBefore(c *Calendar, period Period, at time.Time) Window {
	return t.WindowAt(c, period, t.WindowAt(c, period, at).Start.Add(-time.Second))
}

func (t Terms) spans(period Period) anchorSpans {
	switch period {
	case Month:
		return t.months
	case Year:
		return t.years
	}
	return nil
}

// Activity says what there is of an account when its terms are looked at.
type Activity struct {
	Windows  []string // the IDs of those in which something is counted or granted
	Held     bool     // a request is held
	Counting bool     // a request has just been counted
	Reading  bool     // it is only read: until the first request, a FirstUseAnchor is the calendar
}

func (a Activity) isNone() bool { return len(a.Windows) == 0 && !a.Held }

// anchorRest is how long an anchor that has replaced another one is not replaced itself, other than by
// an administrator: two tokens of a user that are in use together, or two configurations while the
// gateways reload, would write the terms of the account with every request.
const anchorRest = time.Minute

// Follow returns the terms as they are after the account was seen at now under the plan p, with the
// anchor in its token, see PlanChoice; without a token, unchanged. A new anchor holds from the end of
// the running month, and year, on; at once if nothing is counted or held. To find out what is costs a
// store a call, so Follows goes first.
//
// A pool keeps the first anchor that it was given, whatever the tokens of other members say: one that
// a token claims, or the day of the first counted request under a plan with FirstUseAnchor.
func (t Terms) Follow(p *Plan, plans PlanChoice, c *Calendar, now time.Time, activity Activity) Terms {
	if plans.Anchor == nil || t.rests(now) {
		return t
	}
	now = now.In(c.loc)
	if t.provisional && len(activity.Windows) > 0 {
		t.provisional = false
	}
	if p.isPool {
		t.given = t.givenBy(p, plans)
	}
	if t.MissesFirstUse(p) {
		today := AnchorOn(now)
		switch isNew := activity.isNone(); {
		case isNew && activity.Reading:
			t.firstUse, t.provisional, t.months, t.years = nil, false, nil, nil
		case isNew:
			t.firstUse, t.provisional = &today, true
		case t.firstUse == nil && activity.Counting:
			t.firstUse = &today
		}
	}
	after := t.withAnchor(t.wanted(p, plans), c, now, activity)
	if len(t.months)+len(t.years) > 0 && !t.provisional && !(after.months.equal(t.months) && after.years.equal(t.years)) {
		after.changed = now
	}
	return after
}

// Follows reports whether Follow would change nothing, whatever the activity.
func (t Terms) Follows(p *Plan, plans PlanChoice, now time.Time) bool {
	if plans.Anchor == nil || t.rests(now) {
		return true
	}
	if t.MissesFirstUse(p) || p.isPool && t.given != t.givenBy(p, plans) {
		return false
	}
	a := t.wanted(p, plans)
	return t.months.last() == a.dayAlone() && t.years.last() == a
}

// rests reports whether the anchor was replaced less than anchorRest ago.
func (t Terms) rests(now time.Time) bool {
	return !t.changed.IsZero() && t.changed.Add(anchorRest).After(now)
}

// MissesFirstUse reports whether the day of the first counted request will be the anchor, and is not
// known yet.
func (t Terms) MissesFirstUse(p *Plan) bool {
	return p.anchor == FirstUseAnchor && t.fixed == nil && t.given == nil && !t.knowsFirstUse()
}

func (t Terms) knowsFirstUse() bool { return t.firstUse != nil && !t.provisional }

// givenBy is the anchor that a pool has been given by a token, after it was seen under the plan p. It
// matters as long as some plan has ClaimAnchor.
func (t Terms) givenBy(p *Plan, plans PlanChoice) *Anchor {
	switch {
	case t.given != nil && plans.anyAnchor(p, ClaimAnchor):
		return t.given
	case t.given == nil && p.anchor == ClaimAnchor && !plans.NoAnchor && t.fixed == nil && !(t.knowsFirstUse() && plans.anyAnchor(p, FirstUseAnchor)):
		return plans.Anchor
	}
	return nil
}

// wanted is the anchor that the account should have.
func (t Terms) wanted(p *Plan, plans PlanChoice) Anchor {
	switch {
	case t.fixed != nil:
		return *t.fixed
	case t.given != nil:
		return *t.given
	case t.firstUse != nil && (p.anchor == FirstUseAnchor || p.isPool && !t.provisional && plans.anyAnchor(p, FirstUseAnchor)):
		return *t.firstUse
	case p.isPool && (plans.anyAnchor(p, ClaimAnchor) || plans.anyAnchor(p, FirstUseAnchor)):
		return t.Anchor() // this member has nothing to say about it
	case p.anchor == ClaimAnchor:
		return *plans.Anchor
	}
	return Anchor{}
}

func (t Terms) withAnchor(a Anchor, c *Calendar, now time.Time, activity Activity) Terms {
	atOnce := t
	atOnce.months, atOnce.years = nil, nil
	if day := a.dayAlone(); day != (Anchor{}) {
		atOnce.months = anchorSpans{{anchor: day}}
	}
	if a != (Anchor{}) {
		atOnce.years = anchorSpans{{anchor: a}}
	}
	// In an outage, a new account may have been counted by this anchor already.
	wasCounted := len(t.months)+len(t.years) == 0 && atOnce.months != nil && !activity.Held &&
		slices.Contains(activity.Windows, atOnce.WindowAt(c, Month, now).ID) && !slices.Contains(activity.Windows, c.WindowAt(Month, now).ID)
	if activity.isNone() || wasCounted {
		return atOnce
	}
	t.months = t.months.change(Month, a.dayAlone(), now.In(c.loc))
	t.years = t.years.change(Year, a, now.In(c.loc))
	return t
}

// SetAnchor returns the terms after an administrator has set the anchor, which holds as in Follow.
// nil clears what was set, and what a token has given a pool: from the next request with a token on,
// the plan decides again.
func (t Terms) SetAnchor(a *Anchor, c *Calendar, now time.Time, activity Activity) Terms {
	t.changed = time.Time{}
	if t.fixed = a; a == nil {
		t.given = nil
		return t
	}
	return t.withAnchor(*a, c, now, activity)
}

// MovesRunning reports whether another month or year runs at now by after: an anchor has taken effect at
// once. A store MUST NOT set such terms if a request was held or counted since it looked for the
// Activity, or two whole quotas would begin within one period's length.
func (t Terms) MovesRunning(after Terms, c *Calendar, now time.Time) bool {
	for _, period := range []Period{Month, Year} {
		a, b := t.WindowAt(c, period, now), after.WindowAt(c, period, now)
		if a.ID != b.ID || !a.End.Equal(b.End) {
			return true
		}
	}
	return false
}

// FixedAnchor is the anchor that an administrator has set; false: none.
func (t Terms) FixedAnchor() (a Anchor, ok bool) {
	if t.fixed == nil {
		return a, false
	}
	return *t.fixed, true
}

// Anchor is the one that holds now, or from the end of the running windows on.
func (t Terms) Anchor() Anchor { return t.years.last() }

// AnchorFrom is the time from which on the Anchor holds for months, in the calendar's time zone; zero:
// always.
func (t Terms) AnchorFrom(c *Calendar) (from time.Time) {
	if n := len(t.months); n > 0 {
		from = t.months[n-1].from
	}
	if from.IsZero() {
		return from
	}
	return from.In(c.Location())
}

// Prune returns the terms without what concerns only windows that ended before a time.
func (t Terms) Prune(c *Calendar, now time.Time, keep time.Duration) Terms {
	t.months, t.years = t.months.prune(t.pruneBefore(c, Month, now, keep)), t.years.prune(t.pruneBefore(c, Year, now, keep))
	if !t.rests(now) {
		t.changed = time.Time{}
	}
	t.carried = t.pruneCarried(c, now, keep)
	return t
}

// pruneBefore is the time before which no window of a period matters any more: neither the running
// one, nor that before it, from which something is carried, nor one that is kept.
func (t Terms) pruneBefore(c *Calendar, period Period, now time.Time, keep time.Duration) time.Time {
	if start := t.WindowBefore(c, period, now).Start; start.Before(now.Add(-keep)) {
		return start
	}
	return now.Add(-keep)
}

// prune drops the spans that ended before a time.
func (s anchorSpans) prune(before time.Time) anchorSpans {
	for len(s) > 1 && s[1].from.Before(before) {
		s = slices.Clone(s[1:])
		s[0].from = time.Time{}
	}
	return s.normal()
}

// String returns the terms as one line, empty for the zero value: words that are separated by blanks.
//
//	m=ANCHOR,SECONDS:ANCHOR,...   months: an anchor, and from a time on another one
//	y=ANCHOR,SECONDS:ANCHOR,...   years
//	f=ANCHOR                      an administrator has set it
//	g=ANCHOR                      a member's token has given it to the pool
//	u=ANCHOR or u=ANCHOR?         that of the first use; ?: nothing is counted yet
//	t=SECONDS                     when another anchor was last replaced
//	c=WINDOW/ENDPOINT:N,AMOUNT,CARRY   of a limit on requests that carries, see carry
//	c=WINDOW/ENDPOINT/u:...       of one on units
func (t Terms) String() string {
	var words []string
	for _, spans := range []struct {
		letter string
		anchorSpans
	}{{"m=", t.months}, {"y=", t.years}} {
		var list []string
		for i, span := range spans.anchorSpans {
			text := span.anchor.String()
			if i > 0 {
				text = strconv.FormatInt(span.from.Unix(), 10) + ":" + text
			}
			list = append(list, text)
		}
		if len(list) > 0 {
			words = append(words, spans.letter+strings.Join(list, ","))
		}
	}
	if t.fixed != nil {
		words = append(words, "f="+t.fixed.String())
	}
	if t.given != nil {
		words = append(words, "g="+t.given.String())
	}
	if t.firstUse != nil {
		mark := ""
		if t.provisional {
			mark = "?"
		}
		words = append(words, "u="+t.firstUse.String()+mark)
	}
	if !t.changed.IsZero() {
		words = append(words, "t="+strconv.FormatInt(t.changed.Unix(), 10))
	}
	for _, key := range slices.Sorted(maps.Keys(t.carried)) {
		words = append(words, "c="+key+":"+t.carried[key].String())
	}
	return strings.Join(words, " ")
}

// ParseTerms reads what String returns. Words that it does not know are an error: a later release
// has written them.
func ParseTerms(text string) (t Terms, err error) {
	for word := range strings.FieldsSeq(text) {
		kind, value, _ := strings.Cut(word, "=")
		ok := false
		switch kind {
		case "m":
			t.months, ok = parseSpans(value)
		case "y":
			t.years, ok = parseSpans(value)
		case "f":
			t.fixed, ok = parseAnchorPointer(value)
		case "g":
			t.given, ok = parseAnchorPointer(value)
		case "t":
			var seconds int64
			seconds, err = strconv.ParseInt(value, 10, 64)
			t.changed, ok = time.Unix(seconds, 0), err == nil
		case "u":
			value, t.provisional = strings.CutSuffix(value, "?")
			t.firstUse, ok = parseAnchorPointer(value)
		case "c":
			key, numbers, _ := strings.Cut(value, ":")
			var of carry
			if of, ok = parseCarry(numbers); ok {
				if t.carried == nil {
					t.carried = map[string]carry{}
				}
				t.carried[key] = of
			}
		}
		if !ok {
			return Terms{}, fmt.Errorf("%w: the terms %.200q", ErrUserData, text)
		}
	}
	return t, nil
}

func parseAnchorPointer(text string) (*Anchor, bool) {
	a, ok := parseAnchorText(text)
	return &a, ok
}

func parseSpans(text string) (spans anchorSpans, ok bool) {
	for i, word := range strings.Split(text, ",") {
		from, anchor, found := strings.Cut(word, ":")
		if !found {
			from, anchor = "", word
		}
		span := anchorSpan{}
		if (i > 0) != found {
			return nil, false
		}
		if found {
			seconds, err := strconv.ParseInt(from, 10, 64)
			if err != nil || len(spans) > 1 && seconds <= spans[i-1].from.Unix() {
				return nil, false
			}
			span.from = time.Unix(seconds, 0)
		}
		if span.anchor, ok = parseAnchorText(anchor); !ok {
			return nil, false
		}
		spans = append(spans, span)
	}
	return spans, true
}
