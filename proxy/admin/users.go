package admin

import (
	"context"
	"errors"
	"fmt"
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

// A call is a request about a user, or about all of them when user is empty.
type call struct {
	Options
	w    http.ResponseWriter
	r    *http.Request
	user string
}

// The resources below usersPrefix, by what follows the user, and their methods. GET
// also serves HEAD.
const usersPrefix = "/admin/users"

var (
	allUsers = methods{"GET": (*call).list}
	oneUser  = map[string]methods{
		"":       {"GET": (*call).read},
		"audit":  {"GET": (*call).audit},
		"counts": {"PUT": (*call).setCounts},
		"grants": {"POST": (*call).grant},
		"plan":   {"PUT": (*call).setPlan, "DELETE": (*call).clearPlan},
		"reset":  {"POST": (*call).reset},
	}
)

type methods map[string]func(*call) error

// usersPath is what follows usersPrefix in a request's path, as the client has escaped
// it. A ServeMux would do for all ids but those that look like a path: it cleans "..",
// "//" and the like, and redirects.
func usersPath(r *http.Request) (path string, ok bool) {
	path, ok = strings.CutPrefix(r.URL.EscapedPath(), usersPrefix)
	return path, ok && (path == "" || path[0] == '/')
}

// users serves what is at and below usersPrefix.
func (h *handler) users(w http.ResponseWriter, r *http.Request) {
	c := &call{Options: h.Options, w: w, r: r}
	if err := c.serve(); err != nil {
		c.fail(err)
	}
}

func (c *call) serve() error {
	path, _ := usersPath(c.r)
	resource := allUsers
	if path != "" {
		id, what, _ := strings.Cut(path[1:], "/")
		if resource = oneUser[what]; resource == nil || id == "" || strings.HasSuffix(path, "/") {
			return refusal{status: http.StatusNotFound, detail: "Nothing is here. " +
				"The path is /admin/users/{user}, or that and /audit, /counts, /grants, /plan or /reset; a slash in the user's id is written %2F."}
		}
		var err error
		if c.user, err = url.PathUnescape(id); err != nil {
			return badRequest("user: %v", err)
		}
		// What every change asks of the id.
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
		return refusal{status: http.StatusMethodNotAllowed, detail: "This path is served for " + allow + "."}
	}
	return serve(c)
}

// A refusal is an error that says what is wrong with the request.
type refusal struct {
	status int
	detail string
}

func (r refusal) Error() string { return r.detail }

func badRequest(format string, args ...any) error {
	return refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func unprocessable(format string, args ...any) error {
	return refusal{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...)}
}

// fail answers with an error.
func (c *call) fail(err error) {
	var r refusal
	switch {
	case errors.As(err, &r):
		writeProblem(c.w, r.status, r.detail, nil)
	case errors.Is(err, quota.ErrInvalidChange):
		writeProblem(c.w, http.StatusBadRequest, strings.TrimPrefix(err.Error(), quota.ErrInvalidChange.Error()+": "), nil)
	case errors.Is(err, quota.ErrIDConflict):
		writeProblem(c.w, http.StatusConflict, "Another change of this user had this Idempotency-Key within a day. Nothing was changed: send a new key with a new change.", nil)
	case errors.Is(err, quota.ErrTooManyIDs):
		writeProblem(c.w, http.StatusTooManyRequests, fmt.Sprintf("%d changes of this user had an Idempotency-Key within a day, as many as are remembered. "+
			"Nothing was changed: send it without one.", quota.MaxChangeIDs), nil)
	case errors.Is(err, quota.ErrTooLarge):
		writeProblem(c.w, http.StatusUnprocessableEntity, fmt.Sprintf("The sum would be over %d. Nothing was changed.", int64(quota.MaxRequests)), nil)
	case errors.Is(err, quota.ErrNotKept):
		writeProblem(c.w, http.StatusUnprocessableEntity, "at: "+err.Error()+" (store.keep).", nil)
	default:
		detail := "The store does not answer. Try again shortly."
		if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
			detail = "The store does not answer; the change may have been made. Read the user's audit list, or send it again with the same Idempotency-Key if it had one."
		}
		writeProblem(c.w, http.StatusServiceUnavailable, detail, nil)
	}
}

