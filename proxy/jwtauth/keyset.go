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
	// refreshEvery is the time between two regular fetches. A key that the issuer has withdrawn
	// can be used for that long.
	refreshEvery = 10 * time.Minute
	// minInterval is the least time between two fetches, whatever the reason: an unknown kid,
	// or a failed fetch.
	minInterval = 10 * time.Second
	// maxTokenWait is the longest time that a token with an unknown kid waits for new keys.
	maxTokenWait = 50 * time.Millisecond
	// fetchTimeout and maxResponseBytes bound a response of the key server.
	fetchTimeout     = 3 * time.Second
	maxResponseBytes = 1 << 20
)

// ErrNoKeys says that a token cannot be verified: its issuer's keys have not been fetched
// yet, or its kid is new and the key server does not answer. The token may be good.
var ErrNoKeys = errors.New("the issuer's keys are not available")

// errNotFetched is the fault of a KeySet before its first fetch.
var errNotFetched = errors.New("they have not been fetched yet")

// A Form is the form in which an issuer publishes its keys. Its text is the key of the
// configuration for a URL with keys of this form.
type Form string

const (
	// JWKS is a JSON Web Key Set (RFC 7517).
	JWKS Form = "jwks_url"
	// X509 is a JSON object with a PEM text for each key, which has its certificate. The names are
	// the kids. Firebase and other services of Google publish this.
	X509 Form = "x509_url"
)

// A KeySet has the public keys that an issuer publishes, and keeps them up to date. It fetches them every ten minutes, and when a token names a key that
// it does not have, but never twice within ten seconds. So a new key is in use at most ten
// seconds after the first token that needs it, and tokens with invented names cost nothing.
// While the key server does not answer, or does not answer with keys, the previous keys stay
// in use.
//
// keyfunc and jwkset parse the keys and look them up. Their HTTP client is not used, for four
// reasons:
//
//   - A refresh for an unknown kid runs within the request that needs it, and its time limit
//     ends the fetch too. With 50 ms, a key server further away could never give a new key.
//   - A response without keys, such as {}, deletes all keys.
//   - One odd key makes it refuse all keys.
//   - Before the first keys it tries again only after an hour.
//
// A KeySet is safe for concurrent use.
type KeySet struct {
	form   Form
	url    string
	shown  string // the URL without its query, which may contain a key
	client *http.Client
	log    *slog.Logger

	stored *jwkset.MemoryJWKSet
	lookUp jwt.Keyfunc   // finds a key in stored, by the kid and alg of a token
	change atomic.Uint64 // how often stored has changed; 0: there have been no keys

	start  sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // one slot: the loop has to compute its next fetch anew

	// The last response that could be read, and its fault. Only the one fetch that runs at a
	// time uses them.
	response      [sha256.Size]byte
	responseFault error

	mu         sync.Mutex
	running    chan struct{} // closed at the end of the fetch that runs or is about to; nil if there is none
	lastFetch  time.Time     // when the last fetch began; zero before the first
	needed     bool          // a token needs another fetch
	fault      error         // of the last fetch; nil if it was successful
	faultKnown bool          // the log has reported the fault
}

