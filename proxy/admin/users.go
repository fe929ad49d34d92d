package admin

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"metergate/quota"
)

// A Store keeps what users have used and what administrators have changed. It is the
// part of quota.Store that the admin API needs, and that is its contract.
type Store interface {
	Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error)
	ReadAt(ctx context.Context, user string, plans quota.PlanChoice, at time.Time) (quota.Snapshot, error)
	ClaimedPlan(ctx context.Context, user string) (plan string, err error)
	Running(ctx context.Context, account string) (int64, error)
	ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, change quota.Change) (quota.Snapshot, error)
	AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error)
	History(ctx context.Context, user string, days int) (quota.History, error)
	ScanUsers(ctx context.Context, windows quota.WindowQuery, yield func(quota.UserUsage) error) error
	ScanMembers(ctx context.Context, org string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error
	ScanSnapshots(ctx context.Context, query quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error
	quota.Bills
}

// A userRequest is a request about an account, see quota.MemberAccount, or about all users if
// account is empty.
type userRequest struct {
	Options
	w       http.ResponseWriter
	r       *http.Request
	account string
}

const (
	usersPrefix    = "/admin/users"
	orgsPrefix     = "/admin/orgs"
	membersSegment = "members"
	historySegment = "history"
)

// The methods of the resources below usersPrefix and orgsPrefix: of all users, of one user, and of one
// organisation, by the path segment after the id. GET also serves HEAD.
var (
	allUsers = methods{"GET": (*userRequest).listUsers}
	oneUser  = map[string]methods{
		"":             {"GET": (*userRequest).getUser},
		"anchor":       {"PUT": (*userRequest).putAnchor, "DELETE": (*userRequest).deleteAnchor},
		"audit":        {"GET": (*userRequest).getAudit},
		"counts":       {"PUT": (*userRequest).putCounts},
		"grants":       {"POST": (*userRequest).postGrant},
		historySegment: {"GET": (*userRequest).getHistory},
		"plan":         {"PUT": (*userRequest).putPlan, "DELETE": (*userRequest).deletePlan},
		"reset":        {"POST": (*userRequest).postReset},
	}
	oneOrg = withMembers(oneUser)
)

// withMembers returns the resources of a user, which an organisation has as well but for the history,
// and the list of its members.
func withMembers(resources map[string]methods) map[string]methods {
	resources = maps.Clone(resources)
	delete(resources, historySegment)
	resources[membersSegment] = methods{"GET": (*userRequest).listUsers}
	return resources
}

type methods map[string]func(*userRequest) error

// isAccountPath reports whether a request's path is at or below usersPrefix or orgsPrefix.
func isAccountPath(r *http.Request) bool {
	_, users := pathBelow(r, usersPrefix)
	_, orgs := pathBelow(r, orgsPrefix)
	return users || orgs
}

// pathBelow returns what follows a prefix in a request's path, escaped as the client
// sent it. A ServeMux cannot route ids that look like a path: it cleans "..", "//" and the
// like, and redirects.
func pathBelow(r *http.Request, prefix string) (path string, ok bool) {
	path, ok = strings.CutPrefix(r.URL.EscapedPath(), prefix)
	return path, ok && (path == "" || path[0] == '/')
}

// serveAccounts serves all paths at and below usersPrefix and orgsPrefix.
func (h *handler) serveAccounts(w http.ResponseWriter, r *http.Request) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	if err := c.serve(); err != nil {
		writeError(w, r, err)
	}
}

