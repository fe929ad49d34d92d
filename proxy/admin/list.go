package admin

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"metergate/quota"
)

// listUsers serves GET /admin/users: all users with a count in a window; and GET
// /admin/orgs/{org}/members: those of one organisation. The list is written while the store finds
// them. The store reads every user that it has.
func (c *userRequest) listUsers() error {
	query, err := c.queryParams("at", "per", "format")
	if err != nil {
		return err
	}
	w, err := c.window(query)
	if err != nil {
		return err
	}
	if w.own != "" {
		return badRequest("at: a list is of a window of the calendar, such as 2026-10. It has the users' own windows that begin in it.")
	}
	format, ok := listFormats[query["format"]]
	if !ok {
		return badRequest("format: must be jsonl or csv, got %.80q", query["format"])
	}
	started := false
	units := c.Gateway.PlansFor("").Claimed.ReportsUnits()
	columns := listColumns{org: c.Gateway.HasOrganisations() || c.account != "", units: units, window: c.hasAnchors()}
	write := format.start(c.w, columns)
	start := func() {
		started = true
		c.w.Header().Set("Content-Type", format.contentType)
		c.w.Header().Set("Cache-Control", "no-store")
		c.w.WriteHeader(http.StatusOK)
		write(nil)
	}
	if c.r.Method == http.MethodHead {
		start()
		return nil
	}
	// The whole list may take long, but the client must keep reading.
	var extended time.Time
	extend := func() {
		if now := time.Now(); now.Sub(extended) > time.Second {
			extended = now
			http.NewResponseController(c.w).SetWriteDeadline(now.Add(writeTimeout))
		}
	}
	overrides := poolOverrides{c, map[string]quota.Override{}}
	err = c.scan(w.query(), func(u quota.UserUsage) error {
		if !started { // an error before the first user still gets its own status
			start()
		}
		extend()
		var claimed *string
		if u.ClaimedPlan != "" {
			claimed = &u.ClaimedPlan
		}
		override, shared := u.Override, false
		if override == (quota.Override{}) && u.Org != "" {
			var err error
			if override, err = overrides.read(u.Org); err != nil {
				return err
			}
			shared = override != quota.Override{}
		}
		entry := &listEntry{
			Units: unitsOf(u, units),
			User:  u.User, Org: u.Org, Plan: c.Gateway.PlansFor(u.ClaimedPlan).Effective(override).Name(), Used: u.Used, Endpoints: u.Endpoints,
			Claimed: claimed, Override: overrideObject(override),
		}
		if columns.window {
			entry.Start, entry.End = windowBounds(u.Window)
		}
		if shared {
			entry.Override.Shared = true
		}
		return write(entry)
	})
	extend()
	switch {
	case err == nil && !started:
		start()
	case err != nil && started:
		panic(http.ErrAbortHandler) // the client must not mistake half a list for the whole
	}
	return err
}

// scan calls yield for each user that the request is about.
func (c *userRequest) scan(windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	if org := c.org(); org != "" {
		return c.Store.ScanMembers(c.r.Context(), org, windows, yield)
	}
	return c.Store.ScanUsers(c.r.Context(), windows, yield)
}

// poolOverrides remembers the plans that administrators have set for organisations.
type poolOverrides struct {
	c     *userRequest
	byOrg map[string]quota.Override
}

// read returns the plan that was set for an organisation; zero: none.
func (o *poolOverrides) read(org string) (quota.Override, error) {
	override, known := o.byOrg[org]
	if !known {
		plans := o.c.Gateway.PlansFor("")
		plans.Scope = quota.PoolScope
		s, err := o.c.Store.Read(o.c.r.Context(), quota.PoolAccount(org), plans)
		if err != nil {
			return override, err
		}
		override = s.Override
		o.byOrg[org] = override
	}
	return override, nil
}

// A listEntry is one user of a list.
type listEntry struct {
	User      string           `json:"user"`
	Org       string           `json:"org,omitempty"`
	Plan      string           `json:"plan"` // that is in effect now
	Used      int64            `json:"used"`
	Endpoints map[string]int64 `json:"endpoints"`       // requests, by endpoint
	Units     map[string]int64 `json:"units,omitempty"` // what they cost; nil: the configuration is not about units
	Claimed   *string          `json:"claimed"`         // as in userObject
	Override  *override        `json:"override"`
	// Start and End are those of the user's window; nil: all users have the same.
	Start *windowBound `json:"start,omitempty"`
	End   *windowBound `json:"end,omitempty"`
}

// A windowBound is the start or the end of a window. It is zero if the window does not renew.
type windowBound struct{ time.Time }

func windowBounds(w quota.Window) (start, end *windowBound) {
	if !w.Renews() {
		return &windowBound{}, &windowBound{}
	}
	return &windowBound{w.Start}, &windowBound{w.End}
}

// MarshalJSON writes null for zero, as the usage object does.
func (b windowBound) MarshalJSON() ([]byte, error) {
	if b.IsZero() {
		return []byte("null"), nil
	}
	return b.Time.MarshalJSON()
}

// String is empty for zero.
func (b windowBound) String() string {
	if b.IsZero() {
		return ""
	}
	return b.Format(time.RFC3339)
}

// unitsOf returns what the requests to each endpoint cost, nil if that is not reported.
func unitsOf(u quota.UserUsage, reported bool) map[string]int64 {
	if !reported {
		return nil
	}
	units := maps.Clone(u.Endpoints)
	for endpoint, extra := range u.Extra {
		units[endpoint] += extra
	}
	return units
}

// A listFormat is a format of the list.
type listFormat struct {
	contentType string
	// start returns a function that writes a user or, given nil, what precedes the first.
	start func(w io.Writer, columns listColumns) func(*listEntry) error
}

// listColumns are the columns that a list in CSV has only where the configuration is about them.
type listColumns struct{ org, units, window bool }

var listFormats = map[string]listFormat{"": jsonLines, "jsonl": jsonLines, "csv": commaSeparated}

var jsonLines = listFormat{"application/jsonl", func(w io.Writer, _ listColumns) func(*listEntry) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(u *listEntry) error {
		if u == nil {
			return nil
		}
		return enc.Encode(u)
	}
}}

// commaSeparated has a row for each user and endpoint. It has no sums: whoever adds up the
// column would count them twice. Ids are written unchanged, even if a spreadsheet would
// take one for a formula.
var commaSeparated = listFormat{"text/csv; charset=utf-8; header=present", func(w io.Writer, columns listColumns) func(*listEntry) error {
	rows := csv.NewWriter(w)
	rows.UseCRLF = true // RFC 4180
	return func(u *listEntry) error {
		if u == nil {
			header := []string{"user", "plan", "endpoint", "used"}
			if columns.units {
				header = append(header, "units")
			}
			if columns.org {
				header = append(header, "org")
			}
			if columns.window {
				header = append(header, "start", "end")
			}
			rows.Write(header)
		} else {
			for _, endpoint := range slices.Sorted(maps.Keys(u.Endpoints)) {
				row := []string{u.User, u.Plan, endpoint, strconv.FormatInt(u.Endpoints[endpoint], 10)}
				if columns.units {
					row = append(row, strconv.FormatInt(u.Units[endpoint], 10))
				}
				if columns.org {
					row = append(row, u.Org)
				}
				if columns.window {
					row = append(row, u.Start.String(), u.End.String())
				}
				rows.Write(row)
			}
		}
		rows.Flush()
		return rows.Error()
	}
}}
