package admin

import (
	"context"
	"maps"
	"net"
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
	ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, change quota.Change) (quota.Snapshot, error)
	AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error)
	ScanUsers(ctx context.Context, period quota.Period, at time.Time, yield func(quota.UserUsage) error) error
}

// A userRequest is a request about a user, or about all users if user is empty.
type userRequest struct {
	Options
	w    http.ResponseWriter
	r    *http.Request
	user string
}

const usersPrefix = "/admin/users"

// The methods of the resources below usersPrefix: of all users, and of one user, by the
// path segment after the user's id. GET also serves HEAD.
var (
	allUsers = methods{"GET": (*userRequest).listUsers}
	oneUser  = map[string]methods{
		"":       {"GET": (*userRequest).getUser},
		"audit":  {"GET": (*userRequest).getAudit},
		"counts": {"PUT": (*userRequest).putCounts},
		"grants": {"POST": (*userRequest).postGrant},
		"plan":   {"PUT": (*userRequest).putPlan, "DELETE": (*userRequest).deletePlan},
		"reset":  {"POST": (*userRequest).postReset},
	}
)

type methods map[string]func(*userRequest) error

// usersPath returns what follows usersPrefix in a request's path, escaped as the client
// sent it. A ServeMux cannot route ids that look like a path: it cleans "..", "//" and the
// like, and redirects.
func usersPath(r *http.Request) (path string, ok bool) {
	path, ok = strings.CutPrefix(r.URL.EscapedPath(), usersPrefix)
	return path, ok && (path == "" || path[0] == '/')
}

// serveUsers serves all paths at and below usersPrefix.
func (h *handler) serveUsers(w http.ResponseWriter, r *http.Request) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	if err := c.serve(); err != nil {
		writeError(w, r, err)
	}
}

func (c *userRequest) serve() error {
	path, _ := usersPath(c.r)
	resource := allUsers
	if path != "" {
		id, what, _ := strings.Cut(path[1:], "/")
		if resource = oneUser[what]; resource == nil || id == "" || strings.HasSuffix(path, "/") {
			return requestError{status: http.StatusNotFound, detail: "Nothing is here. " +
				"The path is /admin/users/{user}, optionally followed by /audit, /counts, /grants, /plan or /reset; write a slash in the user's id as %2F."}
		}
		var err error
		if c.user, err = url.PathUnescape(id); err != nil {
			return badRequest("user: %v", err)
		}
		// The id must meet the same rules as in a change.
		if err := (quota.Change{Action: quota.ActionReset}).Validate(c.user); err != nil {
			return err
		}
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

// parseWindow returns the window with an id. In a query a plus sign arrives as a space.
func (c *userRequest) parseWindow(id string) (quota.Window, error) {
	w, err := c.Calendar.WindowByID(strings.ReplaceAll(id, " ", "+"))
	if err != nil {
		return w, badRequest("at: %v", err)
	}
	return w, nil
}

// userPlans returns the plans that may apply to the user. The admin API does not see the
// user's token, so the claimed plan is the one given, else the last one that the store has
// seen, else the default.
func (c *userRequest) userPlans(plan string) (plans quota.PlanChoice, claimed string, err error) {
	if plan != "" {
		plans = c.Gateway.PlansFor(plan)
		return plans, plan, checkPlanExists("plan", plan, plans)
	}
	if claimed, err = c.Store.ClaimedPlan(c.r.Context(), c.user); err != nil {
		return plans, "", err
	}
	return c.Gateway.PlansFor(claimed), claimed, nil
}

// checkPlanExists returns an error if there is no plan of that name.
func checkPlanExists(field, plan string, plans quota.PlanChoice) error {
	if plans.ByName[plan] == nil {
		return unprocessable("%s: there is no plan %.80q; %s", field, plan, quota.ListNames("plan", slices.Sorted(maps.Keys(plans.ByName))))
	}
	return nil
}

// remoteHost identifies who makes the request. Only the address is known.
func (c *userRequest) remoteHost() string {
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return c.r.RemoteAddr
	}
	return host
}

// getUser serves GET /admin/users/{user}.
func (c *userRequest) getUser() error {
	query, err := c.queryParams("at", "plan")
	if err != nil {
		return err
	}
	at, past := query["at"]
	var w quota.Window
	if past {
		if w, err = c.parseWindow(at); err != nil {
			return err
		}
	}
	plans, claimed, err := c.userPlans(query["plan"])
	if err != nil {
		return err
	}
	var s quota.Snapshot
	if past {
		s, err = c.Store.ReadAt(c.r.Context(), c.user, plans.ForPeriod(w.Period), w.Start)
	} else {
		s, err = c.Store.Read(c.r.Context(), c.user, plans)
	}
	if err != nil {
		return err
	}
	return c.writeUser(s, claimed)
}

// getAudit serves GET /admin/users/{user}/audit.
func (c *userRequest) getAudit() error {
	if _, err := c.queryParams(); err != nil {
		return err
	}
	entries, err := c.Store.AuditLog(c.r.Context(), c.user)
	if err != nil {
		return err
	}
	if entries == nil {
		entries = []quota.AuditEntry{}
	}
	writeJSON(c.w, http.StatusOK, struct {
		User    string             `json:"user"`
		Entries []quota.AuditEntry `json:"entries"` // the newest first
	}{c.user, entries})
	return nil
}
