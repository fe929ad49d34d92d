package quota

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of administration.
const (
	// MaxAuditEntries is the length of a user's audit log. Older entries are dropped.
	MaxAuditEntries = 100
	// MaxChangeIDs is how many changes of one user can have an ID within ChangeIDLife.
	MaxChangeIDs = 200
	// MaxCountsPerChange is how many endpoints one change can set counts for.
	MaxCountsPerChange = 100
	// ChangeIDLife is how long a store recognises a change by its ID: a day, plus a few
	// seconds for clocks that differ.
	ChangeIDLife = 24*time.Hour + 5*time.Second
)

// An Action is a kind of Change.
type Action string

// The actions.
const (
	// ActionGrant adds Requests to the limit on requests, or Units to the limit on units, of
	// Endpoint in Period, in the running window only. Without a Period it is the headline limit
	// if that has this quantity, and else the first limit of it without an endpoint.
	ActionGrant Action = "grant"
	// ActionReset sets what is used in the running windows of all periods to 0, whatever the
	// plan. Requests in flight stay held, and count when they succeed. Grants stay: they
	// were made for the window, not for what was used in it.
	ActionReset Action = "reset"
	// ActionSetPlan overrides the plan that the token claims with Plan, until Until.
	ActionSetPlan Action = "set_plan"
	// ActionClearPlan ends the override.
	ActionClearPlan Action = "clear_plan"
	// ActionSetAnchor sets the day on which the account's months and years begin, Anchor, in place
	// of that of the plan. It holds from the end of the running windows on.
	ActionSetAnchor Action = "set_anchor"
	// ActionClearAnchor lets the plan decide again.
	ActionClearAnchor Action = "clear_anchor"
	// ActionSetCounts sets what is used of the endpoints in Counts, in the running window of
	// Period, and changes the window's total by the same amount. Other endpoints and other
	// windows stay as they are. Each request counts as one unit, unless CountUnits has what the
	// requests to its endpoint cost.
	ActionSetCounts Action = "set_counts"
)

// A Change is what an administrator does to one user. Fields that its Action does not use
// are zero. The JSON form is that of the audit log.
type Change struct {
	Action Action `json:"action"`

	Requests int64  `json:"requests,omitempty"` // 1 to MaxAmount; 0 if there are Units
	Units    int64  `json:"units,omitempty"`    // likewise
	Endpoint string `json:"endpoint,omitempty"`
	Period   Period `json:"per,omitempty"`

	Plan  string    `json:"plan,omitempty"`
	Until time.Time `json:"until,omitzero"` // zero: no end

	// Anchor is a day of the month, 1 to 31, or a date, see ParseAnchor.
	Anchor string `json:"anchor,omitempty"`

	Counts map[string]int64 `json:"counts,omitempty"` // 1 to MaxCountsPerChange endpoints, 0 to MaxAmount
	// CountUnits are for some of the endpoints in Counts, 0 to MaxAmount; 0 for one whose count
	// is 0.
	CountUnits map[string]int64 `json:"count_units,omitempty"`

	By     string `json:"by,omitempty"`     // who makes it: up to 256 bytes without control characters
	Reason string `json:"reason,omitempty"` // why: up to 1024 bytes without control characters
	// ID makes the change safe to send twice: up to 256 printable ASCII characters; empty: it
	// is not safe. Within ChangeIDLife, the same change with the same ID has no further
	// effect, and a different change of the user with that ID is an ErrIDConflict.
	ID string `json:"id,omitempty"`
}

