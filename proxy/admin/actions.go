package admin

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// An Action is what was done to a gateway as a whole, by an administrator or by a reload that
// nobody asked the admin API for. Changes of a user are in the user's audit log instead.
type Action struct {
	At     time.Time `json:"at"`
	Action string    `json:"action"` // such as "reload"
	From   string    `json:"from"`   // an address, "SIGHUP" or "file"
	Detail string    `json:"detail,omitempty"`
	Reason string    `json:"reason,omitempty"` // what the administrator gave as one
	// Outcome is "done", or "refused: " or "failed: " and why.
	Outcome string `json:"outcome"`
}

const (
	// maxActions bounds how many actions are kept.
	maxActions = 200
	// maxActionText bounds each text of an action, in bytes.
	maxActionText = 1024
)

// done is the outcome of an action that had no fault.
const done = "done"

// Actions are the last 200 actions of a gateway since it started. When a new one needs room, the
// oldest one of the kind that is there most often goes, so that an import in a thousand requests leaves
// the reload before it in the list. The methods may be called concurrently. The zero value is an empty list.
type Actions struct {
	mu   sync.Mutex
	list []Action // the oldest first
}

// Add adds an action that has just ended. Texts that are too long are cut, and control characters replaced.
func (a *Actions) Add(action Action) {
	for _, text := range []*string{&action.Action, &action.From, &action.Detail, &action.Reason, &action.Outcome} {
		*text = oneLine(*text)
	}
	if action.At.IsZero() {
		action.At = time.Now().UTC().Truncate(time.Millisecond)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == maxActions {
		a.dropOne()
	}
	a.list = append(a.list, action)
}

// dropOne drops the oldest action of the kind that is there most often.
func (a *Actions) dropOne() {
	count := map[string]int{}
	for _, action := range a.list {
		count[action.Action]++
	}
	most := slices.MaxFunc(a.list, func(x, y Action) int { return cmp.Compare(count[x.Action], count[y.Action]) })
	i := slices.IndexFunc(a.list, func(x Action) bool { return x.Action == most.Action })
	a.list = slices.Delete(a.list, i, i+1)
}

// List returns the actions, the newest first.
func (a *Actions) List() []Action {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.Clone(a.list)
	slices.Reverse(list)
	return list
}

// oneLine returns a text of at most maxActionText bytes without control characters.
func oneLine(text string) string {
	if len(text) > maxActionText {
		text = text[:maxActionText-len("...")] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
}

// OutcomeOf returns the outcome of an action that ended with an error, or without one.
func OutcomeOf(err error) string {
	if err == nil {
		return done
	}
	return "refused: " + err.Error()
}

// An actionWriter is the ResponseWriter of a request that is an action. It notes how the action ends.
type actionWriter struct {
	http.ResponseWriter
	Action
	status         int
	changedNothing bool
}

// WriteHeader notes the status of a handler that does not say what was wrong.
func (w *actionWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *actionWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// noteProblem says in the list of actions what was wrong with the one of this response.
func noteProblem(w http.ResponseWriter, status int, detail string, faults []string) {
	if a, ok := w.(*actionWriter); ok {
		a.Outcome = outcomeWord(status) + ": " + strings.Join(append([]string{detail}, faults...), " ")
	}
}

// outcomeWord says whose fault it was that an action did not take place.
func outcomeWord(status int) string {
	if status >= http.StatusInternalServerError {
		return "failed"
	}
	return "refused"
}

// noteDetail says in the list of actions what the one of this response was about.
func noteDetail(w http.ResponseWriter, format string, args ...any) {
	if a, ok := w.(*actionWriter); ok {
		a.Detail = fmt.Sprintf(format, args...)
	}
}

// noteReason says in the list of actions why the one of this response was done.
func noteReason(w http.ResponseWriter, reason string) {
	if a, ok := w.(*actionWriter); ok {
		a.Reason = reason
	}
}

// noteNoChange keeps this request out of the list of actions: it was only to be checked.
func noteNoChange(w http.ResponseWriter) {
	if a, ok := w.(*actionWriter); ok {
		a.changedNothing = true
	}
}

// audited serves an action of an administrator, and leaves one entry in the list of actions and one
// line in the log, however it ends. The handler adds to them with noteDetail and noteReason. Of a handler
// that writes a problem, the outcome says which.
func (h *handler) audited(action string, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := &actionWriter{ResponseWriter: w, Action: Action{Action: action, From: remoteHost(r)}}
		returned := false
		defer func() {
			switch {
			case a.changedNothing:
				return
			case !returned: // it panics
				a.Outcome = "failed: the response broke off"
			case a.Outcome == "" && a.status >= http.StatusBadRequest:
				a.Outcome = outcomeWord(a.status) + ": " + http.StatusText(a.status)
			case a.Outcome == "":
				a.Outcome = done
			}
			h.Actions.Add(a.Action)
			h.Log.Info("administrator's action", slog.String("action", a.Action.Action), slog.String("from", a.From),
				slog.String("detail", oneLine(a.Detail)), slog.String("reason", oneLine(a.Reason)), slog.String("outcome", oneLine(a.Outcome)))
		}()
		serve(a, r)
		returned = true
	}
}

// remoteHost identifies who makes a request. Only the address is known; a client of a Unix socket has none.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	switch {
	case err == nil:
		return host
	case r.RemoteAddr == "" || r.RemoteAddr == "@":
		return "unix socket"
	}
	return r.RemoteAddr
}

// reasonOf returns the parameter reason, which changes of a user have as well. No other is allowed.
func (h *handler) reasonOf(w http.ResponseWriter, r *http.Request) error {
	query, err := (&userRequest{Options: h.Options, w: w, r: r}).queryParams("reason")
	if err != nil {
		return err
	}
	reason := query["reason"]
	if len(reason) > maxActionText || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return badRequest("query: reason: must be at most %d bytes of UTF-8 without control characters", maxActionText)
	}
	noteReason(w, reason)
	return nil
}

// getActions serves GET /admin/audit.
func (h *handler) getActions(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Entries []Action `json:"entries"` // the newest first
	}{append([]Action{}, h.Actions.List()...)})
}
