package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"metergate/quota"
)

// Upstreams are the upstreams of the configuration in force. The methods are called
// concurrently.
type Upstreams interface {
	// List returns them by name.
	List() []Upstream
	// SetDrained drains a target, or ends its drain, and returns the upstream after that. changed
	// is false if there was nothing to do. Errors: ErrNoUpstream, ErrNoTarget, ErrLastTarget.
	SetDrained(upstream, url string, drained bool, by TargetDrain) (u Upstream, changed bool, err error)
}

// Errors of Upstreams.SetDrained.
var (
	ErrNoUpstream = errors.New("no such upstream")
	ErrNoTarget   = errors.New("no such target, or one of weight 0")
	ErrLastTarget = errors.New("no other target could serve")
)

// An Upstream is what the admin API shows of one.
type Upstream struct {
	Name    string           `json:"name"`
	Balance string           `json:"balance"`
	Timeout string           `json:"timeout"` // as the configuration has it, such as "2m0s"
	Targets []UpstreamTarget `json:"targets"`
	// YAML is what to paste into the configuration so that it says the same: its targets, with weight 0
	// for those that are drained.
	YAML string `json:"yaml"`
}

// An UpstreamTarget is one of an upstream's targets.
type UpstreamTarget struct {
	URL    string `json:"url"`
	Weight int    `json:"weight"` // 0: it is not checked and gets no requests
	// Share is the part of the requests that it gets now, 0 to 1.
	Share        float64      `json:"share"`
	Healthy      bool         `json:"healthy"`
	CheckError   string       `json:"check_error"` // empty: the last check succeeded
	EjectedUntil *time.Time   `json:"ejected_until"`
	Drained      *TargetDrain `json:"drained"`
	InFlight     int          `json:"in_flight"`
}

// A TargetDrain says since when, by whom and why a target is drained.
type TargetDrain struct {
	Since  time.Time `json:"since"`
	From   string    `json:"from"`
	Reason string    `json:"reason"`
}

// An UpstreamList is the answer to GET /admin/upstreams.
type UpstreamList struct {
	Upstreams []Upstream `json:"upstreams"`
}

// getUpstreams serves GET /admin/upstreams.
func (h *handler) getUpstreams(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, UpstreamList{h.Upstreams.List()})
}

// setDrained serves POST /admin/upstreams/{upstream}/drain and /undrain.
func (h *handler) setDrained(drained bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, err := h.drain(w, r, drained)
		if err != nil {
			writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, u)
	}
}

func (h *handler) drain(w http.ResponseWriter, r *http.Request, drained bool) (Upstream, error) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	if _, err := c.queryParams(); err != nil {
		return Upstream{}, err
	}
	target := ""
	by := TargetDrain{Since: time.Now().UTC(), From: remoteHost(r)}
	if err := c.decodeBody(true, members{"url": &target, "reason": &by.Reason}); err != nil {
		return Upstream{}, err
	}
	if len(by.Reason) > maxActionText || !utf8.ValidString(by.Reason) || strings.ContainsFunc(by.Reason, unicode.IsControl) {
		return Upstream{}, badRequest("body: reason: must be at most %d bytes of UTF-8 without control characters", maxActionText)
	}
	if target == "" {
		return Upstream{}, badRequest("body: url: the URL of a target is required, as GET /admin/upstreams shows it")
	}
	name := r.PathValue("upstream")
	noteReason(w, by.Reason)
	noteDetail(w, "%s of %s", target, name)
	u, changed, err := h.Upstreams.SetDrained(name, target, drained, by)
	switch {
	case errors.Is(err, ErrNoUpstream):
		return u, requestError{status: http.StatusNotFound, reason: "unknown_upstream", detail: fmt.Sprintf("The configuration has no upstream %.80q; %s.", name, quota.ListNames("upstream", upstreamNames(h.Upstreams.List())))}
	case errors.Is(err, ErrNoTarget):
		return u, requestError{status: http.StatusUnprocessableEntity, reason: "unknown_target", detail: fmt.Sprintf("body: url: upstream %s has no target %.200q that gets requests; %s.", name, target, quota.ListNames("target", targetURLs(u)))}
	case errors.Is(err, ErrLastTarget):
		return u, requestError{status: http.StatusConflict, reason: "last_target", detail: fmt.Sprintf("%s is not drained, because no other target of %s is healthy, not ejected and not drained. Undrain or add one first.", target, name)}
	case err != nil:
		return u, err
	case !changed && drained:
		noteDetail(w, "%s of %s, which was drained already", target, name)
	case !changed:
		noteDetail(w, "%s of %s, which was not drained", target, name)
	}
	return u, nil
}

func upstreamNames(all []Upstream) (names []string) {
	for _, u := range all {
		names = append(names, u.Name)
	}
	return names
}

func targetURLs(u Upstream) (urls []string) {
	for _, t := range u.Targets {
		if t.Weight > 0 {
			urls = append(urls, t.URL)
		}
	}
	return urls
}
