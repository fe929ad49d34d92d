package jwtauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

// pipes is a listener without a network, so that time can be synctest's.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, syscallRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var syscallRefused = &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}

// A keyServer is an issuer that a test can change: its keys, and what goes wrong.
type keyServer struct {
	*httptest.Server
	handler atomic.Pointer[http.HandlerFunc]
	asked   atomic.Int64
}

// plantedKey is what the key server wants to see in the query, and nobody else is to.
const plantedKey = "planted-key-of-the-key-server"

// newKeyServer serves what set makes of the keys. It is to be called in a bubble.
func newKeyServer(t *testing.T, keys ...any) (*keyServer, *KeySet, *logged) {
	k := new(keyServer)
	k.serve(answer(jwksOf(keys...)))
	p := newPipes()
	k.Server = &httptest.Server{Listener: p, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.asked.Add(1)
		(*k.handler.Load())(w, r)
	})}}
	k.Start()
	log := new(logged)
	s := NewKeySet("http://issuer.example/keys?key="+plantedKey, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s.client.Transport.(*http.Transport).DialContext = p.dial
	t.Cleanup(func() {
		s.Retire()
		k.Close()
		s.client.CloseIdleConnections()
		synctest.Wait()
	})
	return k, s, log
}

func (k *keyServer) serve(h http.HandlerFunc) { k.handler.Store(&h) }

// A logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
}

// hang answers nothing until the client is gone.
func hang(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// named is a public key under a kid.
type named struct {
	kid string
	key crypto.Signer
}

// jwk writes a public key as RFC 7517 does, with more members.
func jwk(kid string, key crypto.PublicKey, members ...string) string {
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
	if err != nil {
		panic(err)
	}
	text := string(must(json.Marshal(j.Marshal())))
	return strings.TrimSuffix(text, "}") + strings.Join(append([]string{""}, members...), ",") + "}"
}

// jwksOf writes a set of named keys, and of what is written already.
func jwksOf(keys ...any) string {
	var texts []string
	for _, k := range keys {
		switch k := k.(type) {
		case named:
			texts = append(texts, jwk(k.kid, k.key.Public()))
		case string:
			texts = append(texts, k)
		}
	}
	return `{"keys":[` + strings.Join(texts, ",") + `]}`
}

// signAs signs a token with a key that its header names; user is who it is for. It is
// good for a day.
func signAs(k named, user string) string {
	alg := map[string]string{"*rsa.PrivateKey": "RS256", "ed25519.PrivateKey": "EdDSA", "*ecdsa.PrivateKey": "ES256"}[fmt.Sprintf("%T", k.key)]
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"sub": user, "exp": time.Now().Add(24 * time.Hour).Unix()})
	token.Header["kid"] = k.kid
	return must(token.SignedString(k.key))
}

// asymmetric are all algorithms for keys that can be published.
var asymmetric = allAlgorithms[3:]

func verifierOf(t *testing.T, s *KeySet) *Verifier {
	t.Helper()
	return newVerifier(t, Options{KeySet: s, Algorithms: asymmetric})
}

// judge verifies a token and returns the user, or the error.
func judge(v *Verifier, token string) any {
	id, err := v.Verify(request("Bearer " + token))
	if err != nil {
		return err
	}
	return id.User
}

func wantJudged(t *testing.T, v *Verifier, token string, want any) {
	t.Helper()
	if got := judge(v, token); got != want {
		t.Errorf("judged %v, want %v", got, want)
	}
}

var (
	rsaA = func() named { return named{"a", rsaKey()} }
	ecB  = func() named { return named{"b", p256Key()} }
	edC  = func() named { return named{"c", edKey()} }
)

