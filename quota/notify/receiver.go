package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// postTimeout bounds a request to the receiver, its answer included.
	postTimeout = 10 * time.Second
	// maxAnswer bounds what is read of the body of an answer. A connection whose answer is longer is
	// closed.
	maxAnswer = 16 << 10
	// maxRetryAfter bounds the Retry-After of an answer.
	maxRetryAfter = 15 * time.Minute
)

// A Receiver is the webhook that events are sent to. It is safe for concurrent use.
type Receiver struct {
	url     string
	signers []*standardwebhooks.Webhook
	client  *http.Client
	timeout time.Duration // of a request
}

// NewReceiver returns the receiver at an URL. Events are signed with each of the secrets.
func NewReceiver(url string, secrets []string) (*Receiver, error) {
	r := &Receiver{url: url, timeout: postTimeout, client: &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    postsAtOnce,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// Events have the ids of users, and go nowhere but where the operator has said.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, secret := range secrets {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, err
		}
		r.signers = append(r.signers, signer)
	}
	return r, nil
}

// An Answer is what the receiver has answered.
type Answer struct {
	Status string // such as "204 No Content"
	Body   string // the beginning of its body
	Took   time.Duration

	code       int           // such as 204; 0: there was no answer
	retryAfter time.Duration // 0: it does not say
}

// IsUnauthorized reports whether the receiver does not take the gateway for the sender: it may have another secret.
func (a Answer) IsUnauthorized() bool {
	return a.code == http.StatusUnauthorized || a.code == http.StatusForbidden
}

// refusesEvent reports whether the receiver did not accept an event for what it says, such as with 400 or 422.
// Another event may be accepted. All other failures are those of the receiver: it is down or overloaded, or its
// address or the secret is wrong.
func (a Answer) refusesEvent() bool {
	switch a.code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone,
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return a.code/100 == 4 && a.retryAfter == 0
}

// Post sends an event. The error says why it was not accepted, without the URL, which may have a
// secret in its query. The Answer is zero if there was none.
func (r *Receiver) Post(ctx context.Context, e Event) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	req, err := r.request(ctx, e)
	if err != nil {
		return Answer{}, err
	}
	began := time.Now()
	res, err := r.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it did not answer within %v", r.timeout)
		}
		return Answer{}, err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // the status has decided
	a := Answer{Status: strings.TrimSpace(res.Status), Body: string(body), Took: time.Since(began), code: res.StatusCode}
	if a.code/100 == 2 {
		return a, nil
	}
	a.retryAfter = parseRetryAfter(res.Header.Get("Retry-After"), time.Now())
	if a.code/100 == 3 {
		return a, fmt.Errorf("it answers %s, and redirects are not followed", a.Status)
	}
	return a, fmt.Errorf("it answers %s", a.Status)
}

// request returns the request with an event, signed as of now.
func (r *Receiver) request(ctx context.Context, e Event) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(e.body))
	if err != nil {
		return nil, errors.New("the URL of the receiver is not valid")
	}
	now := time.Now()
	var signatures []string
	for _, signer := range r.signers {
		signature, err := signer.Sign(e.ID, now, e.body)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Metergate")
	req.Header.Set(standardwebhooks.HeaderWebhookID, e.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	// An empty list is not sent. It tells net/http to send the request again if the receiver has closed an idle
	// connection: an event may arrive more than once.
	req.Header["X-Idempotency-Key"] = []string{}
	return req, nil
}

// parseRetryAfter returns for how long a Retry-After says to wait, at most maxRetryAfter; 0: it says nothing.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// close closes the connections that are not in use.
func (r *Receiver) close() { r.client.CloseIdleConnections() }