// resource finds out which account the path is about, and what of it.
func (c *userRequest) resource() (methods, error) {
	if path, ok := pathBelow(c.r, usersPrefix); ok {
		if path == "" {
			return allUsers, nil
		}
		id, what, _ := strings.Cut(path[1:], "/")
		found := oneUser[what]
		if found == nil || id == "" || strings.HasSuffix(path, "/") {
			return nil, requestError{status: http.StatusNotFound, detail: "Nothing is here. " +
				"The path is /admin/users/{user}, optionally followed by /anchor, /audit, /counts, /grants, /history, /plan or /reset; write a slash in the user's id as %2F."}
		}
		return found, c.setAccount("", id)
	}
	path, _ := pathBelow(c.r, orgsPrefix)
	org, what, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	found, user := oneOrg[what], ""
	if member, ok := strings.CutPrefix(what, membersSegment+"/"); ok {
		user, what, _ = strings.Cut(member, "/")
		if found = oneUser[what]; user == "" {
			found = nil
		}
	}
	if found == nil || org == "" || strings.HasSuffix(path, "/") {
		return nil, requestError{status: http.StatusNotFound, detail: "Nothing is here. " +
			"The path is /admin/orgs/{org} or /admin/orgs/{org}/members/{user}, optionally followed by /anchor, /audit, /counts, /grants, /plan or /reset, " +
			"or /admin/orgs/{org}/members, or /admin/orgs/{org}/members/{user}/history; write a slash in an id as %2F."}
	}
	return found, c.setAccount(org, user)
}

// setAccount sets the account from the escaped ids of an organisation and a user, of which one may be
// empty. The ids must meet the same rules as in a change.
func (c *userRequest) setAccount(org, user string) error {
	var err error
	if org, err = url.PathUnescape(org); err != nil {
		return badRequest("org: %v", err)
	}
	if user, err = url.PathUnescape(user); err != nil {
		return badRequest("user: %v", err)
	}
	c.account, err = quota.CheckedAccount(org, user)
	return err
}

// org is the organisation that the request is about; empty: none.
func (c *userRequest) org() string {
	org, _ := quota.SplitAccount(c.account)
	return org
}

func (c *userRequest) serve() error {
	resource, err := c.resource()
	if err != nil {
		return err
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	serve := resource[method]
	if serve == nil {
		allowed := slices.Sorted(maps.Keys(resource))
		if resource["GET"] != nil {
			allowed = append(allowed, "HEAD")
		}
		allow := strings.Join(allowed, ", ")
		c.w.Header().Set("Allow", allow)
		return requestError{status: http.StatusMethodNotAllowed, detail: "This path is served for " + allow + "."}
	}
	return serve(c)
}

// queryParams returns the query parameters. Only those named are allowed, each once.
func (c *userRequest) queryParams(names ...string) (map[string]string, error) {
	all, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("query: %v", err)
	}
	values := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case !slices.Contains(names, name):
			known := "this path takes none"
			if len(names) > 0 {
				known = "this path takes " + strings.Join(names, ", ")
			}
			return nil, badRequest("query: unknown parameter %.80q; %s", name, known)
		case len(all[name]) > 1:
			return nil, badRequest("query: %s is given twice", name)
		}
		values[name] = all[name][0]
	}
	return values, nil
}

// A wantedWindow is what the parameters at and per ask for.
type wantedWindow struct {
	per quota.Period
	at  time.Time // an instant in it
	// running: neither was given.
	running bool
	// calendar is the window that was named, as the calendar has it; zero: none was. Of the windows
	// of a user's own, those that begin in it are meant.
	calendar quota.Window
	// own is the id of a window that only some users have, see windowByID; empty: it is not one.
	own string
}

// query asks a store for the windows of all users.
func (w wantedWindow) query() quota.WindowQuery {
	if w.calendar.ID == "" {
		return quota.WindowQuery{Period: w.per, At: w.at}
	}
	return quota.WindowQuery{Period: w.per, At: w.calendar.Start, Beginning: true}
}

// window returns what the parameters at and per ask for: the window with the id at, or the one of
// another period at that time; without at, the running one.
func (c *userRequest) window(query map[string]string) (w wantedWindow, err error) {
	id, hasID := query["at"]
	text, hasPeriod := query["per"]
	w = wantedWindow{per: quota.Month, at: c.Clock.Now(), running: !hasID && !hasPeriod}
	if hasID {
		if w, err = c.windowByID(id); err != nil {
			return w, err
		}
	}
	if !hasPeriod {
		return w, nil
	}
	var per quota.Period
	if err := per.UnmarshalText([]byte(text)); err != nil {
		return w, badRequest("per: %v", err)
	}
	if per != w.per || w.own != "" {
		if w.calendar.ID != "" {
			w.at = w.calendar.Start
		}
		w = wantedWindow{per: per, at: w.at}
	}
	return w, nil
}

