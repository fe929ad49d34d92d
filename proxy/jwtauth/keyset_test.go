package jwtauth

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// A new key is in use at most ten seconds after the first token that needs it, even if no
// other token needs it meanwhile. It is in use at once if the last fetch was more than ten
// seconds ago.
func TestKeySetUsesNewKeyWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := newKeyServer(t, rsaA())
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		wantToken(t, v, signAs(rsaA(), "u"), "u")
		time.Sleep(time.Second)
		k.serve(answer(jwksOf(ecB())))
		wantToken(t, v, signAs(ecB(), "u"), errUnknownKey) // the keys are a second old
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
		wantToken(t, v, signAs(ecB(), "u"), "u")
		// The old key is gone, and with it the verdict on its token.
		wantToken(t, v, signAs(rsaA(), "u"), errUnknownKey)

		time.Sleep(time.Minute)
		k.serve(answer(jwksOf(ecB(), edC())))
		wantToken(t, v, signAs(edC(), "w"), "w")
	})
}

// A verdict ends when its key is withdrawn, which the regular fetch notices. It stays if the
// same keys are fetched again.
func TestVerdictEndsWhenItsKeyIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := newKeyServer(t, rsaA(), ecB())
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		token, other := signAs(rsaA(), "u"), signAs(ecB(), "w")
		wantToken(t, v, token, "u")
		wantToken(t, v, other, "w")
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := k.asked.Load(); n != 7 {
			t.Errorf("asked %d times within an hour, want 7: every ten minutes", n)
		}
		if got := s.version(); got != 1 {
			t.Errorf("the keys have changed %d times", got)
		}
		issuer := v.issuers[0]
		schemes := issuer.schemes
		issuer.schemes = nil // a token that is not remembered is refused
		wantToken(t, v, token, "u")
		issuer.schemes = schemes

		k.serve(answer(jwksOf(ecB())))
		time.Sleep(10*time.Minute - 1)
		wantToken(t, v, token, "u")
		time.Sleep(1)
		synctest.Wait()
		wantToken(t, v, token, errUnknownKey)
		wantToken(t, v, other, "w")

		// A new key under an old name is another key.
		k.serve(answer(jwksOf(named{"b", ecKey(p256Key().Curve)})))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		wantToken(t, v, other, errSignature)
	})
}

// A token waits for a quick key server and not for a slow one. A client that hangs up ends
// the wait, and not the fetch.
func TestVerifyWaitsAtMost50msForNewKeys(t *testing.T) {
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
		wantToken(t, v, signAs(ecB(), "u"), "u")

		after(200*time.Millisecond, ecB(), edC())
		start := time.Now()
		wantToken(t, v, signAs(edC(), "u"), ErrNoKeys)
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("waited %v", took)
		}
		wantToken(t, v, signAs(edC(), "u"), ErrNoKeys) // it waits for the same fetch
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		wantToken(t, v, signAs(edC(), "u"), "u")

		after(200*time.Millisecond, rsaA())
		ctx, hangUp := context.WithCancel(t.Context())
		hangUp()
		start = time.Now()
		if _, err := v.Verify(ctx, signAs(rsaA(), "u")); err != ErrNoKeys || time.Since(start) != 0 {
			t.Errorf("a client that has hung up: %v after %v", err, time.Since(start))
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		wantToken(t, v, signAs(rsaA(), "u"), "u")
	})
}

// While the keys change all the time, a token is accepted, its key is unknown, or it cannot
// be verified. It never becomes another user's. The race detector watches.
func TestVerifyDuringKeyRotation(t *testing.T) {
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
						switch got := verifyToken(v, token); got {
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

// A hundred KeySets in different states leave no goroutine behind.
func TestRetireLeavesNoGoroutine(t *testing.T) {
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
		s := NewKeySet(JWKS, k.URL+[]string{"/", "/hang", "/never"}[i%3], slog.New(slog.DiscardHandler))
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
	// A retired KeySet still verifies with the keys it has, and fetches nothing.
	v := verifierOf(t, sets[0])
	wantToken(t, v, signAs(rsaA(), "u"), "u")
	wantToken(t, v, signAs(ecB(), "u"), errUnknownKey)
}

func TestRetireCancelsRunningFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, log := newKeyServer(t)
		ended := make(chan bool, 1)
		k.serve(func(w http.ResponseWriter, r *http.Request) { hang(w, r); ended <- true })
		s.Start()
		synctest.Wait()
		s.Retire()
		synctest.Wait()
		if len(ended) != 1 || log.String() != "" {
			t.Errorf("the request was cancelled: %v; the log: %s", len(ended) == 1, log)
		}
	})
}
