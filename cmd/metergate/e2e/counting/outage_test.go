package counting

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A gateway that cannot reach Redis when it starts follows its on_failure rule, and says
// what is wrong.
func TestRedisDownAtStart(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t)
	redis.Stop()
	post := func(g *gatewaytest.Process) int {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode
	}
	allow := gatewaytest.StartGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=allow")
	deny := gatewaytest.StartGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=deny")
	for _, g := range []*gatewaytest.Process{allow, deny} {
		g.WaitForText("the gateway cannot count in the store")
		if status, body := gatewaytest.Get(g.Admin+"/readyz", ""); status != 200 || !strings.Contains(body, "connection refused") {
			t.Errorf("/readyz: %d %s", status, body)
		}
	}
	if got := post(allow); got != 200 {
		t.Errorf("allow: %d, want 200", got)
	}
	if got := post(deny); got != 503 {
		t.Errorf("deny: %d, want 503", got)
	}
	redis.Start()
	for _, g := range []*gatewaytest.Process{allow, deny} {
		testkit.EventuallyWithin(t, time.Minute, "the gateway counts again", func() bool { return post(g) == 200 && strings.Contains(readyz(g), `"store":"ok"`) })
	}
	if u := gatewaytest.Usage(t, deny, testkit.Token("u", "free")); u.Used == 0 {
		t.Error("nothing was counted after Redis came back")
	}
}

func readyz(g *gatewaytest.Process) string {
	_, body := gatewaytest.Get(g.Admin+"/readyz", "")
	return body
}

// A second gateway on the folder of an embedded store does not start.
func TestSecondGatewayOnEmbeddedStoreFails(t *testing.T) {
	dir := t.TempDir()
	first := gatewaytest.StartGateway(t, "embedded:"+dir, "http://127.0.0.1:9")
	file := first.Cmd.Args[len(first.Cmd.Args)-1]
	code, output := gatewaytest.Run(t, []string{"STORE=embedded:" + dir, "UPSTREAM=http://127.0.0.1:9"}, "serve", "-config", file)
	if code != 1 || !strings.Contains(output, "in use") {
		t.Errorf("a second gateway on the same folder: exit status %d:\n%s", code, output)
	}
}

// A journal that cannot be written is noticed at the start, not in an outage.
func TestUnusableJournalFailsAtStart(t *testing.T) {
	redis := redistest.Start(t)
	journal := "JOURNAL=" + t.TempDir()
	first := gatewaytest.StartGateway(t, redis.URL(), "http://127.0.0.1:9", journal)
	file := first.Cmd.Args[len(first.Cmd.Args)-1]
	env := []string{"STORE=" + redis.URL(), "UPSTREAM=http://127.0.0.1:9"}
	code, output := gatewaytest.Run(t, append(env, journal), "serve", "-config", file)
	if code != 1 || !strings.Contains(output, "in use") {
		t.Errorf("a second gateway with the same journal: exit status %d:\n%s", code, output)
	}
	code, output = gatewaytest.Run(t, append(env, "JOURNAL="+file), "serve", "-config", file)
	if code != 1 || !strings.Contains(output, "store.journal: opening the journal") || !strings.Contains(output, file) {
		t.Errorf("a file as the journal's folder: exit status %d:\n%s", code, output)
	}
}

// In an outage, requests get a 503 or are admitted by the last known usage, the usage is
// marked stale, and the metrics show a backlog. After the outage the counts are exact.
func TestOutageKeepsCounts(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	allow := gatewaytest.StartGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=allow", gatewaytest.Patient)
	deny := gatewaytest.StartGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=deny", gatewaytest.Patient)
	token := testkit.Token("u", "free")
	post := func(g *gatewaytest.Process) *http.Response {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	post(allow)
	post(deny)
	redis.Kill()
	for i := range 10 {
		if res := post(allow); res.StatusCode != 200 || res.Header.Get("X-Usage") != fmt.Sprintf("%d/100", 2+i) {
			// In its own last answer from Redis, one request was counted.
			t.Errorf("allow: %s, X-Usage %s", res.Status, res.Header.Get("X-Usage"))
		}
		if res := post(deny); res.StatusCode != 503 {
			t.Errorf("deny: %s, want 503", res.Status)
		}
	}
	if u := gatewaytest.Usage(t, allow, token); !u.Stale || u.Used != 11 {
		t.Errorf("usage in an outage: %d, stale %v", u.Used, u.Stale)
	}
	if _, body := gatewaytest.Get(allow.Admin+"/metrics", ""); !strings.Contains(body, "metergate_journal_backlog 10") || !strings.Contains(body, "metergate_store_breakers_open 1") {
		t.Errorf("the metrics do not show the outage:\n%s", body)
	}
	// The gateway is killed during the outage. The next one counts what is in its
	// journal.
	allow.Kill()
	redis.Start()
	again := allow.Restart()
	testkit.EventuallyWithin(t, time.Minute, "everything is counted", func() bool {
		u := gatewaytest.Usage(t, again, token)
		return u.Used == 12 && u.InFlight == 0 && !u.Stale
	})
	testkit.EventuallyWithin(t, time.Minute, "the other gateway serves", func() bool { return post(deny).StatusCode == 200 })
	if u := gatewaytest.Usage(t, again, token); u.Used != 13 {
		t.Errorf("%d used, want 13", u.Used)
	}
}