// query returns the parameters of the request, which may be those named, each once.
func (c *call) query(names ...string) (map[string]string, error) {
	all, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("query: %v", err)
	}
	values := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case !slices.Contains(names, name):
			known := "there are none here"
			if len(names) > 0 {
				known = "there are " + strings.Join(names, ", ")
			}
			return nil, badRequest("query: %.80q is no parameter: %s", name, known)
		case len(all[name]) > 1:
			return nil, badRequest("query: %s is given twice", name)
		}
		values[name] = all[name][0]
	}
	return values, nil
}

// window is the one with an id, written as in a query: there a plus sign is a space.
func (c *call) window(id string) (quota.Window, error) {
	w, err := c.Calendar.WindowByID(strings.ReplaceAll(id, " ", "+"))
	if err != nil {
		return w, badRequest("at: %v", err)
	}
	return w, nil
}

// terms are those of the user. The plan of his token is not known here: it is the given
// one, else the one that the store has seen last, else the default.
func (c *call) terms(plan string) (t quota.PlanChoice, claimed string, err error) {
	if plan != "" {
		t = c.Gateway.Terms(plan)
		return t, plan, checkPlan("plan", plan, t)
	}
	if claimed, err = c.Store.ClaimedPlan(c.r.Context(), c.user); err != nil {
		return t, "", err
	}
	return c.Gateway.Terms(claimed), claimed, nil
}

// checkPlan says that there is no such plan.
func checkPlan(place, plan string, t quota.PlanChoice) error {
	if t.ByName[plan] == nil {
		return unprocessable("%s: there is no plan %.80q, there are %s", place, plan, strings.Join(slices.Sorted(maps.Keys(t.ByName)), ", "))
	}
	return nil
}

// by says who makes the request: where it comes from is all that is known.
func (c *call) by() string {
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return c.r.RemoteAddr
	}
	return host
}

// A userObject is what GET /admin/users/{user} answers: what the user reads, and what
// lies behind it.
type userObject struct {
	quota.Usage
	Window   string    `json:"window"`   // the id of the period's window
	Claimed  *string   `json:"claimed"`  // the plan of his token when he was last admitted; null: not known
	Override *override `json:"override"` // null: none
	Granted  []granted `json:"granted"`  // what is in the limits above and not in the plan
}

type override struct {
	Plan  string     `json:"plan"`
	Until *time.Time `json:"until"` // null: it has no end
}

func overrideObject(o quota.Override) *override {
	if o == (quota.Override{}) {
		return nil
	}
	object := &override{Plan: o.Plan}
	if !o.Until.IsZero() {
		object.Until = &o.Until
	}
	return object
}

type granted struct {
	Name     string       `json:"name"` // of the limit
	Endpoint string       `json:"endpoint,omitempty"`
	Per      quota.Period `json:"per"`
	Requests int64        `json:"requests"`
}

// show answers with a user's state.
func (c *call) show(s quota.Snapshot, claimed string) error {
	u := userObject{Usage: s.Usage(c.user), Window: s.Total.Window.ID, Override: overrideObject(s.Override), Granted: []granted{}}
	if claimed != "" {
		u.Claimed = &claimed
	}
	for i, l := range s.Plan.Limits() {
		if n := s.Limits[i].Granted; n > 0 {
			u.Granted = append(u.Granted, granted{l.Name(), l.Endpoint, l.Period, n})
		}
	}
	writeJSON(c.w, http.StatusOK, u)
	return nil
}

// read answers GET /admin/users/{user}.
func (c *call) read() error {
	query, err := c.query("at", "plan")
	if err != nil {
		return err
	}
	at, past := query["at"]
	var w quota.Window
	if past {
		if w, err = c.window(at); err != nil {
			return err
		}
	}
	t, claimed, err := c.terms(query["plan"])
	if err != nil {
		return err
	}
	var s quota.Snapshot
	if past {
		s, err = c.Store.ReadAt(c.r.Context(), c.user, t.ForPeriod(w.Period), w.Start)
	} else {
		s, err = c.Store.Read(c.r.Context(), c.user, t)
	}
	if err != nil {
		return err
	}
	return c.show(s, claimed)
}

// audit answers GET /admin/users/{user}/audit.
func (c *call) audit() error {
	if _, err := c.query(); err != nil {
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