// A new key is in use ten seconds after the first token that needs it at the latest,
// though nobody asks again meanwhile; at once if the key server was not asked in the
// last ten seconds.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := newKeyServer(t, rsaA())
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		wantJudged(t, v, signAs(rsaA(), "u"), "u")
		time.Sleep(time.Second)
		k.serve(answer(jwksOf(ecB())))
		wantJudged(t, v, signAs(ecB(), "u"), errUnknownKey) // the keys are a second old
		time.Sleep(9*time.Second - 1)
		synctest.Wait()
		if n := k.asked.Load(); n != 1 {
			t.Errorf("asked %d times within ten seconds", n)
		}
		time.Sleep(1)
		synctest.Wait()
		if n := k.asked.Load(); n != 2 {
			t.Errorf("asked %d times after ten seconds, want 2", n)
		}
		wantJudged(t, v, signAs(ecB(), "u"), "u")
		// Signed by the old key, which is not there any more; the token was known.
		wantJudged(t, v, signAs(rsaA(), "u"), errUnknownKey)

		time.Sleep(time.Minute)
		k.serve(answer(jwksOf(ecB(), edC())))
		wantJudged(t, v, signAs(edC(), "w"), "w")
	})
}

// A verdict that is remembered ends when its key is withdrawn, which is seen without
// any unknown kid; it stays when the same keys come again.
func TestWithdrawnKeyEndsVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := newKeyServer(t, rsaA(), ecB())
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		token, other := signAs(rsaA(), "u"), signAs(ecB(), "w")
		wantJudged(t, v, token, "u")
		wantJudged(t, v, other, "w")
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := k.asked.Load(); n != 7 {
			t.Errorf("asked %d times within an hour, want 7: every ten minutes", n)
		}
		if got := s.version(); got != 1 {
			t.Errorf("the keys have changed %d times", got)
		}
		schemes := v.schemes
		v.schemes = nil // whoever is not remembered is refused
		wantJudged(t, v, token, "u")
		v.schemes = schemes

		k.serve(answer(jwksOf(ecB())))
		time.Sleep(10*time.Minute - 1)
		wantJudged(t, v, token, "u")
		time.Sleep(1)
		synctest.Wait()
		wantJudged(t, v, token, errUnknownKey)
		wantJudged(t, v, other, "w")

		// Another key under the name of the one before is another key.
		k.serve(answer(jwksOf(named{"b", ecKey(p256Key().Curve)})))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		wantJudged(t, v, other, errSignature)
	})
}

// Whatever the key server does, and for as long as it does it, the keys of before stay
// in use; a new kid cannot be judged meanwhile. It is asked every ten seconds.
func TestOutage(t *testing.T) {
	huge := jwksOf(strings.Repeat(" ", 1<<20) + jwk("b", p256Key().Public()))
	for name, h := range map[string]http.HandlerFunc{
		"500":       func(w http.ResponseWriter, r *http.Request) { http.Error(w, jwksOf(ecB()), 500) },
		"204":       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", 302) },
		"hangs":     hang,
		"hangs halfway": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`)
			w.(http.Flusher).Flush()
			hang(w, r)
		},
		"breaks off": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`)
			panic(http.ErrAbortHandler)
		},
		"says nothing": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"huge":         answer(huge),
		"without end": func(w http.ResponseWriter, r *http.Request) {
			for err := error(nil); err == nil; {
				_, err = w.Write(make([]byte, 1<<16))
			}
		},
		"huge, blank": answer(jwksOf(ecB()) + strings.Repeat(" ", 1<<20)),
		"huge header": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			io.WriteString(w, jwksOf(ecB()))
		},
		"empty":          answer(""),
		"HTML":           answer("<html>login</html>"),
		"another object": answer(`{"error":"maintenance"}`),
		"no keys":        answer(`{"keys":[]}`),
		"null":           answer(`{"keys":null}`),
		"no list":        answer(`{"keys":{}}`),
		"keys twice":     answer(`{"keys":[],"keys":[` + jwk("b", p256Key().Public()) + `]}`),
		"two answers":    answer(jwksOf(ecB()) + jwksOf(ecB())),
		"a list":         answer(`[` + jwksOf(ecB()) + `]`),
		"only unfit":     answer(jwksOf(`{"kty":"oct","kid":"b","k":"AAAA"}`)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, s, log := newKeyServer(t, rsaA())
				k.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
				v := verifierOf(t, s)
				s.Start()
				synctest.Wait()
				k.serve(h)
				token := signAs(rsaA(), "u")
				time.Sleep(10 * time.Minute) // it is found out
				before := k.asked.Load()
				time.Sleep(10 * time.Minute)
				if n := k.asked.Load() - before; n < 59 || n > 61 {
					t.Errorf("asked %d times within ten minutes", n)
				}
				time.Sleep(13 * time.Second)
				synctest.Wait()
				v.cache = new(cache)
				wantJudged(t, v, token, "u")
				wantJudged(t, v, signAs(ecB(), "u"), ErrNoKeys)
				if s.Missing() != nil || s.Fault() == nil {
					t.Errorf("missing: %v, fault: %v", s.Missing(), s.Fault())
				}
				if n := strings.Count(log.String(), "level=WARN msg=\"the issuer's keys cannot be fetched; those of before stay in use\""); n != 1 {
					t.Errorf("%d warnings:\n%.2000s", n, log)
				}
				if said := log.String() + s.Fault().Error(); strings.Contains(said, plantedKey) || !strings.Contains(said, "jwks_url=http://issuer.example/keys ") {
					t.Errorf("the key in the URL is shown, or the URL is not:\n%.2000s", said)
				}
				k.serve(answer(jwksOf(ecB())))
				time.Sleep(13 * time.Second)
				synctest.Wait()
				wantJudged(t, v, signAs(ecB(), "u"), "u")
				wantJudged(t, v, token, errUnknownKey)
				if s.Fault() != nil || !strings.Contains(log.String(), "the key server answers again") {
					t.Errorf("fault: %v, log:\n%.2000s", s.Fault(), log)
				}
			})
		})
	}
}

