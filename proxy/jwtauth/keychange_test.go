package jwtauth

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A fetch writes at most one line, of a bounded length, whatever the response has.
func TestFetchLogsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("x", 60_000)
		keys := []any{rsaA(), jwk("a\u2028b", edKey().Public())}
		for i := range 254 {
			keys = append(keys, fmt.Sprintf(`{"kty":"%s","kid":"bad-%d"}`, long[:i], i))
		}
		keys[2] = `{"kty":"RSA","kid":"` + long[:300] + `"}`
		keys[3] = `{"kty":"RSA","alg":"` + long + `"}`
		keys[4] = `{"kty":"x\r\ny\u0085z","kid":"k\r\nl"}`
		k, s, log := newKeyServer(t, keys...)
		lines := func() string { text := log.String(); log.reset(); return text }
		s.Start()
		synctest.Wait()
		text := lines()
		if strings.Count(text, "\n") != 1 || len(text) > 5000 {
			t.Errorf("the first fetch logs %d lines, %d bytes:\n%.3000s", strings.Count(text, "\n"), len(text), text)
		}
		for _, want := range []string{"level=WARN", `msg="the issuer's keys have changed; some are not used"`, `kids="[a ab]"`, "bad-3: ", "(no kid): its alg ", "kl: ", "and 246 more"} {
			if !strings.Contains(text, want) {
				t.Errorf("the log lacks %s:\n%s", want, text)
			}
		}
		// The same again says nothing.
		time.Sleep(time.Hour)
		synctest.Wait()
		if text := lines(); text != "" {
			t.Errorf("nothing is new, and the log says:\n%s", text)
		}
		// A response that differs each time: one line for each.
		k.serve(func(w http.ResponseWriter, r *http.Request) {
			answer(strings.Replace(jwksOf(keys...), "{", fmt.Sprintf(`{"n":%d,`, k.asked.Load()), 1))(w, r)
		})
		before := k.asked.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if asked, text := int(k.asked.Load()-before), lines(); strings.Count(text, "\n") != asked {
			t.Errorf("%d fetches and %d lines", asked, strings.Count(text, "\n"))
		}
		// None that can be used, and then better ones: one line for each.
		k.serve(answer(jwksOf(keys[2:]...)))
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if text := lines(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "no key that can be used: ") || !strings.Contains(text, "and 246 more") {
			t.Errorf("no key that can be used:\n%.3000s", text)
		}
		if fault := s.Fault().Error(); len(fault) > 5000 || strings.ContainsAny(fault, "\r\n") {
			t.Errorf("the fault has %d bytes: %.3000q", len(fault), fault)
		}
		k.serve(answer(jwksOf(ecB())))
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if text := lines(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `msg="the key server answers again, and the issuer's keys have changed" `) || !strings.Contains(text, "kids=[b]") {
			t.Errorf("good keys again:\n%s", text)
		}
	})
}
