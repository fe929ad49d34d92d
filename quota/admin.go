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

// Bounds of what an administrator does.
const (
	// MaxAuditEntries is how many entries a user's audit list has: the newest ones.
	MaxAuditEntries = 100
	// MaxChangeIDs is how many changes of one user can carry an ID within ChangeIDLife.
	MaxChangeIDs = 200
	// MaxCountsPerChange is how many endpoints one change can set.
	MaxCountsPerChange = 100
	// ChangeIDLife is how long a store knows a change by its ID: a day, and some
	// seconds for clocks that do not run alike.
	ChangeIDLife = 24*time.Hour + 5*time.Second
)

// An Action is a kind of Change.
type Action string

// The actions of an administrator.
const (
	// ActionGrant adds Requests to the limit on Endpoint for each Per, in the running
	// window only. Without a Per it is the headline limit.
	ActionGrant Action = "grant"
	// ActionReset sets what is used in the running windows of all kinds to 0, whatever
	// the plan. Requests in flight stay held, and count when they succeed. Grants stay:
	// they were given for the window, and not for what was used in it.
	ActionReset Action = "reset"
	// ActionSetPlan chooses Plan for the user, until Until, whatever the token says.
	ActionSetPlan Action = "set_plan"
	// ActionClearPlan ends that.
	ActionClearPlan Action = "clear_plan"
	// ActionSetCounts sets what is used of the endpoints in Counts in the running
	// window of kind Per, and changes the window's total by as much. Other endpoints
	// and other windows stay as they are.
	ActionSetCounts Action = "set_counts"
)

// A Change is what an administrator does to one user. Fields that do not belong to its
// Action are zero. It is also how the audit list remembers it.
type Change struct {
	Action Action `json:"action"`

	Requests int64  `json:"requests,omitempty"` // 1 to MaxRequests
	Endpoint string `json:"endpoint,omitempty"`
	Period   Period `json:"per,omitempty"`

	Plan  string    `json:"plan,omitempty"`
	Until time.Time `json:"until,omitzero"` // zero: no end

	Counts map[string]int64 `json:"counts,omitempty"` // 1 to MaxCounts endpoints, 0 to MaxRequests

	By     string `json:"by,omitempty"`     // who does it: up to 256 bytes without control characters
	Reason string `json:"reason,omitempty"` // why: up to 1024 bytes without control characters
	// ID makes the change safe to send twice, 1 to 256 printable ASCII characters; empty:
	// it is not. Within ChangeIDLife a change of the same user with the same ID changes
	// nothing more, and is an error when it is another change.
	ID string `json:"id,omitempty"`
}

// Validate says what is wrong with c, or with the user's id: an ErrInvalidChange. A plan or an
// endpoint that is not in the configuration is not: who makes the change knows which
// there are.
func (c Change) Validate(user string) error {
	switch {
	case user == "" || !isPlainText(user, 256):
		return invalid("a user's id must be 1 to 256 bytes of UTF-8 without control characters")
	case !isPlainText(c.By, 256):
		return invalid("by must be at most 256 bytes of UTF-8 without control characters")
	case !isPlainText(c.Reason, 1024):
		return invalid("reason must be at most 1024 bytes of UTF-8 without control characters")
	case len(c.ID) > 256 || strings.ContainsFunc(c.ID, func(r rune) bool { return r < ' ' || r > '~' }):
		return invalid("id must be at most 256 printable ASCII characters")
	}
	rest := c // what is left when the fields of the action are taken away
	rest.Action, rest.By, rest.Reason, rest.ID = "", "", "", ""
	switch c.Action {
	case ActionGrant:
		rest.Requests, rest.Endpoint, rest.Period = 0, "", 0
		switch {
		case c.Requests < 1 || c.Requests > MaxRequests:
			return invalid("requests must be 1 to %d, got %d", int64(MaxRequests), c.Requests)
		case c.Endpoint != "" && !isName(c.Endpoint):
			return invalid("endpoint %.80q is not a name", c.Endpoint)
		case c.Period > Year, c.Period == 0 && c.Endpoint != "":
			return invalid("per must be minute, hour, day, week, month or year")
		}
	case ActionReset, ActionClearPlan:
	case ActionSetPlan:
		rest.Plan, rest.Until = "", time.Time{}
		switch {
		case !isName(c.Plan):
			return invalid("plan %.80q is not a name", c.Plan)
		case !c.Until.IsZero() && (c.Until.UnixMilli() < 1 || c.Until.Year() > 9999):
			return invalid("until must be in the years 1970 to 9999")
		}
	case ActionSetCounts:
		rest.Period, rest.Counts = 0, nil
		switch {
		case c.Period < Minute || c.Period > Year:
			return invalid("per must be minute, hour, day, week, month or year")
		case len(c.Counts) < 1 || len(c.Counts) > MaxCountsPerChange:
			return invalid("counts must have 1 to %d endpoints, got %d", MaxCountsPerChange, len(c.Counts))
		}
		for _, endpoint := range slices.Sorted(maps.Keys(c.Counts)) {
			switch n := c.Counts[endpoint]; {
			case !isName(endpoint):
				return invalid("endpoint %.80q is not a name", endpoint)
			case n < 0 || n > MaxRequests:
				return invalid("the count of %s must be 0 to %d, got %d", endpoint, int64(MaxRequests), n)
			}
		}
	default:
		return invalid("action %.80q is unknown", c.Action)
	}
	if rest.Requests != 0 || rest.Endpoint != "" || rest.Period != 0 || rest.Plan != "" || !rest.Until.IsZero() || len(rest.Counts) > 0 {
		return invalid("a field does not belong to the action %s", c.Action)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidChange, fmt.Sprintf(format, args...))
}

// isName reports whether s can be the name of a plan or an endpoint, see package config.
func isName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func isPlainText(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// LimitIndex is the limit that a grant raises, as an index into p's limits. False: p has
// no such limit.
func (c Change) LimitIndex(p *Plan) (int, bool) {
	if c.Period == 0 {
		return p.Headline()
	}
	i := slices.IndexFunc(p.limits, func(l Limit) bool { return l.Period == c.Period && l.Endpoint == c.Endpoint })
	return i, i >= 0
}

// Fingerprint is the same for changes that do the same, whoever makes them and why: 22
// letters, digits, "-" and "_".
func (c Change) Fingerprint() string {
	c.By, c.Reason, c.ID, c.Until = "", "", "", c.Until.UTC()
	sum := sha256.Sum256(c.Encode())
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Encode writes c as JSON on one line, as stores keep it.
func (c Change) Encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("quota: " + err.Error()) // a checked Change always marshals
	}
	return b
}

// DecodeAuditEntry reads what Encode wrote.
func DecodeAuditEntry(at time.Time, text []byte) (AuditEntry, error) {
	e := AuditEntry{At: at}
	err := json.Unmarshal(text, &e.Change)
	return e, err
}

// An AuditEntry is one line of a user's audit list: a Change, and when it was made by the
// store's clock, to the millisecond. A grant to the headline limit names that limit's
// Per.
type AuditEntry struct {
	At time.Time `json:"at"`
	Change
}

// UserUsage is what one user has used in one window.
type UserUsage struct {
	User        string
	ClaimedPlan string   // the plan of his token when he was last admitted; empty: not known
	Override    Override // of now, whatever the window
	Used        int64    // the sum of Endpoints
	// Endpoints has what was used of each endpoint, also of those that the configuration
	// does not know any more; none is 0.
	Endpoints map[string]int64
}