// Before the first keys no token of theirs can be judged, good or bad; what is bad in
// itself is so all the same. They are looked for every ten seconds, and there for good.
func TestBeforeTheFirstKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, log := newKeyServer(t)
		v := newVerifier(t, Options{KeySet: s, Secret: secret, Algorithms: append([]string{"HS256"}, asymmetric...)})
		token := signAs(rsaA(), "u")
		if s.Missing() != errNotAsked {
			t.Errorf("missing: %v", s.Missing())
		}
		k.serve(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "down", 503) })
		s.Start()
		synctest.Wait()
		if err := s.Missing(); err == nil || !strings.Contains(err.Error(), "http://issuer.example/keys answers 503 Service Unavailable") {
			t.Errorf("missing: %v", err)
		}
		wantJudged(t, v, token, ErrNoKeys)
		wantJudged(t, v, token+"AAAA", ErrNoKeys)
		wantJudged(t, v, sign(`{"alg":"none","kid":"a"}`, "{}"), errSignature)
		wantJudged(t, v, sign(`{"alg":"RS256"}`, "{}"), errNoKeyID)
		hmac := must(jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "h", "exp": time.Now().Unix() + 60}).SignedString(secret))
		wantJudged(t, v, hmac, "h")
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "the gateway is not ready") {
			t.Errorf("the log: %s", log)
		}
		time.Sleep(time.Hour)
		k.serve(answer(jwksOf(rsaA())))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.Missing() != nil {
			t.Errorf("missing: %v", s.Missing())
		}
		wantJudged(t, v, token, "u")
		k.serve(hang)
		time.Sleep(2 * time.Hour)
		if s.Missing() != nil {
			t.Errorf("missing again: %v", s.Missing())
		}
	})
}

// Names made up, by the thousand: one request in ten seconds, 50 ms of waiting at the
// most, and nothing that is kept, whether the key server answers or hangs.
func TestJunkKeyIDs(t *testing.T) {
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want []any
	}{
		"answers": {answer(jwksOf(rsaA())), []any{errUnknownKey}},
		"hangs":   {hang, []any{ErrNoKeys}},
		"down":    {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, []any{ErrNoKeys}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, s, _ := newKeyServer(t, rsaA())
				v := verifierOf(t, s)
				s.Start()
				synctest.Wait()
				good := signAs(rsaA(), "u")
				time.Sleep(10 * time.Second)
				k.serve(c.h)
				before, began := k.asked.Load(), time.Now()
				var wait sync.WaitGroup
				odd := []string{"../../../../dev/null", "' OR 1=1 --", "http://127.0.0.1:1/keys", "a\x00", "A", " a", strings.Repeat("x", 256)}
				for worker := range 10 {
					wait.Go(func() {
						for i := 0; time.Since(began) < time.Minute; i++ {
							kid := fmt.Sprint("junk-", worker, "-", i)
							if i < len(odd) {
								kid = odd[i]
							}
							start := time.Now()
							got := judge(v, encode(`{"alg":"RS256","kid":`+string(must(json.Marshal(kid)))+`}`)+".e30.AAAA")
							if took := time.Since(start); took > 50*time.Millisecond {
								t.Errorf("kid %q took %v", kid, took)
							}
							if i > 0 && !slices.Contains(c.want, got) { // the first may be judged by what was fetched before
								t.Errorf("kid %q: %v, want %v", kid, got, c.want)
							}
							if judge(v, good) != "u" {
								t.Error("a good token is refused meanwhile")
							}
							time.Sleep(100 * time.Millisecond)
						}
					})
				}
				wait.Wait()
				if n := k.asked.Load() - before; n < 5 || n > 7 {
					t.Errorf("asked %d times within a minute", n)
				}
				if n := v.cache.held(); n != 1 {
					t.Errorf("%d verdicts are kept, want 1", n)
				}
			})
		})
	}
}

