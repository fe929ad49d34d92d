package operating

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"metergate/cmd/metergate/app"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// hostileUsers are user ids that a valid token may have. Each means something to a
// component on the way, or is similar to another id.
var hostileUsers = []string{
	// Patterns and tags of Redis, and the fields and keys of the stores.
	"*", "?", "[a-z]", "u*", `\*`, "{tag}", "{tag}x", "}{", "user", "user/held/", "used/2026-11/analyze", "held/2026-11",
	"lease/x", "done/x", "retain/2026-11", "sweep", "attempts", "metergate:{u}", "u:changes", "u:probe",
	// Each id is a prefix of the next, or looks the same.
	"u", "u1", "u11", "u11 ", " u11", "U", "é", "e\u0301", "admin", "аdmin", // the last in Cyrillic
	// Paths, flags, shells and languages.
	"../..", "../../etc/passwd", "/", ".", "C:\\x", "-h", "--config=/etc/passwd", "$(id)", "`id`", "; rm -rf x", "%s%d%n", "${JWT_SECRET}",
	`"`, `\`, `'`, `","user":"x`, `{"user":"admin"}`, "null", "true", "0", "<script>alert(1)</script>", "a&b=c#d", "level=ERROR msg=x", "data: x",
	// Encodings of something else.
	"%00", "%0d%0a", "%2e%2e%2f", "a+b", `\r\n`, `\u0000`, "=?utf-8?q?x?=",
	// Text that is shown as something else, or not at all.
	" ", "\u00a0", "\u202eresu", "\u2066x\u2069", "ad\u200bmin", "\u200d", "\ufeffu", "\u00adu", "\U000e0041u", "日本語", "\ufffd",
	strings.Repeat("😀", 64), strings.Repeat("😀", 63) + "😁", strings.Repeat("a", 256),
}

// refusedUsers are subjects, as JSON, that a token may not have.
var refusedUsers = []string{
	`""`, `null`, `17`, `["u"]`, `{"u":1}`, `"a\r\nb"`, `"a\nb"`, `"a\rb"`, `"\u0000"`, `"a\u0000b"`, `"\u001b[2J"`, `"\u007f"`, `"\u0085"`,
	`"\u2028"`, `"\u2029"`, `"` + strings.Repeat("a", 257) + `"`, `"` + strings.Repeat("😀", 64) + `a"`, "\"\xff\"", "\"\xed\xa0\x80\"", `"\ud800"`, "\"a\nb\"",
}

