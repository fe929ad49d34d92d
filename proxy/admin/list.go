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

// listUsers serves GET /admin/users: all users with a count in a window. The list is
// written while the store finds them. The store reads every user that it has.
func (c *userRequest) listUsers() error {
	query, err := c.queryParams("at", "per", "format")
	if err != nil {
		return err
	}
	per, at := quota.Month, c.Clock.Now()
	if id, ok := query["at"]; ok {
		w, err := c.parseWindow(id)
		if err != nil {
			return err
		}
		per, at = w.Period, w.Start
	}
	if text, ok := query["per"]; ok {
		if err := per.UnmarshalText([]byte(text)); err != nil {
			return badRequest("per: %v", err)
		}
	}
	format, ok := listFormats[query["format"]]
	if !ok {
		return badRequest("format: must be jsonl or csv, got %.80q", query["format"])
	}
	started := false
	units := c.Gateway.PlansFor("").Claimed.ReportsUnits()
	write := format.start(c.w, units)
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
	err = c.Store.ScanUsers(c.r.Context(), per, at, func(u quota.UserUsage) error {
		if !started { // an error before the first user still gets its own status
			start()
		}
		extend()
		var claimed *string
		if u.ClaimedPlan != "" {
			claimed = &u.ClaimedPlan
		}
		return write(&listEntry{
			Units: unitsOf(u, units),
			User:  u.User, Plan: c.Gateway.PlansFor(u.ClaimedPlan).Effective(u.Override).Name(), Used: u.Used, Endpoints: u.Endpoints,
			Claimed: claimed, Override: overrideObject(u.Override),
		})
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

// A listEntry is one user of a list.
type listEntry struct {
	User      string           `json:"user"`
	Plan      string           `json:"plan"` // that is in effect now
	Used      int64            `json:"used"`
	Endpoints map[string]int64 `json:"endpoints"`       // requests, by endpoint
	Units     map[string]int64 `json:"units,omitempty"` // what they cost; nil: the configuration is not about units
	Claimed   *string          `json:"claimed"`         // as in userObject
	Override  *override        `json:"override"`
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
	// start returns a function that writes a user or, given nil, what precedes the first. units says
	// that users have Units.
	start func(w io.Writer, units bool) func(*listEntry) error
}

var listFormats = map[string]listFormat{"": jsonLines, "jsonl": jsonLines, "csv": commaSeparated}

var jsonLines = listFormat{"application/jsonl", func(w io.Writer, _ bool) func(*listEntry) error {
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
var commaSeparated = listFormat{"text/csv; charset=utf-8; header=present", func(w io.Writer, units bool) func(*listEntry) error {
	rows := csv.NewWriter(w)
	rows.UseCRLF = true // RFC 4180
	return func(u *listEntry) error {
		if u == nil {
			header := []string{"user", "plan", "endpoint", "used"}
			if units {
				header = append(header, "units")
			}
			rows.Write(header)
		} else {
			for _, endpoint := range slices.Sorted(maps.Keys(u.Endpoints)) {
				row := []string{u.User, u.Plan, endpoint, strconv.FormatInt(u.Endpoints[endpoint], 10)}
				if units {
					row = append(row, strconv.FormatInt(u.Units[endpoint], 10))
				}
				rows.Write(row)
			}
		}
		rows.Flush()
		return rows.Error()
	}
}}