// The memory does not grow with what is asked for.
func TestJunkKeyIDsTakeNoMemory(t *testing.T) {
	k := httptest.NewServer(answer(jwksOf(rsaA())))
	defer k.Close()
	s := NewKeySet(k.URL, slog.New(slog.DiscardHandler))
	s.Start()
	defer s.Retire()
	v := verifierOf(t, s)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	junk := func(from, n int) {
		for i := range n {
			token := encode(fmt.Sprintf(`{"alg":"RS256","kid":"junk-%d"}`, from+i)) + ".e30.AAAA"
			if got := judge(v, token); got != errUnknownKey && got != ErrNoKeys {
				t.Fatal(got)
			}
		}
	}
	junk(0, 1000)
	before := heap()
	junk(1000, 50_000)
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("50,000 kids took %d bytes", grown)
	}
}

// A token waits for a key server that is quick, and not for one that is not; that its
// sender hangs up ends the wait and not the fetch.
func TestWaitForNewKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := newKeyServer(t, rsaA())
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		after := func(d time.Duration, keys ...any) {
			time.Sleep(time.Minute)
			k.serve(func(w http.ResponseWriter, r *http.Request) { time.Sleep(d); io.WriteString(w, jwksOf(keys...)) })
		}
		after(49*time.Millisecond, ecB())
		wantJudged(t, v, signAs(ecB(), "u"), "u")

		after(200*time.Millisecond, ecB(), edC())
		start := time.Now()
		wantJudged(t, v, signAs(edC(), "u"), ErrNoKeys)
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("waited %v", took)
		}
		wantJudged(t, v, signAs(edC(), "u"), ErrNoKeys) // it waits for the same one
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		wantJudged(t, v, signAs(edC(), "u"), "u")

		after(200*time.Millisecond, rsaA())
		ctx, hangUp := context.WithCancel(t.Context())
		hangUp()
		r := request("Bearer " + signAs(rsaA(), "u")).WithContext(ctx)
		start = time.Now()
		if _, err := v.Verify(r); err != ErrNoKeys || time.Since(start) != 0 {
			t.Errorf("one that has hung up: %v after %v", err, time.Since(start))
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		wantJudged(t, v, signAs(rsaA(), "u"), "u")
	})
}