// tokenOf signs a token whose subject is any text, even if it is not JSON.
func tokenOf(subject string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"sub":%s,"plan":"free","exp":%d}`, subject, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(testkit.Secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// A hostility is a gateway with hostile users.
type hostility struct {
	*testing.T
	gateway *gatewaytest.Process
	client  *http.Client
	sent    *atomic.Int64 // what reached the API
}

// call makes a request to the API and returns its status.
func (h *hostility) call(token string) (status int) {
	h.Helper()
	req, _ := http.NewRequest("POST", h.gateway.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := h.client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// want checks what each user has used: calls(i) and more.
func (h *hostility) want(more int64) {
	h.Helper()
	for i, user := range hostileUsers {
		u := gatewaytest.Usage(h.T, h.gateway, testkit.Token(user, "free"))
		if want := calls(i) + more; u.User != user || u.Used != want || u.InFlight != 0 || u.Endpoints["analyze"].Used != want {
			h.Errorf("%q has used %d, %+v, and is named %q; want %d", user, u.Used, u.Endpoints, u.User, want)
		}
	}
}

// calls is how many calls the user at index i makes. Neighbours make different numbers.
func calls(i int) int64 { return int64(1 + i%5) }

// watch reads a user's stream until it shows the final count. It fails if the stream ever
// shows another user or a higher count.
func (h *hostility) watch(user string, final int64, opened *sync.WaitGroup) error {
	req, _ := http.NewRequest("GET", h.gateway.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token(user, "free"))
	res, err := h.client.Do(req)
	if err != nil {
		opened.Done()
		return err
	}
	defer res.Body.Close()
	first := true
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if first {
			first = false
			opened.Done()
		}
		var u quota.Usage
		if err := json.Unmarshal([]byte(data), &u); err != nil || u.User != user || u.Used > final {
			return fmt.Errorf("%s, error %v", data, err)
		}
		if u.Used == final {
			return nil
		}
	}
	if first {
		opened.Done()
	}
	return fmt.Errorf("the stream ended, status %s", res.Status)
}

// series returns the names and labels of the gateway's metrics.
func (h *hostility) series() []string {
	h.Helper()
	status, body := gatewaytest.Get(h.gateway.Admin+"/metrics", "")
	if status != 200 {
		h.Fatalf("/metrics: %d", status)
	}
	var names []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "metergate_") {
			names = append(names, line[:strings.LastIndexByte(line, ' ')])
		}
	}
	slices.Sort(names)
	return names
}

// requestLines parses the log, every line of which must be JSON. It returns how many
// lines about requests to the API with a status there are for each user.
func (h *hostility) requestLines(status int) map[string]int64 {
	h.Helper()
	users := map[string]int64{}
	text := h.gateway.Output()
	for line := range strings.Lines(text[:strings.LastIndexByte(text, '\n')+1]) {
		var entry struct {
			Time, Level, Msg, Path, User string
			Status                       int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" {
			h.Fatalf("a line of the log is %q, error %v", line, err)
		}
		if entry.Msg == "request" && entry.Path == "/api/analyze" && entry.Status == status {
			users[entry.User]++
		}
	}
	return users
}

// everybody makes the calls of all users, with their streams open, and checks the
// streams, the counts, the metrics and the log.
func (h *hostility) everybody() {
	h.Helper()
	// Create all series that there are to be in the metrics.
	var warm sync.WaitGroup
	warm.Add(1)
	h.call(testkit.Token("somebody", "free"))
	if err := h.watch("somebody", 1, &warm); err != nil {
		h.Fatal(err)
	}
	gatewaytest.Usage(h.T, h.gateway, testkit.Token("somebody", "free"))
	if status := h.call(tokenOf(`""`)); status != 401 {
		h.Errorf("a token without a subject got %d", status)
	}
	var before []string
	testkit.EventuallyWithin(h.T, time.Minute, "the first requests are in the metrics", func() bool {
		before = h.series()
		return slices.ContainsFunc(before, func(s string) bool { return strings.Contains(s, `code="2xx",method="GET",route="GET /usage/stream"`) }) &&
			slices.ContainsFunc(before, func(s string) bool { return strings.Contains(s, `code="4xx",method="POST",route="POST /api/analyze"`) })
	})

	var opened, watching sync.WaitGroup
	for i, user := range hostileUsers {
		opened.Add(1)
		watching.Go(func() {
			if err := h.watch(user, calls(i), &opened); err != nil {
				h.Errorf("the stream of %q: %v", user, err)
			}
		})
	}
	opened.Wait()
	h.sent.Store(0)
	want := int64(0)
	for round := range int64(5) {
		for i, user := range hostileUsers {
			if round >= calls(i) {
				continue
			}
			want++
			if status := h.call(testkit.Token(user, "free")); status != 200 {
				h.Errorf("%q: status %d", user, status)
			}
		}
	}
	for _, subject := range refusedUsers {
		if status := h.call(tokenOf(subject)); status != 401 {
			h.Errorf("the subject %s: status %d, want 401", subject, status)
		}
	}
	if h.sent.Load() != want {
		h.Errorf("%d requests reached the API, want %d", h.sent.Load(), want)
	}
	watching.Wait()
	h.want(0)
	if after := h.series(); !slices.Equal(before, after) {
		h.Errorf("the metrics had\n%s\nand have\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	testkit.EventuallyWithin(h.T, time.Minute, "all requests are in the log", func() bool {
		return h.requestLines(401)[""] == int64(1+len(refusedUsers))
	})
	lines := h.requestLines(200)
	delete(lines, "somebody")
	for i, user := range hostileUsers {
		if lines[user] != calls(i) {
			h.Errorf("%q has %d lines in the log, want %d", user, lines[user], calls(i))
		}
		delete(lines, user)
	}
	if len(lines) > 0 {
		h.Errorf("the log has other users: %v", lines)
	}
}

// restart kills the gateway and starts another one.
func (h *hostility) restart(store, upstream string, env ...string) {
	h.Helper()
	h.gateway.Kill()
	h.gateway = gatewaytest.StartGateway(h.T, store, upstream, env...)
}

// files returns the names of the files below a folder.
func (h *hostility) files(dir string) (names []string) {
	h.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	return names
}

// Whatever its id is, each user has a count of their own, on every gateway, after a crash
// and through the journal. Their stream shows only their own numbers. The metrics show no
// user, the log has one line of JSON for each request, and no id makes a file or a key of
// its own.
func TestHostileUsersStayApart(t *testing.T) {
	seen := map[string]bool{}
	for _, user := range hostileUsers {
		if seen[user] {
			t.Fatalf("%q is in the list twice", user)
		}
		seen[user] = true
	}
	setup := func(t *testing.T, store string, env ...string) (*hostility, string) {
		h := &hostility{T: t, client: gatewaytest.NewClient(t), sent: new(atomic.Int64)}
		upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { h.sent.Add(1) }))
		t.Cleanup(upstream.Close)
		h.gateway = gatewaytest.StartGateway(t, store, upstream.URL, env...)
		return h, upstream.URL
	}

	t.Run("embedded", func(t *testing.T) {
		dir := t.TempDir()
		h, upstream := setup(t, "embedded:"+dir)
		h.everybody()
		h.restart("embedded:"+dir, upstream)
		h.want(0)
		if got := h.files(dir); !slices.Equal(got, []string{"usage.db"}) {
			t.Errorf("the store's folder has the files %q", got)
		}
	})

	t.Run("redis", func(t *testing.T) {
		redis, journal := redistest.Start(t), t.TempDir()
		faultProxy := redistest.StartFaultProxy(t, redis.Addr)
		env := []string{gatewaytest.Patient, "ON_FAILURE=allow", "JOURNAL=" + journal}
		h, upstream := setup(t, faultProxy.URL(), env...)
		h.everybody()

		key := regexp.MustCompile(`^metergate:\{[A-Za-z0-9_-]{22}\}$`)
		users := map[string]bool{"somebody": true}
		for _, k := range redis.Do("KEYS", "*").([]any) {
			name := k.(string)
			if name == "metergate:identity:{3560}" || script.IsCheckKey(name) { // see docs/failures.md and docs/operate.md
				continue
			}
			if !key.MatchString(name) {
				t.Errorf("Redis has a key %q", name)
				continue
			}
			users[redis.Do("HGET", name, "user").(string)] = true
		}
		if len(users) != 1+len(hostileUsers) {
			t.Errorf("Redis has %d users, want %d", len(users), 1+len(hostileUsers))
		}
		for _, user := range hostileUsers {
			if !users[user] {
				t.Errorf("Redis does not have %q", user)
			}
		}

		// During an outage the counts go to the journal, where the next gateway finds
		// them.
		faultProxy.RefuseConnections(true)
		faultProxy.CutConnections()
		for _, user := range hostileUsers {
			if status := h.call(testkit.Token(user, "free")); status != 200 {
				t.Errorf("%q in an outage: status %d", user, status)
			}
		}
		h.want(1)
		h.restart(redis.URL(), upstream, env...)
		h.want(1)
		if got := h.files(journal); !slices.Equal(got, []string{"journal.db"}) {
			t.Errorf("the journal's folder has the files %q", got)
		}
	})
}

// In the text format of the log, too, a user's id is one value on one line, and control
// sequences for terminals are escaped.
func TestTextLogEscapesHostileUsers(t *testing.T) {
	for _, user := range hostileUsers {
		var text strings.Builder
		log, _, _ := app.NewLog(config.Log{Format: "text"}, &text)
		log.Info("request", slog.String("user", user), slog.String("plan", "free"))
		line, more, _ := strings.Cut(text.String(), "\n")
		if more != "" || !strings.HasSuffix(line, " plan=free") || strings.Count(line, " plan=") != 1+strings.Count(user, " plan=") ||
			strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is logged as %q", user, text.String())
		}
	}
}
