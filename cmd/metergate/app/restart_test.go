package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Every setting that only a restart can change is named and kept; a setting that a reload
// can change is neither.
func TestRestartWarningsNameWhatIsKept(t *testing.T) {
	const limitLine = "plans: { free: { limits: [{ requests: 5, per: month }] } }"
	running := settings{upstream: "http://127.0.0.1:9", limit: 5}
	for _, c := range []struct {
		warned   string // empty: not at all
		old, new string
	}{
		{"listen", `listen: "127.0.0.1:0"` + "\nadmin", `listen: "127.0.0.1:1"` + "\nadmin"},
		{"idle_timeout", "admin", "idle_timeout: 10m\nadmin"},
		{"admin.listen", `admin: { listen: "127.0.0.1:0" }`, `admin: { listen: "127.0.0.1:1" }`},
		{"store.url", "embedded:data", "embedded:elsewhere"},
		{"store.on_failure", `"embedded:data"`, `"embedded:data", on_failure: deny`},
		{"store.on_data_loss", `"embedded:data"`, `"embedded:data", on_data_loss: deny`},
		{"store.timeout", `"embedded:data"`, `"embedded:data", timeout: 1s`},
		{"store.protocol", `"embedded:data"`, `"embedded:data", protocol: 2`},
		{"history.keep", limitLine, limitLine + "\nhistory: { keep: 35d }"},
		{"billing.keep", limitLine, limitLine + "\nbilling: {}"},
		{"timezone", limitLine, limitLine + "\ntimezone: Europe/Zurich"},
		{"log.format", limitLine, limitLine + "\nlog: { format: text }"},
		{"", limitLine, limitLine + "\nlog: { level: warn }"},
		{"", "requests: 5", "requests: 6"},
	} {
		dir := t.TempDir()
		text := running.yaml()
		if !strings.Contains(text, c.old) {
			t.Fatalf("the configuration has no %s:\n%s", c.old, text)
		}
		before, wanted := parse(t, dir, text), parse(t, dir, strings.Replace(text, c.old, c.new, 1))
		var want []string
		if c.warned != "" {
			want = []string{c.warned + " has changed in the file; it takes a restart, and the old value stays in force"}
		}
		if got := restartWarnings(before, wanted); !slices.Equal(got, want) {
			t.Errorf("%s: warnings %q, want %q", c.new, got, want)
		}
		kept := keepUntilRestart(before, wanted)
		if got := restartWarnings(before, kept); len(got) > 0 {
			t.Errorf("%s: the kept configuration still differs: %q", c.new, got)
		}
		if c.warned == "" && fmt.Sprint(kept.Redacted()) != fmt.Sprint(wanted.Redacted()) {
			t.Errorf("%s: the new value is not in force", c.new)
		}
	}
}

// store.tls is for new connections, as long as they are to the same Redis.
func TestRestartWarningsAboutStoreTLS(t *testing.T) {
	const embedded, redis = `url: "embedded:data"`, `url: "rediss://h"`
	text := strings.Replace(settings{upstream: "http://127.0.0.1:9", limit: 5}.yaml(), embedded, redis, 1)
	changed := strings.Replace(text, redis, redis+", tls: { server_name: redis.internal }", 1)
	running, wanted := parse(t, t.TempDir(), text), parse(t, t.TempDir(), changed)
	wanted.Store.Journal = running.Store.Journal
	if got := restartWarnings(running, wanted); len(got) > 0 {
		t.Errorf("the same Redis: warnings %q", got)
	}
	if kept := keepUntilRestart(running, wanted); kept.Store.TLS != wanted.Store.TLS {
		t.Error("the same Redis: store.tls is not in force")
	}
	wanted.Store.URL = "rediss://other"
	if got := restartWarnings(running, wanted); len(got) != 2 || !strings.HasPrefix(got[0], "store.url ") || !strings.HasPrefix(got[1], "store.tls ") {
		t.Errorf("another Redis: warnings %q", got)
	}
	if kept := keepUntilRestart(running, wanted); kept.Store.TLS != nil {
		t.Error("another Redis: store.tls is in force")
	}
}