// userPlans returns the plans that may apply to the user. The admin API does not see the
// user's token, so the claimed plan is the one given, else the last one that the store has
// seen, else the default.
func (c *userRequest) userPlans(plan string) (plans quota.PlanChoice, claimed string, err error) {
	claimed = plan
	if plan == "" {
		claimed, err = c.Store.ClaimedPlan(c.r.Context(), c.account)
	} else {
		err = checkPlanExists("plan", plan, c.Gateway.PlansFor(plan))
	}
	plans = c.Gateway.PlansFor(claimed)
	plans.Scope = quota.ScopeOf(c.account)
	return plans, claimed, err
}

// checkPlanExists returns an error if there is no plan of that name.
func checkPlanExists(field, plan string, plans quota.PlanChoice) error {
	if plans.ByName[plan] == nil {
		return unprocessable("%s: there is no plan %.80q; %s", field, plan, quota.ListNames("plan", slices.Sorted(maps.Keys(plans.ByName))))
	}
	return nil
}

// getUser serves GET /admin/users/{user}.
func (c *userRequest) getUser() error {
	query, err := c.queryParams("at", "per", "plan", "chosen")
	if err != nil {
		return err
	}
	w, err := c.window(query)
	if err != nil {
		return err
	}
	plans, claimed, err := c.userPlans(query["plan"])
	if err != nil {
		return err
	}
	if chosen := query["chosen"]; chosen != "" {
		if plans, err = asChosen(plans, chosen); err != nil {
			return err
		}
	}
	var s quota.Snapshot
	if w.running {
		s, err = c.Store.Read(c.r.Context(), c.account, plans)
	} else {
		s, err = c.Store.ReadAt(c.r.Context(), c.account, plans.ForPeriod(w.per), w.at)
	}
	if err != nil {
		return err
	}
	switch got := s.Total.Window; {
	case w.own != "" && got.ID != w.own:
		return unprocessable("at: this user has no window %s. At that time their window is %s.", w.own, got.ID)
	case w.calendar.ID != "" && got.Start.Before(w.calendar.Start):
		return unprocessable("at: the %s of this user that begins in %s has not begun. The running one is %s.", w.per, w.calendar.ID, got.ID)
	}
	return c.writeUser(s, claimed)
}

// getAudit serves GET /admin/users/{user}/audit.
func (c *userRequest) getAudit() error {
	if _, err := c.queryParams(); err != nil {
		return err
	}
	entries, err := c.Store.AuditLog(c.r.Context(), c.account)
	if err != nil {
		return err
	}
	if entries == nil {
		entries = []quota.AuditEntry{}
	}
	org, user := quota.SplitAccount(c.account)
	writeJSON(c.w, http.StatusOK, struct {
		User    string             `json:"user,omitempty"` // empty: it is the log of the organisation
		Org     string             `json:"org,omitempty"`
		Entries []quota.AuditEntry `json:"entries"` // the newest first
	}{user, org, entries})
	return nil
}

// getHistory serves GET /admin/users/{user}/history. An organisation has none: what its members share,
// they have used.
func (c *userRequest) getHistory() error {
	query, err := c.queryParams("days")
	if err != nil {
		return err
	}
	if c.HistoryDays == 0 {
		return requestError{status: http.StatusNotFound, reason: "no_history",
			detail: "No history is kept. Set history.keep in the configuration, and restart the gateway."}
	}
	text, given := query["days"]
	days, ok := quota.ParseHistoryDays(text, c.HistoryDays)
	if !ok || given && text == "" {
		return badRequest("days: must be a whole number from 1 to %d, got %.80q", c.HistoryDays, text)
	}
	h, err := c.Store.History(c.r.Context(), c.account, days)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, h.Usage(c.account, c.Calendar.Location(), c.Gateway.PlansFor("").Claimed.ReportsUnits()))
	return nil
}
