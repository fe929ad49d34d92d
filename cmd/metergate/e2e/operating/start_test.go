package operating

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// The log at the start says what runs where.
func TestStartLogsWhatRunsWhere(t *testing.T) {
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	dir := t.TempDir()
	g := gatewaytest.StartGateway(t, "embedded:"+dir, upstream.URL)
	for _, want := range []string{`"msg":"store","at":"embedded in ` + dir + `"`, `"msg":"upstream","name":"analysis","targets":"` + upstream.URL + `"`,
		`"msg":"serving","listen":"` + strings.TrimPrefix(g.URL, "http://") + `","tls":false,"admin":"` + strings.TrimPrefix(g.Admin, "http://") + `","admin_api":false`} {
		if !strings.Contains(g.Output(), want) {
			t.Errorf("no %s in:\n%s", want, g.Output())
		}
	}
}

// The log has one word for the counts that wait, and one for what an outage means: those of the
// metric and of the configuration.
func TestLogOfAnOutageUsesTheWordsOfTheConfiguration(t *testing.T) {
	g := gatewaytest.StartGateway(t, "redis://127.0.0.1:1", "http://127.0.0.1:1", "JOURNAL="+t.TempDir(), "ON_FAILURE=allow")
	for range 10 {
		gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token("u", "free"))
	}
	g.WaitForText("the gateway cannot count in the store")
	said := 0
	for line := range strings.Lines(g.Output()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if value, ok := fields["on_failure"]; ok {
			said++
			if value != "allow" {
				t.Errorf("on_failure is %v in %s", value, line)
			}
		}
		_, counts := fields["backlog"]
		if counts != (fields["msg"] == "store") {
			t.Errorf("backlog in %s", line)
		}
	}
	if said != 2 { // at the start, and for the outage
		t.Errorf("%d lines with on_failure:\n%s", said, g.Output())
	}
}

// What net/http has to say about a target goes to the gateway's log, in its format and at
// level debug: it quotes the response, which is a user's.
func TestOddResponsesAreLoggedAtDebug(t *testing.T) {
	for _, level := range []string{"debug", "info"} {
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more")
			io.Copy(io.Discard, conn) // until the gateway closes the connection, which is after it has logged
			conn.Close()
		}))
		g := gatewaytest.StartGateway(t, "embedded:"+t.TempDir(), upstream.URL, "LEVEL="+level)
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		upstream.Close()
		g.WaitForText(`"msg":"request"`)
		if level == "debug" {
			g.WaitForText("and more")
		}
		for line := range strings.Lines(g.Output()) {
			var fields struct{ Level, Msg string }
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("%s: %v: %s", level, err, line)
			}
			if strings.Contains(line, "and more") && fields.Level != "DEBUG" {
				t.Errorf("%s: %s", level, line)
			}
		}
	}
}
