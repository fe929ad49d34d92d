package billing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A receiver is a billing service. Its methods may be called concurrently.
type receiver interface {
	// properties of the service.
	properties() properties
	// prepare completes an event before it is sent. It may make it silent.
	prepare(*event)
	// show returns what is sent for an event, to be printed as JSON.
	show(event) any
	// request returns the request that sends 1 to properties.most events.
	request(ctx context.Context, url string, events []event) (*http.Request, error)
	// judge says what an answer other than 2xx means for n events. nil: what judgeStatus says.
	judge(status int, body []byte, n int) *verdict
}

// properties of a receiver.
type properties struct {
	name       string
	defaultURL string // empty if -url must be given
	path       string // what is added to a URL without a path
	needsToken bool
	most       int     // events in a request
	rate       float64 // requests a second, if nobody says otherwise
}

// receivers has them by the name that users write.
var receivers = map[string]func(*Options) receiver{
	"cloudevents": func(o *Options) receiver { return cloudEvents{o.Source} },
	"openmeter":   func(o *Options) receiver { return openMeter{cloudEvents{o.Source}} },
	"stripe":      func(o *Options) receiver { return stripe{units: o.Units} },
	"lago":        func(*Options) receiver { return lago{} },
}

// ReceiverNames has the values of Options.To, as users are told them.
const ReceiverNames = "openmeter, stripe, lago or cloudevents"

// resolve returns the address to send to.
func (p properties) resolve(base string) (string, error) {
	if base == "" {
		base = p.defaultURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Fragment != "" {
		return "", fmt.Errorf("must be a URL like https://%s.example.com, without a user or password", p.name)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = p.path
	}
	return u.String(), nil
}

// A verdict is what an answer means for the events of a request.
type verdict struct {
	kind verdictKind
	// text is what the receiver said, for people.
	text string
	// wait is how long the receiver wants to be left alone; 0: it does not say.
	wait time.Duration
	// answered: it answered 500 or the like, which an event may have caused. 502 to 504 and 429 say that
	// it is down or busy.
	answered bool
	// Of sorted: which events are there already, and why others are refused, by index. The rest of
	// the request was not taken.
	duplicates []int
	refused    map[int]string
}

type verdictKind int

const (
	accepted  verdictKind = iota
	duplicate             // the event, the only one, was there already
	rejected              // something is wrong with one event or more; nobody knows which
	sorted                // something is wrong with events that are known
	again                 // nothing is wrong with the events: try again
	hopeless              // nothing that is sent will be taken
)

// judgeStatus is the verdict that follows from the status alone.
func judgeStatus(status, n int) verdictKind {
	switch {
	case status >= 200 && status < 300:
		return accepted
	case status == http.StatusConflict && n == 1:
		return duplicate
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return again
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusMethodNotAllowed,
		status == http.StatusGone, status == http.StatusNotImplemented, status < 400:
		return hopeless
	case status >= 500:
		return again
	}
	return rejected
}

// judge returns the verdict on an answer for n events.
func judge(r receiver, res *http.Response, body []byte, n int) verdict {
	v := verdict{kind: judgeStatus(res.StatusCode, n)}
	if v.kind != accepted {
		if own := r.judge(res.StatusCode, body, n); own != nil {
			v = *own
		}
	}
	v.answered = res.StatusCode == http.StatusInternalServerError || res.StatusCode > http.StatusGatewayTimeout
	v.wait = retryAfter(res.Header, time.Now())
	if v.text == "" {
		v.text = strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode)
		if said := excerpt(body); said != "" {
			v.text += ": " + said
		}
		if to := res.Header.Get("Location"); res.StatusCode >= 300 && res.StatusCode < 400 && to != "" {
			v.text += fmt.Sprintf(": it redirects to %.200q, which is not followed", to)
		}
	}
	return v
}

// retryAfter returns how long a receiver wants to be left alone: Retry-After or, as Lago has it,
// X-RateLimit-Reset; 0 if it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if text == "" && h.Get("X-RateLimit-Remaining") == "0" {
		text = h.Get("X-RateLimit-Reset")
	}
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// excerpt returns what a body says to people, on one line.
func excerpt(body []byte) string {
	var problem struct {
		Error   json.RawMessage `json:"error"`
		Detail  string          `json:"detail"`
		Message string          `json:"message"`
	}
	text := string(body)
	if json.Unmarshal(body, &problem) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		switch {
		case problem.Detail != "":
			text = problem.Detail
		case problem.Message != "":
			text = problem.Message
		case json.Unmarshal(problem.Error, &inner) == nil && inner.Message != "":
			text = inner.Message
		}
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }), " ")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "..."
	}
	return text
}

// postJSON returns a POST with a body in JSON.
func postJSON(ctx context.Context, url, contentType string, body any) (*http.Request, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err == nil {
		req.Header.Set("Content-Type", contentType)
	}
	return req, err
}
