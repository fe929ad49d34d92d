package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"metergate/quota"
)

// writeProblem answers with a problem document (RFC 9457); faults may be nil.
func writeProblem(w http.ResponseWriter, status int, detail string, faults []string) {
	writeProblemFor(w, status, "", detail, faults)
}

// writeProblemFor is writeProblem with a reason, a word for programs.
func writeProblemFor(w http.ResponseWriter, status int, reason, detail string, faults []string) {
	kind := "about:blank"
	if status == http.StatusServiceUnavailable {
		kind = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
		w.Header().Set("Retry-After", "1")
	}
	noteProblem(w, status, detail, faults)
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, status, struct {
		Type   string   `json:"type"`
		Title  string   `json:"title"`
		Status int      `json:"status"`
		Detail string   `json:"detail"`
		Reason string   `json:"reason,omitempty"`
		Faults []string `json:"faults,omitempty"`
	}{kind, http.StatusText(status), status, detail, reason, faults})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	write(w, status, v)
}

func write(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// A requestError says what is wrong with the request.
type requestError struct {
	status int
	detail string
	reason string // for programs; empty: none
}

func (e requestError) Error() string { return e.detail }

func badRequest(format string, args ...any) error {
	return requestError{status: http.StatusBadRequest, detail: fmt.Sprintf(format, args...)}
}

func unprocessable(format string, args ...any) error {
	return requestError{status: http.StatusUnprocessableEntity, detail: fmt.Sprintf(format, args...)}
}

// writeError answers with the problem document for an error.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var refused requestError
	switch {
	case errors.As(err, &refused):
		writeProblemFor(w, refused.status, refused.reason, refused.detail, nil)
	case errors.Is(err, quota.ErrInvalidChange):
		writeProblem(w, http.StatusBadRequest, invalidChangeText(err), nil)
	case errors.Is(err, quota.ErrIDConflict):
		writeProblem(w, http.StatusConflict, "Another change of this user had this Idempotency-Key within the last day. Nothing was changed: send a new change with a new key.", nil)
	case errors.Is(err, quota.ErrTooManyIDs):
		writeProblem(w, http.StatusTooManyRequests, fmt.Sprintf("%d changes of this user had an Idempotency-Key within the last day, and no more are remembered. "+
			"Nothing was changed: send this one without a key.", quota.MaxChangeIDs), nil)
	case errors.Is(err, quota.ErrTooLarge):
		writeProblem(w, http.StatusUnprocessableEntity, fmt.Sprintf("The sum would be over %d. Nothing was changed.", int64(quota.MaxAmount)), nil)
	case errors.Is(err, quota.ErrNotKept):
		writeProblem(w, http.StatusUnprocessableEntity, "at: "+err.Error()+" (store.keep).", nil)
	default:
		detail := "The store does not answer. Try again shortly."
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			detail = "The store does not answer; the change may have been made. Read the user's audit log, or send it again with the same Idempotency-Key if it had one."
		}
		writeProblem(w, http.StatusServiceUnavailable, detail, nil)
	}
}

// invalidChangeText is what is wrong with a change.
func invalidChangeText(err error) string {
	return strings.TrimPrefix(err.Error(), quota.ErrInvalidChange.Error()+": ")
}
