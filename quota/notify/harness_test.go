package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"metergate/quota"
	"metergate/quota/testkit"
)

const (
	secret    = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	oldSecret = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk"
)

// A clock is moved by the test. Between that, it runs.
type clock struct {
	mu     sync.Mutex
	ahead  time.Duration
	frozen time.Time // zero: it runs
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen.Add(c.ahead)
	}
	return time.Now().Add(c.ahead)
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// A memory is a small quota.Crossings.
type memory struct {
	now func() time.Time

	mu        sync.Mutex
	crossings map[string][]quota.Crossing
	due       map[string]time.Time
	tokens    map[string]int64
	nextToken int64
	again     map[string][]time.Duration // what EndClaim was told
	claimed   int                        // accounts, in all
	fails     bool
	keeps     bool           // EndCrossings and EndClaim fail
	ended     map[string]int // by the id of a crossing
}

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, crossings: map[string][]quota.Crossing{}, due: map[string]time.Time{}, tokens: map[string]int64{},
		again: map[string][]time.Duration{}, ended: map[string]int{}}
}

// cross records a crossing.
func (m *memory) cross(account string, threshold int) quota.Crossing {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now().Truncate(time.Millisecond)
	c := quota.Crossing{
		ID: quota.CrossingID(account, "month", "2026-11", threshold, 100, 0), Account: account, At: now, Plan: "free",
		Limit: "month", Unit: "requests", Used: int64(threshold), Allowance: 100, Threshold: threshold, ResetsAt: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
	}
	m.crossings[account] = append(m.crossings[account], c)
	if _, ok := m.due[account]; !ok {
		m.due[account] = now
	}
	return c
}

func (m *memory) ClaimCrossings(_ context.Context, most int) (claims quota.CrossingClaims, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails {
		return claims, io.ErrUnexpectedEOF
	}
	now := m.now()
	for _, list := range m.crossings {
		if len(list) == 0 {
			continue
		}
		claims.Waiting++
		if claims.Oldest.IsZero() || list[0].At.Before(claims.Oldest) {
			claims.Oldest = list[0].At
		}
	}
	var accounts []string
	for account, due := range m.due {
		if !due.After(now) {
			accounts = append(accounts, account)
		}
	}
	slices.SortFunc(accounts, func(a, b string) int { return m.due[a].Compare(m.due[b]) })
	for _, account := range accounts[:min(most, len(accounts))] {
		m.nextToken++
		m.tokens[account] = m.nextToken
		m.due[account] = now.Add(quota.ClaimLife)
		m.claimed++
		claims.Claims = append(claims.Claims, quota.CrossingClaim{Account: account, Token: m.nextToken})
	}
	return claims, nil
}

func (m *memory) CrossingsOf(_ context.Context, account string) ([]quota.Crossing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.crossings[account]), nil
}

func (m *memory) EndCrossings(_ context.Context, account string, ids []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keeps {
		return io.ErrUnexpectedEOF
	}
	m.crossings[account] = slices.DeleteFunc(m.crossings[account], func(c quota.Crossing) bool { return slices.Contains(ids, c.ID) })
	for _, id := range ids {
		m.ended[id]++
	}
	return nil
}

func (m *memory) EndClaim(_ context.Context, c quota.CrossingClaim, again time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again[c.Account] = append(m.again[c.Account], again)
	if m.keeps {
		return io.ErrUnexpectedEOF
	}
	if m.tokens[c.Account] != c.Token {
		return nil
	}
	if m.due[c.Account] = m.now().Add(again); len(m.crossings[c.Account]) == 0 {
		delete(m.due, c.Account)
	}
	return nil
}

// setKeeps makes the store drop nothing, or as usual.
func (m *memory) setKeeps(keeps bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keeps = keeps
}

// waiting is how many accounts have crossings.
func (m *memory) waiting() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range m.crossings {
		n += min(1, len(list))
	}
	return n
}

func (m *memory) delays(account string) []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.again[account])
}

// A received is an event that a hook has got, signed as it must be.
type received struct {
	ID, Body string
	message
	User, Org string
}

// A hook is a real receiver. It verifies each event with the library, as a user would.
type hook struct {
	*httptest.Server
	secret string
	answer http.HandlerFunc // nil: 204. It may be called at the same time by several requests
	// answerTo is answer for what depends on the event.
	answerTo func(w http.ResponseWriter, e received)

	mu  sync.Mutex
	got []received
	bad []string // requests that are not right
}

func newHook(t *testing.T, answer http.HandlerFunc) *hook {
	t.Helper()
	h := &hook{secret: secret, answer: answer}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e := h.note(r, body)
	if h.answerTo != nil {
		h.answerTo(w, e)
		return
	}
	if h.answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.answer(w, r)
}

func (h *hook) note(r *http.Request, body []byte) received {
	h.mu.Lock()
	defer h.mu.Unlock()
	verifier, err := standardwebhooks.NewWebhook(h.secret)
	if err == nil {
		err = verifier.Verify(body, r.Header)
	}
	e := received{ID: r.Header.Get("webhook-id"), Body: string(body)}
	if err == nil {
		err = json.Unmarshal(body, &e.message)
	}
	if d := e.Data; d.User != nil {
		e.User = *d.User
	}
	if d := e.Data; d.Org != nil {
		e.Org = *d.Org
	}
	switch {
	case err != nil:
		h.bad = append(h.bad, err.Error())
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Idempotency-Key") != "":
		h.bad = append(h.bad, fmt.Sprint(r.Method, r.Header))
	}
	h.got = append(h.got, e)
	return e
}

func (h *hook) events() []received {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// check reports events that were not signed, or whose body was another one for the same id.
func (h *hook) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.bad {
		t.Error(b)
	}
	bodies := map[string]string{}
	for _, e := range h.got {
		if other, ok := bodies[e.ID]; ok && other != e.Body {
			t.Errorf("%s has two bodies:\n%s\n%s", e.ID, other, e.Body)
		}
		bodies[e.ID] = e.Body
	}
}

// A bench is a Sender with a store, whose clock is moved.
type bench struct {
	*testing.T
	*clock
	store  *memory
	sender *Sender
	log    *logText
}

// newBench starts a Sender that sends to url.
func newBench(t *testing.T, url string) *bench {
	t.Helper()
	b := &bench{T: t, clock: &clock{frozen: time.Now()}, log: &logText{}}
	b.store = newMemory(b.Now)
	b.sender = b.newSender(url)
	return b
}

func (b *bench) newSender(url string) *Sender {
	b.Helper()
	s := New(Options{
		Store: b.store, StoreNow: b.Now, Now: b.Now, PollEvery: 5 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		NameOf: func(id string) string { return "name-of-" + id },
	})
	s.SetReceiver(receiverAt(b.T, url))
	b.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func receiverAt(t *testing.T, url string) *Receiver {
	t.Helper()
	r, err := NewReceiver(url, []string{secret})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// until waits until a condition holds.
func (b *bench) until(what string, holds func() bool) {
	b.Helper()
	testkit.Eventually(b.T, what, holds)
}

// untilLater is until while the clock is moved on, for what comes after some tries.
func (b *bench) untilLater(what string, holds func() bool) {
	b.Helper()
	b.until(what, func() bool {
		b.Add(5 * time.Second)
		return holds()
	})
}

// A logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
