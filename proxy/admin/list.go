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

// list answers GET /admin/users with all users who have something counted in a window.
// It is written as the store finds them, and looks at every user that the store has.
func (c *call) list() error {
	query, err := c.query("at", "per", "format")
	if err != nil {
		return err
	}
	per, at := quota.Month, c.Clock.Now()
	if id, ok := query["at"]; ok {
		w, err := c.window(id)
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
	write := format.start(c.w)
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
	// It may take long in all, but not for the client to take what there is.
	var extended time.Time
	extend := func() {
		if now := time.Now(); now.Sub(extended) > time.Second {
			extended = now
			http.NewResponseController(c.w).SetWriteDeadline(now.Add(writeTimeout))
		}
	}
	err = c.Store.ScanUsers(c.r.Context(), per, at, func(u quota.UserUsage) error {
		if !started { // an error before has a status of its own
			start()
		}
		extend()
		var claimed *string
		if u.ClaimedPlan != "" {
			claimed = &u.ClaimedPlan
		}
		return write(&listed{
			User: u.User, Plan: c.Gateway.Terms(u.ClaimedPlan).Effective(u.Override).Name(), Used: u.Used, Endpoints: u.Endpoints,
			Claimed: claimed, Override: overrideObject(u.Override),
		})
	})
	extend()
	switch {
	case err == nil && !started:
		start()
	case err != nil && started:
		panic(http.ErrAbortHandler) // the client must not take the half for the whole
	}
	return err
}

// A listed is one user of a list.
type listed struct {
	User      string           `json:"user"`
	Plan      string           `json:"plan"` // that applies now
	Used      int64            `json:"used"`
	Endpoints map[string]int64 `json:"endpoints"` // what was used of each
	Claimed   *string          `json:"claimed"`   // as in userObject
	Override  *override        `json:"override"`
}

// A listFormat is a way to write a list.
type listFormat struct {
	contentType string
	// start returns what writes a user; with nil, what comes before the first one.
	start func(io.Writer) func(*listed) error
}

var listFormats = map[string]listFormat{"": jsonLines, "jsonl": jsonLines, "csv": commaSeparated}

var jsonLines = listFormat{"application/jsonl", func(w io.Writer) func(*listed) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(u *listed) error {
		if u == nil {
			return nil
		}
		return enc.Encode(u)
	}
}}

// commaSeparated has a row for each user and endpoint, and no sums: those would be
// counted again by who sums up the column. An id stands in it as it is, also one that a
// spreadsheet takes for a formula.
var commaSeparated = listFormat{"text/csv; charset=utf-8; header=present", func(w io.Writer) func(*listed) error {
	rows := csv.NewWriter(w)
	rows.UseCRLF = true // RFC 4180
	return func(u *listed) error {
		if u == nil {
			rows.Write([]string{"user", "plan", "endpoint", "used"})
		} else {
			for _, endpoint := range slices.Sorted(maps.Keys(u.Endpoints)) {
				rows.Write([]string{u.User, u.Plan, endpoint, strconv.FormatInt(u.Endpoints[endpoint], 10)})
			}
		}
		rows.Flush()
		return rows.Error()
	}
}}
