package tokens

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

var reloaded = regexp.MustCompile(`the configuration was reloaded","hash":"\w+"`)

// TestReloadKeepsTheCostOfOpenStreams: a stream that was open when its cost changed is charged by the cost
// that it was held at.
func TestReloadKeepsTheCostOfOpenStreams(t *testing.T) {
	more := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, hello)
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, usage) // 4,200 tokens
	}))
	defer upstream.Close()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, tokensYAML)
	g := gatewaytest.StartFile(t, []string{"STORE=embedded:" + t.TempDir(), "UPSTREAM=" + upstream.URL}, file)
	client := gatewaytest.NewClient(t)
	open := func() (end func() (cost string)) {
		req, _ := http.NewRequest(http.MethodPost, g.URL+"/v1/chat/1", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "tokens"))
		req.Header.Set("TE", "trailers")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return func() string {
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				t.Fatal(err)
			}
			return res.Header.Get("X-Usage-Cost") + " " + res.Trailer.Get("X-Usage-Cost")
		}
	}
	for i, c := range []struct {
		cost, want string
		held       int64 // by both streams
	}{
		{"cost: { max: 2, min: 0, from: \"json usage.total_tokens\", each: 1000 }", "0 2", 7 + 2},
		{"cost: { max: 90, min: 3, from: \"json usage.total_tokens\", each: 100 }", "3 42", 2 + 87},
		{"cost: 7", "7 ", 87},
	} {
		before := open()
		a := strings.Index(tokensYAML, "cost: {")
		g.Save(tokensYAML[:a] + c.cost + tokensYAML[a+strings.Index(tokensYAML[a:], "\n"):])
		g.Signal(syscall.SIGHUP)
		g.WaitForOutput(func(text string) bool { // the watcher of the file and the signal can both reload one change
			hashes := map[string]bool{}
			for _, reload := range reloaded.FindAllString(text, -1) {
				hashes[reload] = true
			}
			return len(hashes) > i
		})
		after := open()
		held := gatewaytest.Usage(t, g.Process, testkit.Token("u", "tokens")).InFlight
		more <- struct{}{}
		more <- struct{}{}
		if got := []string{before(), after()}; got[0] == got[1] || got[1] != c.want {
			t.Errorf("%s: the stream before was charged %s, the one after %s, want %s", c.cost, got[0], got[1], c.want)
		}
		if held != c.held {
			t.Errorf("%s: %d units are held, want %d", c.cost, held, c.held)
		}
	}
	if u := gatewaytest.Usage(t, g.Process, testkit.Token("u", "tokens")); u.Used != 5+2+2+42+42+7 || u.InFlight != 0 {
		t.Errorf("%d used, %d held", u.Used, u.InFlight)
	}
}