// NewKeySet returns a KeySet of an http or https URL. It fetches nothing before Fetch or
// Start.
func NewKeySet(form Form, url string, log *slog.Logger) *KeySet {
	shown, _, _ := strings.Cut(url, "?")
	s := &KeySet{
		form:  form,
		url:   url,
		shown: shown,
		log:   log.With(string(form), shown),
		client: &http.Client{
			// One request in ten minutes needs no idle connection.
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
			// Anybody who can redirect the gateway could choose its keys.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		stored: jwkset.NewMemoryStorage(),
		wake:   make(chan struct{}, 1),
		fault:  errNotFetched,
	}
	f, err := keyfunc.New(keyfunc.Options{Storage: s.stored, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
	if err != nil {
		panic("jwtauth: " + err.Error()) // it fails only without a Storage
	}
	s.lookUp = f.Keyfunc
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Fetch fetches the keys now, unless the last fetch was less than ten seconds ago. It is for
// one caller, before Start. The error says what is wrong with the key server.
func (s *KeySet) Fetch(ctx context.Context) error {
	if !s.beginFetch() {
		return s.Fault()
	}
	change, err := s.fetch(ctx)
	s.endFetch(change, err)
	return err
}

// Start keeps the keys up to date until Retire. A second Start has no effect.
func (s *KeySet) Start() { s.start.Do(func() { go s.loop() }) }

// Retire ends what Start has begun. The keys stay as they are and can still be used.
func (s *KeySet) Retire() { s.cancel() }

// Missing says why there are no keys yet. It is nil from the first keys on.
func (s *KeySet) Missing() error {
	if s.version() > 0 {
		return nil
	}
	return s.Fault()
}

// Asked reports whether the key server has been asked, whatever it has answered.
func (s *KeySet) Asked() bool { return s.Fault() != errNotFetched }

// Fault says why the last fetch has failed. It is nil if the fetch was successful.
func (s *KeySet) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// version changes when the keys do. It is 0 before the first keys, and for a nil KeySet.
func (s *KeySet) version() uint64 {
	if s == nil {
		return 0
	}
	return s.change.Load()
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
		if s.beginFetch() {
			s.endFetch(s.fetch(s.ctx))
		}
		s.mu.Lock()
		timer.Reset(time.Until(s.nextFetch()))
		s.mu.Unlock()
	}
}

// nextFetch returns when to fetch again. The caller holds the lock.
func (s *KeySet) nextFetch() time.Time {
	switch {
	case s.lastFetch.IsZero():
		return s.lastFetch
	case s.needed || s.fault != nil:
		return s.lastFetch.Add(minInterval)
	}
	return s.lastFetch.Add(refreshEvery)
}

// beginFetch notes that a fetch begins. It returns false if none is due.
func (s *KeySet) beginFetch() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Until(s.nextFetch()) > 0 {
		return false
	}
	s.lastFetch, s.needed = time.Now(), false
	if s.running == nil {
		s.running = make(chan struct{})
	}
	return true
}

// endFetch notes the result of a fetch. It logs one line if the keys or the result have
// changed; change is nil if the keys have not.
func (s *KeySet) endFetch(change *keyChange, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
	close(s.running)
	s.running = nil
	switch {
	case s.ctx.Err() != nil: // the fetch was cancelled
	case err == nil:
		change.log(s.log, s.faultKnown)
		s.faultKnown = false
	case !s.faultKnown && s.version() == 0:
		s.faultKnown = true
		s.log.Warn("the issuer's keys cannot be fetched; until they are, its tokens are answered 503 and the gateway is not ready", "error", err)
	case !s.faultKnown:
		s.faultKnown = true
		s.log.Warn("the issuer's keys cannot be fetched; the previous keys stay in use", "error", err)
	default:
		s.log.Debug("the issuer's keys cannot be fetched", "error", err)
	}
}

// fetch downloads the keys and puts them in use. It returns nil for a response that it has
// seen before.
func (s *KeySet) fetch(ctx context.Context) (change *keyChange, err error) {
	text, err := s.download(ctx)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(text); sum != s.response {
		change, err = s.install(text)
		s.response, s.responseFault = sum, err
	}
	return change, s.responseFault
}

// install puts the keys of a response in use.
func (s *KeySet) install(text []byte) (*keyChange, error) {
	parse := parseKeySet
	if s.form == X509 {
		parse = parsePEMTexts
	}
	keys, unusable, err := parse(text)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0 && len(unusable) == 0:
		return nil, errors.New("the response has no keys")
	case len(keys) == 0:
		return nil, fmt.Errorf("the response has no key that can be used: %s", strings.Join(describeUnusable(unusable), "; "))
	}
	if err := s.stored.KeyReplaceAll(context.Background(), keys); err != nil {
		return nil, err
	}
	// After the keys are stored: a verdict that was made meanwhile counts as one by old keys.
	s.change.Add(1)
	return &keyChange{keys, unusable}, nil
}

// download returns the key server's response.
func (s *KeySet) download(ctx context.Context) ([]byte, error) {
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
		if urlError := (*url.Error)(nil); errors.As(err, &urlError) {
			err = fmt.Errorf("fetching %s: %w", s.shown, urlError.Err)
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
	text, err := io.ReadAll(io.LimitReader(res.Body, maxResponseBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the response of %s: %w", s.shown, err)
	case len(text) > maxResponseBytes:
		return nil, fmt.Errorf("the response of %s is larger than 1 MiB", s.shown)
	}
	return text, nil
}
