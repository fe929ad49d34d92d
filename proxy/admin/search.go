package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"metergate/proxy/admin/scans"
	"metergate/quota"
	"metergate/quota/plancheck"
)

const (
	searchLimit, maxSearchLimit = 50, 500 // users in a page of a search
	maxSearchText               = 256     // bytes of what is searched for, as long as an id
	maxChecked                  = 100     // changes in a check of plans
)

// plans are those of the configuration in force.
func (h *handler) plans() scans.PlanSet { return scans.PlanSet(h.Gateway.PlansFor("")) }

// getSearch serves GET /admin/search/users.
func (h *handler) getSearch(w http.ResponseWriter, r *http.Request) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	search, err := c.search()
	if err != nil {
		writeError(w, r, err)
		return
	}
	h.answer(w, r, search, nil)
}

// search reads the parameters of a search.
func (c *userRequest) search() (*scans.Search, error) {
	query, err := c.queryParams("sort", "order", "plan", "state", "q", "org", "limit", "after")
	if err != nil {
		return nil, err
	}
	s := &scans.Search{Plans: scans.PlanSet(c.Gateway.PlansFor("")), Plan: query["plan"], Text: query["q"], Org: query["org"], Limit: searchLimit}
	if s.Sort, err = oneOf(query, "sort", scans.ByPercent, scans.ByUsed, scans.ByUser, scans.ByPlan); err != nil {
		return nil, err
	}
	orders := []string{"desc", "asc"}
	if s.Sort == scans.ByUser || s.Sort == scans.ByPlan {
		orders = []string{"asc", "desc"}
	}
	order, err := oneOf(query, "order", orders...)
	if err != nil {
		return nil, err
	}
	s.Descending = order == "desc"
	if s.State, err = oneOf(query, "state", scans.AnyState, scans.Near, scans.Blocked); err != nil {
		return nil, err
	}
	if s.Plan != "" {
		if err := checkPlanExists("plan", s.Plan, quota.PlanChoice(s.Plans)); err != nil {
			return nil, err
		}
	}
	if len(s.Text) > maxSearchText {
		return nil, badRequest("q: must be at most %d bytes, which is as long as an id can be", maxSearchText)
	}
	if s.Org != "" {
		if _, err := quota.CheckedAccount(s.Org, ""); err != nil {
			return nil, badRequest("org: %s", invalidChangeText(err))
		}
	}
	if text := query["limit"]; text != "" {
		if s.Limit, err = strconv.Atoi(text); err != nil || s.Limit < 1 || s.Limit > maxSearchLimit {
			return nil, badRequest("limit: must be a whole number from 1 to %d, got %.80q", maxSearchLimit, text)
		}
	}
	if text := query["after"]; text != "" {
		if err := s.SetCursor(text); err != nil {
			return nil, badRequest("after: %v", err)
		}
	}
	return s, nil
}

// oneOf returns a parameter that has one of some values, of which the first is the default.
func oneOf(query map[string]string, name string, values ...string) (string, error) {
	value, given := query[name]
	switch {
	case !given:
		return values[0], nil
	case !slices.Contains(values, value):
		return "", badRequest("%s: must be one of %s, got %.80q", name, strings.Join(values, ", "), value)
	}
	return value, nil
}

// getPlans serves GET /admin/plans.
func (h *handler) getPlans(w http.ResponseWriter, r *http.Request) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	if _, err := c.queryParams(); err != nil {
		writeError(w, r, err)
		return
	}
	h.answer(w, r, &scans.Plans{Plans: h.plans()}, nil)
}

// getPlanCheck serves GET /admin/plans/check.
func (h *handler) getPlanCheck(w http.ResponseWriter, r *http.Request) {
	check, changes, err := h.planCheck(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	text, err := plansYAML(h.Gateway.EffectiveConfig(), h.Gateway.PlansFor("").ByName, changes)
	if err != nil {
		writeError(w, r, err)
		return
	}
	h.answer(w, r, check, func(page any) any {
		checked := page.(scans.CheckPage)
		checked.YAML = text
		return checked
	})
}

// planCheck reads the parameters of a check of plans.
func (h *handler) planCheck(r *http.Request) (*scans.Check, []plancheck.Change, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, nil, badRequest("query: %v", err)
	}
	for name := range query {
		if name != "set" {
			return nil, nil, badRequest("query: unknown parameter %.80q; this path takes set, as often as needed", name)
		}
	}
	if n := len(query["set"]); n > maxChecked {
		return nil, nil, badRequest("set: is given %d times, and at most %d changes are checked at once", n, maxChecked)
	}
	var changes []plancheck.Change
	for _, text := range query["set"] {
		change, err := plancheck.ParseChange(text)
		if err != nil {
			return nil, nil, badRequest("set: %v", err)
		}
		changes = append(changes, change)
	}
	check, err := scans.NewCheck(h.plans(), changes)
	if err != nil {
		return nil, nil, unprocessable("set: %v", err)
	}
	return check, changes, nil
}

// answer answers with what a scan of all users finds: once it is done or, to a client that accepts
// server-sent events, page by page while it runs. finish completes a page; nil: it is complete.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, q scans.Question, finish func(page any) any) {
	if finish == nil {
		finish = func(page any) any { return page }
	}
	events := acceptsEvents(r)
	contentType := "application/json"
	if events {
		contentType = "text/event-stream"
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", contentType)
		return
	}
	control, started := http.NewResponseController(w), false
	send := func(event string, data any) error {
		control.SetWriteDeadline(time.Now().Add(writeTimeout))
		text, err := json.Marshal(data)
		if err != nil {
			return err
		}
		if !events {
			w.Header().Set("Content-Type", contentType)
			_, err = w.Write(append(text, '\n'))
			return err
		}
		if !started {
			started = true
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("X-Accel-Buffering", "no")
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, text); err != nil {
			return err
		}
		return control.Flush()
	}
	var early func(page any) error
	if events {
		early = func(page any) error { return send("page", finish(page)) }
	}
	page, err := h.scans.Ask(r.Context(), q, early)
	switch {
	case err == nil:
		send("page", finish(page))
	case r.Context().Err() != nil: // nobody reads it
	case started:
		send("error", struct {
			Detail string `json:"detail"`
		}{"The store failed during the search. Try again."})
	case errors.Is(err, scans.ErrBusy):
		control.SetWriteDeadline(time.Now().Add(writeTimeout))
		writeProblemFor(w, http.StatusServiceUnavailable, "busy", "Too many searches are under way on this gateway. Try again in a moment, or close other consoles.", nil)
	default:
		control.SetWriteDeadline(time.Now().Add(writeTimeout))
		writeError(w, r, err)
	}
}

// acceptsEvents reports whether a client accepts server-sent events.
func acceptsEvents(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err == nil && kind == "text/event-stream" && params["q"] != "0" {
				return true
			}
		}
	}
	return false
}