// Validate returns an ErrInvalidChange that says what is wrong with c, or with the account;
// nil if nothing is. It does not check that the plan and the endpoints are in the
// configuration, which the caller knows.
func (c Change) Validate(account string) error {
	org, user := SplitAccount(account)
	switch {
	case MemberAccount(org, user) != account || !isPlainText(org, 256):
		return invalid("%s", badOrgID)
	case user == "" && org == "" || !isPlainText(user, 256):
		return invalid("%s", badUserID)
	case !isPlainText(c.By, 256):
		return invalid("by must be at most 256 bytes of UTF-8 without control characters")
	case !isPlainText(c.Reason, 1024):
		return invalid("reason must be at most 1024 bytes of UTF-8 without control characters")
	case len(c.ID) > 256 || strings.ContainsFunc(c.ID, func(r rune) bool { return r < ' ' || r > '~' }):
		return invalid("id must be at most 256 printable ASCII characters")
	}
	rest := c // what remains once the fields of the action are cleared
	rest.Action, rest.By, rest.Reason, rest.ID = "", "", "", ""
	switch c.Action {
	case ActionGrant:
		rest.Requests, rest.Units, rest.Endpoint, rest.Period = 0, 0, "", 0
		switch amount, quantity := c.granted(); {
		case c.Requests != 0 && c.Units != 0:
			return invalid("a grant is of requests or of units, not of both")
		case amount < 1 || amount > MaxAmount:
			return invalid("%s must be 1 to %d, got %d", quantity, int64(MaxAmount), amount)
		case c.Endpoint != "" && !IsName(c.Endpoint):
			return invalid("endpoint %.80q is not a name", c.Endpoint)
		case c.Period != 0 && !c.Period.IsPeriod():
			return invalid("per must be " + PeriodNames)
		case c.Period == 0 && c.Endpoint != "":
			return invalid("per must be " + PeriodNames + " if there is an endpoint")
		}
	case ActionReset, ActionClearPlan, ActionClearAnchor:
	case ActionSetAnchor:
		rest.Anchor = ""
		if _, err := ParseAnchor(c.Anchor, time.UTC); err != nil {
			return invalid("%v", err)
		}
	case ActionSetPlan:
		rest.Plan, rest.Until = "", time.Time{}
		switch {
		case !IsName(c.Plan):
			return invalid("plan %.80q is not a name", c.Plan)
		case !c.Until.IsZero() && (c.Until.UnixMilli() < 1 || c.Until.Year() > 9999):
			return invalid("until must be in the years 1970 to 9999")
		}
	case ActionSetCounts:
		rest.Period, rest.Counts, rest.CountUnits = 0, nil, nil
		switch {
		case !c.Period.IsPeriod():
			return invalid("per must be " + PeriodNames)
		case len(c.Counts) < 1 || len(c.Counts) > MaxCountsPerChange:
			return invalid("counts must have 1 to %d endpoints, got %d", MaxCountsPerChange, len(c.Counts))
		}
		for _, endpoint := range slices.Sorted(maps.Keys(c.Counts)) {
			switch n := c.Counts[endpoint]; {
			case !IsName(endpoint):
				return invalid("endpoint %.80q is not a name", endpoint)
			case n < 0 || n > MaxAmount:
				return invalid("the count of %s must be 0 to %d, got %d", endpoint, int64(MaxAmount), n)
			}
		}
		for _, endpoint := range slices.Sorted(maps.Keys(c.CountUnits)) {
			n, units := c.Counts[endpoint], c.CountUnits[endpoint]
			switch _, counted := c.Counts[endpoint]; {
			case !counted:
				return invalid("the units of %.80q need a count of requests as well", endpoint)
			case units < 0 || units > MaxAmount:
				return invalid("the units of %s must be 0 to %d, got %d", endpoint, int64(MaxAmount), units)
			case n == 0 && units > 0:
				return invalid("the units of %s must be 0, as no request was made", endpoint)
			}
		}
	default:
		return invalid("action %.80q is unknown", c.Action)
	}
	if rest.Requests != 0 || rest.Units != 0 || rest.Endpoint != "" || rest.Period != 0 || rest.Plan != "" || rest.Anchor != "" || !rest.Until.IsZero() || len(rest.Counts)+len(rest.CountUnits) > 0 {
		return invalid("a field does not belong to the action %s", c.Action)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidChange, fmt.Sprintf(format, args...))
}

// isPlainText reports whether s is UTF-8 of at most so many bytes, without control
// characters.
func isPlainText(s string, maxBytes int) bool {
	return len(s) <= maxBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// granted is what a grant adds.
func (c Change) granted() (amount int64, q Quantity) {
	if c.Units != 0 {
		return c.Units, Units
	}
	return c.Requests, Requests
}

// Quantity is what a grant adds: Units if it has any.
func (c Change) Quantity() Quantity {
	_, q := c.granted()
	return q
}

// Extra is by how much the units of the requests that ActionSetCounts sets for endpoint exceed
// their number.
func (c Change) Extra(endpoint string) int64 {
	if units, ok := c.CountUnits[endpoint]; ok {
		return units - c.Counts[endpoint]
	}
	return 0
}

// LimitIndex returns the limit that a grant raises, as an index into p's limits: a soft one
// only if there is no hard one. It returns false if p has no such limit. A grant to a member raises
// no shared limit: that is a grant to the pool.
func (c Change) LimitIndex(p *Plan) (int, bool) {
	_, quantity := c.granted()
	if c.Period == 0 && p.headline >= 0 && p.HeadlineQuantity() == quantity && !p.counters[p.headline].Shared {
		return p.headline, true
	}
	found := -1
	for i, l := range p.limits {
		if !p.counters[i].Shared && l.Endpoint == c.Endpoint && l.Quantity == quantity && (l.Period == c.Period || c.Period == 0) &&
			(found < 0 || p.limits[found].Soft && !l.Soft) {
			found = i
		}
	}
	return found, found >= 0
}

// SetsAnchor reports whether c sets an anchor, a, or clears it: a is nil. The day of a time is that
// in loc.
func (c Change) SetsAnchor(loc *time.Location) (a *Anchor, ok bool) {
	switch c.Action {
	case ActionSetAnchor:
		anchor, err := ParseAnchor(c.Anchor, loc)
		return &anchor, err == nil
	case ActionClearAnchor:
		return nil, true
	}
	return nil, false
}

// Fingerprint is equal for changes that have the same effect, whoever makes them and why:
// 22 letters, digits, "-" and "_". Stores keep it beside the ID.
func (c Change) Fingerprint() string {
	c.By, c.Reason, c.ID, c.Until = "", "", "", c.Until.UTC()
	sum := sha256.Sum256(c.Encode())
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Encode returns c as JSON on one line, as stores keep it.
func (c Change) Encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("quota: " + err.Error()) // a checked Change always marshals
	}
	return b
}

// An AuditEntry is one line of a user's audit log: a Change, and when it was made by the
// store's clock, to the millisecond. A grant to the headline limit has that limit's Period.
type AuditEntry struct {
	At time.Time `json:"at"`
	Change
}

// DecodeAuditEntry reads an entry from the time and the text that Change.Encode returned.
func DecodeAuditEntry(at time.Time, text []byte) (AuditEntry, error) {
	e := AuditEntry{At: at}
	err := json.Unmarshal(text, &e.Change)
	return e, err
}