// The kid chooses among the issuer's keys, and nothing else does.
func TestWhichKey(t *testing.T) {
	k := httptest.NewServer(answer(jwksOf(
		rsaA(), ecB(), edC(), named{"p384", p384Key()},
		jwk("ps", rsaKey().Public(), `"alg":"PS256"`, `"use":"sig"`, `"key_ops":["verify"]`))))
	defer k.Close()
	s := NewKeySet(k.URL, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err := s.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := ecKey(p256Key().Curve) // the file's key
	both := Options{KeySet: s, Secret: secret, PublicKeyPEM: publicPEM(file.Public()), Algorithms: []string{"HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"}}
	alone := both
	alone.PublicKeyPEM = nil
	signed := func(alg string, key any, header ...any) string {
		token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix()})
		for i := 0; i < len(header); i += 2 {
			token.Header[header[i].(string)] = header[i+1]
		}
		return must(token.SignedString(key))
	}
	// golang-jwt would take a signature by a key on P-256 for ES384, if it is padded.
	padded := func() string {
		text := encode(`{"alg":"ES384","kid":"b"}`) + "." + encode(fmt.Sprintf(`{"sub":"u","exp":%d}`, time.Now().Unix()+60))
		hash := sha512.Sum384([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, p256Key(), hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + encode(string(append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)))
	}()
	publicRSA := publicPEM(rsaKey().Public())
	for name, c := range map[string]struct {
		token               string
		wantBoth, wantAlone any
	}{
		"an RSA key":                        {signed("RS256", rsaKey(), "kid", "a"), "u", "u"},
		"an RSA key, PSS":                   {signed("PS256", rsaKey(), "kid", "a"), "u", "u"},
		"an EC key":                         {signed("ES256", p256Key(), "kid", "b"), "u", "u"},
		"a P-384 key":                       {signed("ES384", p384Key(), "kid", "p384"), "u", "u"},
		"an Ed25519 key":                    {signed("EdDSA", edKey(), "kid", "c"), "u", "u"},
		"the alg that the key is for":       {signed("PS256", rsaKey(), "kid", "ps"), "u", "u"},
		"another alg than the key is for":   {signed("RS256", rsaKey(), "kid", "ps"), errSignature, errSignature},
		"an alg that is not listed":         {signed("RS512", rsaKey(), "kid", "a"), errSignature, errSignature},
		"an alg for another kind":           {signed("RS256", rsaKey(), "kid", "b"), errSignature, errSignature},
		"an alg for another curve":          {signed("ES256", p256Key(), "kid", "p384"), errSignature, errSignature},
		"an alg for another curve, padded":  {padded, errSignature, errSignature},
		"the name of another key":           {signed("PS256", rsaKey(), "kid", "c"), errSignature, errSignature},
		"a name in another case":            {signed("RS256", rsaKey(), "kid", "A"), errUnknownKey, errUnknownKey},
		"a name that nobody has":            {signed("RS256", rsaKey(), "kid", "z"), errUnknownKey, errUnknownKey},
		"a path":                            {signed("RS256", rsaKey(), "kid", "../a"), errUnknownKey, errUnknownKey},
		"SQL":                               {signed("RS256", rsaKey(), "kid", "a' OR 'a'='a"), errUnknownKey, errUnknownKey},
		"no name":                           {signed("RS256", rsaKey()), errNoKeyID, errNoKeyID},
		"no name, but KID":                  {signed("RS256", rsaKey(), "KID", "a"), errNoKeyID, errNoKeyID},
		"an empty name":                     {signed("RS256", rsaKey(), "kid", ""), errKeyID, errKeyID},
		"null":                              {signed("RS256", rsaKey(), "kid", nil), errKeyID, errKeyID},
		"a number":                          {signed("RS256", rsaKey(), "kid", 7), errKeyID, errKeyID},
		"a list":                            {signed("RS256", rsaKey(), "kid", []string{"a"}), errKeyID, errKeyID},
		"a long name":                       {signed("RS256", rsaKey(), "kid", strings.Repeat("a", 257)), errKeyID, errKeyID},
		"the file's key":                    {signed("ES256", file), "u", errNoKeyID},
		"the file's key, under a name":      {signed("ES256", file, "kid", "file"), errUnknownKey, errUnknownKey},
		"the file's key, under another's":   {signed("ES256", file, "kid", "b"), errSignature, errSignature},
		"an issuer's key, without its name": {signed("ES256", p256Key()), errSignature, errNoKeyID},
		"the secret":                        {signed("HS256", secret), "u", "u"},
		"the secret, under a name":          {signed("HS256", secret, "kid", "a"), "u", "u"},
		"HMAC with a public key":            {signed("HS256", publicRSA, "kid", "a"), errSignature, errSignature},
		"jku and x5u":                       {signed("RS256", rsaKey(), "kid", "a", "jku", "http://127.0.0.1:1/", "x5u", "http://127.0.0.1:1/"), "u", "u"},
	} {
		t.Run(name, func(t *testing.T) {
			wantJudged(t, newVerifier(t, both), c.token, c.wantBoth)
			wantJudged(t, newVerifier(t, alone), c.token, c.wantAlone)
		})
	}
	t.Run("the file alone", func(t *testing.T) { // then a kid means nothing
		o := both
		o.KeySet, o.Algorithms = nil, []string{"ES256"}
		wantJudged(t, newVerifier(t, o), signed("ES256", file, "kid", "z"), "u")
	})
	t.Run("a file for one of the algorithms", func(t *testing.T) {
		v := newVerifier(t, both)
		wantJudged(t, v, signed("RS256", rsaKey()), errNoKeyID)
		wantJudged(t, v, signed("EdDSA", edKey()), errNoKeyID)
	})
}

