package jwtauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// refreshEvery is how long a key that the issuer has withdrawn can still be used.
	refreshEvery = 10 * time.Minute
	// askEvery is the least time from one request to the key server to the next,
	// whatever the reason: an unknown kid, or that the last one failed.
	askEvery = 10 * time.Second
	// judgeWait is the longest that a token with an unknown kid waits for new keys.
	judgeWait = 50 * time.Millisecond
	// fetchTimeout and maxSet bound an answer of the key server.
	fetchTimeout = 3 * time.Second
	maxSet       = 1 << 20 // bytes
)

// ErrNoKeys: a token cannot be judged, because its issuer's keys are not there yet, or
// its kid is new and the key server does not answer. It may be good.
var ErrNoKeys = errors.New("the issuer's keys are not there")

// errNotAsked is why there are no keys before the key server has been asked.
var errNotAsked = errors.New("they have not been fetched yet")

// A KeySet has the public keys that an issuer publishes as a JSON Web Key Set (RFC
// 7517), and keeps them up to date: it asks every ten minutes, and when a token names
// a key that is not there, but never twice within ten seconds. So a new key is in use
// ten seconds after the first token that needs it, and tokens with names made up cost
// nothing. While the key server does not answer, or not with keys, those of before
// stay in use.
//
// Parsing and lookup are those of keyfunc and jwkset. Their HTTP client is not used: a
// refresh for an unknown kid runs within the request that asked for it, and its limit
// of waiting ends the fetch as well, so that with 50 ms no key server that is further
// away than that ever gives a new key; an answer without keys, {} say, deletes all of
// them; one key that is odd makes it refuse all; and before the first keys it asks
// again after an hour.
//
// It is safe for concurrent use.
type KeySet struct {
	url    string
	shown  string // the URL without its query, which may hold a key
	client *http.Client
	log    *slog.Logger

	stored *jwkset.MemoryJWKSet
	find   jwt.Keyfunc   // in stored, by kid, for the alg of the token
	seen   atomic.Uint64 // changes of stored so far; 0: there have been no keys

	start  sync.Once
	ctx    context.Context
	retire context.CancelFunc
	wake   chan struct{} // one slot: the loop has something to look at

	// Of the last answer that could be read, for the one fetch that runs at a time.
	answer      [sha256.Size]byte
	answerFault error

	mu      sync.Mutex
	running chan struct{} // closed when the fetch that runs, or is about to, ends; nil: none
	asked   time.Time     // when the last fetch began; zero: never
	wanted  bool          // a token needs another one
	fault   error         // of the last fetch; nil: it went well
	failing bool          // the log knows
}

// NewKeySet returns a KeySet of an http or https URL. It asks for nothing before Fetch
// or Start.
func NewKeySet(url string, log *slog.Logger) *KeySet {
	shown, _, _ := strings.Cut(url, "?")
	s := &KeySet{
		url:   url,
		shown: shown,
		log:   log.With("jwks_url", shown),
		client: &http.Client{
			// One request in ten minutes needs no connection that stays.
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
			// Whoever can redirect the gateway could choose its keys.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		stored: jwkset.NewMemoryStorage(),
		wake:   make(chan struct{}, 1),
		fault:  errNotAsked,
	}
	f, err := keyfunc.New(keyfunc.Options{Storage: s.stored, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
	if err != nil {
		panic("jwtauth: " + err.Error()) // it wants a Storage, which it has
	}
	s.find = f.Keyfunc
	s.ctx, s.retire = context.WithCancel(context.Background())
	return s
}

// Fetch asks for the keys now, unless that was done less than ten seconds ago. It is for
// before Start, by one caller. The error says what is wrong with the key server.
func (s *KeySet) Fetch(ctx context.Context) error {
	if !s.begin() {
		return s.Fault()
	}
	err := s.fetch(ctx)
	s.end(err)
	return err
}

// Start keeps the keys up to date until Retire. A second Start changes nothing.
func (s *KeySet) Start() { s.start.Do(func() { go s.loop() }) }

// Retire ends what Start has begun. The keys stay as they are.
func (s *KeySet) Retire() { s.retire() }

// Missing says why there are no keys yet; nil: there are, and will be.
func (s *KeySet) Missing() error {
	if s.version() > 0 {
		return nil
	}
	return s.Fault()
}

// Fault says why the last fetch has failed; nil: it has not.
func (s *KeySet) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// version changes when the keys do. A nil KeySet has 0.
func (s *KeySet) version() uint64 {
	if s == nil {
		return 0
	}
	return s.seen.Load()
}

func (s *KeySet) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if s.begin() {
			s.end(s.fetch(s.ctx))
		}
		s.mu.Lock()
		timer.Reset(time.Until(s.due()))
		s.mu.Unlock()
	}
}

// due is when to fetch again. The caller has the lock.
func (s *KeySet) due() time.Time {
	switch {
	case s.asked.IsZero():
		return s.asked
	case s.wanted || s.fault != nil:
		return s.asked.Add(askEvery)
	}
	return s.asked.Add(refreshEvery)
}

// begin notes that a fetch begins, if one is due.
func (s *KeySet) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Until(s.due()) > 0 {
		return false
	}
	s.asked, s.wanted = time.Now(), false
	if s.running == nil {
		s.running = make(chan struct{})
	}
	return true
}

