package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"metergate/proxy/browser"
	"metergate/quota"
)

// trackDeprecated is when POST /usage/track became deprecated, 1 December 2026, as the
// value of the Deprecation header (RFC 9745).
const trackDeprecated = "@1796083200"

// gatewayRoutes are the gateway's own resources. No configured route is at or below
// /usage.
func gatewayRoutes() []*route {
	routes := []*route{
		{Route: Route{Pattern: "GET /usage"}, answer: (*exchange).answerUsage},
		{Route: Route{Pattern: "GET /usage/stream"}, answer: (*exchange).answerStream, exempt: true, stream: true},
		{Route: Route{Pattern: "GET /usage/history"}, answer: (*exchange).answerHistory},
		{Route: Route{Pattern: "POST /usage/track"}, answer: (*exchange).answerTrack},
		// So that no configured route with a wildcard matches below /usage.
		{Route: Route{Pattern: "/usage/", Public: true}, answer: func(x *exchange) { x.fail(errNoRoute) }, exempt: true},
	}
	for _, name := range browser.Names() {
		routes = append(routes, &route{Route: Route{Pattern: "GET /usage/" + name, Public: true}, answer: serveBrowserFile(name), exempt: true})
	}
	return routes
}

// OwnRoutes returns the patterns of the gateway's own resources, such as "GET /usage". They are
// the same with every configuration.
func OwnRoutes() (patterns []string) {
	for _, r := range gatewayRoutes() {
		patterns = append(patterns, r.Pattern)
	}
	return patterns
}

// answerUsage answers GET /usage.
func (x *exchange) answerUsage() {
	s, err := x.g.store.Read(x.in.Context(), x.account, x.plans)
	if err != nil {
		x.fail(&storeError{err})
		return
	}
	u := x.usageObject(&s)
	u.ExhaustsAt = x.forecast(&s)
	x.writeJSON(http.StatusOK, "application/json", u)
}

// A usageObject is what clients read about their usage. It includes where to upgrade,
// so that a front end can tell a user at the limit without sending a request that will
// be refused.
type usageObject struct {
	quota.Usage
	Upgrade string `json:"upgrade_url,omitempty"`
}

// usageObject is without a forecast, for which the store may have to be asked.
func (x *exchange) usageObject(s *quota.Snapshot) usageObject {
	return usageObject{s.Usage(x.account), x.g.upgradeURLOf(s.Plan)}
}

// refusedUsage is the usage in the problem document of a refusal. A refusal costs no further call of
// the store, so there is a forecast only where it needs no history.
func (x *exchange) refusedUsage(s *quota.Snapshot) *quota.Usage {
	u := s.Usage(x.account)
	if f := (quota.History{}).Forecast(*s); x.g.historyDays > 0 && !f.At.IsZero() {
		u.ExhaustsAt = f
	}
	return &u
}

// forecast returns when nothing will be left of the headline limit of s; nil: no history is kept. If
// the history cannot be read, nobody can tell. A store that has just not answered is not asked again:
// the client would wait for it twice.
func (x *exchange) forecast(s *quota.Snapshot) *quota.Forecast {
	if x.g.historyDays == 0 {
		return nil
	}
	var h quota.History
	if s.ForecastNeedsHistory() && !s.Stale {
		h, _ = x.g.store.History(x.in.Context(), x.account, min(quota.PaceDays, x.g.historyDays)) // empty with an error
	}
	return h.Forecast(*s)
}

var errNoHistory = errors.New("no history is kept")

// A daysError says that the parameter days is not 1 to kept.
type daysError struct{ kept int }

func (e daysError) Error() string {
	return "the parameter days must be given once, as a whole number from 1 to " + strconv.Itoa(e.kept)
}

// answerHistory answers GET /usage/history.
func (x *exchange) answerHistory() {
	if x.g.historyDays == 0 {
		x.fail(errNoHistory)
		return
	}
	days, err := wantedDays(x.in.URL.RawQuery, x.g.historyDays)
	if err != nil {
		x.fail(err)
		return
	}
	h, err := x.g.store.History(x.in.Context(), x.account, days)
	if err != nil {
		x.fail(&storeError{err})
		return
	}
	x.writeJSON(http.StatusOK, "application/json", h.Usage(x.account, x.g.location, x.plan.ReportsUnits()))
}

// wantedDays reads the parameter days. Other parameters are ignored, as everywhere below /usage. Its
// error is a daysError.
func wantedDays(rawQuery string, kept int) (int, error) {
	query, err := url.ParseQuery(rawQuery)
	texts := query["days"]
	if err != nil || len(texts) > 1 || len(texts) == 1 && texts[0] == "" {
		return 0, daysError{kept}
	}
	days, ok := quota.ParseHistoryDays(query.Get("days"), kept)
	if !ok {
		return 0, daysError{kept}
	}
	return days, nil
}

// answerTrack answers front ends that still report their own calls. The gateway has
// already counted them.
func (x *exchange) answerTrack() {
	x.w.Header().Set("Deprecation", trackDeprecated)
	x.answerUsage()
}

// serveBrowserFile answers with a file for front ends.
func serveBrowserFile(name string) func(*exchange) {
	return func(x *exchange) { x.record.status = browser.Serve(x.w, x.in, name) }
}