// Over TLS the key server must be who the URL says.
func TestKeyServerIsAuthentic(t *testing.T) {
	k := httptest.NewUnstartedServer(answer(jwksOf(rsaA())))
	k.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	k.StartTLS()
	defer k.Close()
	s := NewKeySet(k.URL, slog.New(slog.DiscardHandler))
	if err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") || s.Missing() == nil {
		t.Errorf("an unknown authority: %v, missing: %v", err, s.Missing())
	}
	s = NewKeySet(k.URL, slog.New(slog.DiscardHandler))
	s.client.Transport.(*http.Transport).TLSClientConfig = k.Client().Transport.(*http.Transport).TLSClientConfig
	if err := s.Fetch(t.Context()); err != nil || s.Missing() != nil {
		t.Errorf("a known authority: %v, missing: %v", err, s.Missing())
	}
}

// A redirect leads nowhere: whoever can make one could choose the keys.
func TestNoRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Error("the redirect was followed")
		io.WriteString(w, jwksOf(rsaA()))
	}))
	defer other.Close()
	k := httptest.NewServer(http.RedirectHandler(other.URL, 307))
	defer k.Close()
	s := NewKeySet(k.URL, slog.New(slog.DiscardHandler))
	if err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("%v", err)
	}
}

// A hundred KeySets, in all states, leave nothing behind.
func TestRetire(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	hanging := make(chan bool, 100)
	k := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			hanging <- true
			hang(w, r)
		}
		io.WriteString(w, jwksOf(rsaA()))
	}))
	defer k.Close()
	var sets []*KeySet
	for i := range 100 {
		s := NewKeySet(k.URL+[]string{"/", "/hang", "/never"}[i%3], slog.New(slog.DiscardHandler))
		sets = append(sets, s)
		switch i % 3 {
		case 0:
			if err := s.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Start()
			s.Start()
		case 1:
			s.Start()
			<-hanging
		}
	}
	for _, s := range sets {
		s.Retire()
		s.Retire()
	}
	// One that is retired judges by what it has, and asks for nothing.
	v := verifierOf(t, sets[0])
	wantJudged(t, v, signAs(rsaA(), "u"), "u")
	wantJudged(t, v, signAs(ecB(), "u"), errUnknownKey)
}

// Retire breaks off what runs.
func TestRetireDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, log := newKeyServer(t)
		ended := make(chan bool, 1)
		k.serve(func(w http.ResponseWriter, r *http.Request) { hang(w, r); ended <- true })
		s.Start()
		synctest.Wait()
		s.Retire()
		synctest.Wait()
		if len(ended) != 1 || log.String() != "" {
			t.Errorf("the request is broken off: %v; the log: %s", len(ended) == 1, log)
		}
	})
}

// Readers and a set that changes all the time: a token is good, unknown or undecided,
// and never somebody else's. For the race detector.
func TestRotationConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := newKeyServer(t, rsaA())
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		end := time.Now().Add(2 * time.Minute)
		tokens := map[string]string{"u": signAs(rsaA(), "u"), "v": signAs(ecB(), "v"), "w": signAs(edC(), "w")}
		var wait sync.WaitGroup
		var goods atomic.Int64
		for user, token := range tokens {
			for range 4 {
				wait.Go(func() {
					for time.Now().Before(end) {
						switch got := judge(v, token); got {
						case user:
							goods.Add(1)
						case errUnknownKey, ErrNoKeys:
						default:
							t.Errorf("%s: %v", user, got)
						}
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
		}
		for i := 0; time.Now().Before(end); i++ {
			k.serve(answer(jwksOf([]any{rsaA(), ecB(), edC()}[i%3])))
			time.Sleep(7 * time.Second)
		}
		wait.Wait()
		if goods.Load() < 1000 {
			t.Errorf("only %d tokens were good", goods.Load())
		}
	})
}
