package jwtauth

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Whatever the key server does, and however long, the previous keys stay in use. Tokens with
// a new kid cannot be verified meanwhile. There is a fetch every ten seconds.
func TestKeySetKeepsKeysDuringOutage(t *testing.T) {
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
		"too many keys":  answer(jwksOf(slices.Repeat([]any{ecB()}, 257)...)),
		"two lists":      answer(`{"keys":[],"x":{},"\u006beys":[` + jwk("b", p256Key().Public()) + `]}`),
		"half a key":     answer(strings.TrimSuffix(jwksOf(ecB()), "}]}")),
		"no end":         answer(strings.TrimSuffix(jwksOf(ecB()), "}")),
		"a stray comma":  answer(`{"keys":[],}`),
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
				time.Sleep(10 * time.Minute) // the regular fetch notices it
				before := k.asked.Load()
				time.Sleep(10 * time.Minute)
				if n := k.asked.Load() - before; n < 59 || n > 61 {
					t.Errorf("asked %d times within ten minutes", n)
				}
				time.Sleep(13 * time.Second)
				synctest.Wait()
				v.cache = new(cache)
				wantToken(t, v, token, "u")
				wantToken(t, v, signAs(ecB(), "u"), ErrNoKeys)
				if s.Missing() != nil || s.Fault() == nil {
					t.Errorf("missing: %v, fault: %v", s.Missing(), s.Fault())
				}
				if n := strings.Count(log.String(), "level=WARN msg=\"the issuer's keys cannot be fetched; the previous keys stay in use\""); n != 1 {
					t.Errorf("%d warnings:\n%.2000s", n, log)
				}
				if said := log.String() + s.Fault().Error(); strings.Contains(said, plantedKey) || !strings.Contains(said, "jwks_url=http://issuer.example/keys ") {
					t.Errorf("the key in the URL is shown, or the URL is not:\n%.2000s", said)
				}
				k.serve(answer(jwksOf(ecB())))
				time.Sleep(13 * time.Second)
				synctest.Wait()
				wantToken(t, v, signAs(ecB(), "u"), "u")
				wantToken(t, v, token, errUnknownKey)
				if s.Fault() != nil || !strings.Contains(log.String(), "the key server answers again") {
					t.Errorf("fault: %v, log:\n%.2000s", s.Fault(), log)
				}
			})
		})
	}
}

// Before the first keys, tokens of the issuer can be neither accepted nor refused, but tokens
// that no key could verify are refused. There is a fetch every ten seconds. Keys that have
// arrived stay.
func TestVerifyReturnsErrNoKeysBeforeFirstKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, log := newKeyServer(t)
		v := newVerifier(t, Options{KeySet: s, Secret: secret, Algorithms: append([]string{"HS256"}, asymmetric...)})
		token := signAs(rsaA(), "u")
		if s.Missing() != errNotFetched {
			t.Errorf("missing: %v", s.Missing())
		}
		k.serve(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "down", 503) })
		s.Start()
		synctest.Wait()
		if err := s.Missing(); err == nil || !strings.Contains(err.Error(), "http://issuer.example/keys answers 503 Service Unavailable") {
			t.Errorf("missing: %v", err)
		}
		wantToken(t, v, token, ErrNoKeys)
		wantToken(t, v, token+"AAAA", ErrNoKeys)
		wantToken(t, v, sign(`{"alg":"none","kid":"a"}`, "{}"), errSignature)
		wantToken(t, v, sign(`{"alg":"RS256"}`, "{}"), ErrNoKeys)
		wantToken(t, v, sign(`{"alg":"RS256","kid":""}`, "{}"), errKeyID)
		hmac := must(jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "h", "exp": time.Now().Unix() + 60}).SignedString(secret))
		wantToken(t, v, hmac, "h")
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
		wantToken(t, v, token, "u")
		k.serve(hang)
		time.Sleep(2 * time.Hour)
		if s.Missing() != nil {
			t.Errorf("missing again: %v", s.Missing())
		}
	})
}

// Thousands of invented names cost one fetch in ten seconds, at most 50 ms of waiting and no
// memory, whether the key server answers or hangs.
func TestUnknownKeyIDsCostOneFetchInTenSeconds(t *testing.T) {
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
							got := verifyToken(v, encode(`{"alg":"RS256","kid":`+string(must(json.Marshal(kid)))+`}`)+".e30.AAAA")
							if took := time.Since(start); took > 50*time.Millisecond {
								t.Errorf("kid %q took %v", kid, took)
							}
							if i > 0 && !slices.Contains(c.want, got) { // the first may still find the fault of the fetch before
								t.Errorf("kid %q: %v, want %v", kid, got, c.want)
							}
							if verifyToken(v, good) != "u" {
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
				if n := v.cache.size(); n != 1 {
					t.Errorf("%d verdicts are kept, want 1", n)
				}
			})
		})
	}
}

func TestUnknownKeyIDsTakeNoMemory(t *testing.T) {
	k := httptest.NewServer(answer(jwksOf(rsaA())))
	defer k.Close()
	s := NewKeySet(JWKS, k.URL, slog.New(slog.DiscardHandler))
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
			if got := verifyToken(v, token); got != errUnknownKey && got != ErrNoKeys {
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

func TestFetchVerifiesKeyServerCertificate(t *testing.T) {
	k := httptest.NewUnstartedServer(answer(jwksOf(rsaA())))
	k.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	k.StartTLS()
	defer k.Close()
	s := NewKeySet(JWKS, k.URL, slog.New(slog.DiscardHandler))
	if err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") || s.Missing() == nil {
		t.Errorf("an unknown authority: %v, missing: %v", err, s.Missing())
	}
	s = NewKeySet(JWKS, k.URL, slog.New(slog.DiscardHandler))
	s.client.Transport.(*http.Transport).TLSClientConfig = k.Client().Transport.(*http.Transport).TLSClientConfig
	if err := s.Fetch(t.Context()); err != nil || s.Missing() != nil {
		t.Errorf("a known authority: %v, missing: %v", err, s.Missing())
	}
}

// Anybody who can redirect the gateway could choose its keys.
func TestFetchFollowsNoRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Error("the redirect was followed")
		io.WriteString(w, jwksOf(rsaA()))
	}))
	defer other.Close()
	k := httptest.NewServer(http.RedirectHandler(other.URL, 307))
	defer k.Close()
	s := NewKeySet(JWKS, k.URL, slog.New(slog.DiscardHandler))
	if err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("%v", err)
	}
}