// end notes how a fetch went, and says it in the log when that is news.
func (s *KeySet) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
	close(s.running)
	s.running = nil
	switch {
	case s.ctx.Err() != nil: // it was broken off
	case err == nil && s.failing:
		s.failing = false
		s.log.Info("the key server answers again")
	case err != nil && !s.failing && s.version() == 0:
		s.failing = true
		s.log.Warn("the issuer's keys cannot be fetched; until they are, its tokens are answered 503 and the gateway is not ready", "error", err)
	case err != nil && !s.failing:
		s.failing = true
		s.log.Warn("the issuer's keys cannot be fetched; those of before stay in use", "error", err)
	case err != nil:
		s.log.Debug("the issuer's keys cannot be fetched", "error", err)
	}
}

// key returns the key for a token's header, which has a kid and an alg. Errors:
// errUnknownKey, errSignature if the key is not for this alg, ErrNoKeys.
func (s *KeySet) key(ctx context.Context, header map[string]any) (any, error) {
	token := &jwt.Token{Header: header}
	key, err := s.find(token)
	if errors.Is(err, jwkset.ErrKeyNotFound) && s.renewed(ctx) {
		key, err = s.find(token)
	}
	switch {
	case err == nil:
		return key, nil
	case !errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, errSignature
	case s.fresh():
		return nil, errUnknownKey
	}
	return nil, ErrNoKeys
}

// renewed asks for new keys, and waits a moment for them. It reports whether it is
// worth to look again.
func (s *KeySet) renewed(ctx context.Context) bool {
	running := s.ask()
	if running == nil {
		return false
	}
	timer := time.NewTimer(judgeWait)
	defer timer.Stop()
	select {
	case <-running:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// ask says that a token needs keys which are not there. It returns what is closed at
// the end of the fetch that runs or begins; nil: it is too early for another one.
func (s *KeySet) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil || s.ctx.Err() != nil {
		return s.running
	}
	if !s.wanted {
		s.wanted = true
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	if time.Until(s.due()) <= 0 {
		s.running = make(chan struct{})
	}
	return s.running
}

// fresh reports whether a kid that is not there is unknown to the issuer, too, as far
// as that could be asked.
func (s *KeySet) fresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running == nil && s.fault == nil
}

// fetch asks the key server, and puts the keys in use if it gives any.
func (s *KeySet) fetch(ctx context.Context) error {
	text, err := s.get(ctx)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(text); sum != s.answer {
		s.answer, s.answerFault = sum, s.use(text)
	}
	return s.answerFault
}

// use puts the keys of an answer in use.
func (s *KeySet) use(text []byte) error {
	keys, unfit, err := parseSet(text)
	if err != nil {
		return err
	}
	for _, u := range unfit {
		s.log.Warn("a key of the issuer is not used", "kid", u.kid, "reason", u.reason)
	}
	if len(keys) == 0 {
		return fmt.Errorf("the answer has no key that can be used, and %d that cannot", len(unfit))
	}
	if err := s.stored.KeyReplaceAll(context.Background(), keys); err != nil {
		return err
	}
	s.seen.Add(1) // not before they are there: what is found with older ones is older
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Marshal().KID
	}
	s.log.Info("the issuer's keys have changed", "kids", names)
	return nil
}

// get returns the key server's answer.
func (s *KeySet) get(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "metergate")
	res, err := s.client.Do(req)
	if err != nil {
		// A *url.Error shows the whole URL.
		if of := (*url.Error)(nil); errors.As(err, &of) {
			err = fmt.Errorf("asking %s: %w", s.shown, of.Err)
		}
		return nil, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode/100 == 3:
		return nil, fmt.Errorf("%s answers %s, and redirects are not followed; configure the URL that has the keys", s.shown, res.Status)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", s.shown, res.Status)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxSet+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer of %s: %w", s.shown, err)
	case len(text) > maxSet:
		return nil, fmt.Errorf("the answer of %s has more than 1 MiB", s.shown)
	}
	return text, nil
}
