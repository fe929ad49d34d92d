package operating

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// wantRun runs the program, which must exit with a status and print something.
func wantRun(t *testing.T, status int, want string, args ...string) string {
	t.Helper()
	code, out := gatewaytest.Run(t, nil, args...)
	if code != status || !strings.Contains(out, want) {
		t.Fatalf("%q: exit status %d, want %d; output\n%s\nwant %q", args, code, status, out, want)
	}
	return out
}

// All that a gateway has of its users moves from the embedded store to a Redis, from there to a Cluster under another
// prefix, and back. A gateway that runs on either store is noticed, and so are users that are there already.
func TestMoveBetweenStores(t *testing.T) {
	t.Parallel()
	upstream := gatewaytest.StartUpstream(t, "ok")
	first := t.TempDir()
	p := gatewaytest.StartWithOrganisationsAndAnchors(t, "embedded:"+first, upstream.URL)
	client := gatewaytest.NewClient(t)
	for i := range 5 {
		gatewaytest.Post(client, p.URL+"/api/analyze", testkit.Token(fmt.Sprintf("u-%d", i), "free"))
	}
	gatewaytest.Administer(t, p, "POST", "/admin/users/u-1/grants", `{"requests":7,"reason":"for a friend"}`)
	gatewaytest.Administer(t, p, "PUT", "/admin/users/u-2/plan", `{"plan":"enterprise"}`)
	gatewaytest.Administer(t, p, "PUT", "/admin/orgs/acme/members/m-1/counts", `{"per":"month","endpoints":{"analyze":3}}`)
	shown := func(g *gatewaytest.Process) (text string) {
		for _, path := range []string{"/admin/users/u-1", "/admin/users/u-1/audit", "/admin/users/u-2", "/admin/users/u-3/history", "/admin/orgs/acme/members/m-1", "/admin/users?at=" + month()} {
			status, body := gatewaytest.Get(g.Admin+path, gatewaytest.AdminToken)
			text += fmt.Sprintf("%s %d %s\n", path, status, asOf.ReplaceAllString(sorted(path, body), ""))
		}
		return text
	}
	before := shown(p)
	redis := redistest.Start(t)
	wantRun(t, 1, "stop the gateway first", "move", "-from", "embedded:"+first, "-to", redis.URL())
	p.Signal(syscall.SIGTERM)
	p.Wait()

	wantRun(t, 1, "there is no ", "move", "-from", "embedded:"+t.TempDir(), "-to", redis.URL())
	missing := filepath.Join(t.TempDir(), "missing")
	wantRun(t, 1, "-from: it has no users", "move", "-from", redis.URL(), "-to", "embedded:"+missing)
	wantRun(t, 1, "-to: there is no "+missing, "move", "-verify-only", "-from", "embedded:"+first, "-to", "embedded:"+missing)
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("moves that were refused left %s: %v", missing, err)
	}
	wantRun(t, 2, "-from and -to are the same store", "move", "-from", redis.URL(), "-to", redis.URL())
	wantRun(t, 2, "-to: must be embedded:DIR, redis://", "move", "-from", redis.URL(), "-to", "data")
	if out := wantRun(t, 0, "all are the same", "move", "-from", "embedded:"+first, "-to", redis.URL()); !strings.HasPrefix(out, "moved 6 accounts\ncompared 6 accounts") {
		t.Errorf("move printed %q", out)
	}
	wantRun(t, 1, "-replace replaces them", "move", "-from", "embedded:"+first, "-to", redis.URL())
	onRedis := gatewaytest.StartWithOrganisationsAndAnchors(t, redis.URL(), upstream.URL)
	if after := shown(onRedis); after != before {
		t.Errorf("on Redis the gateway shows\n%s\nbefore it was\n%s", after, before)
	}
	gatewaytest.Post(client, onRedis.URL+"/api/analyze", testkit.Token("u-9", "free"))
	awaitMark(t, redis, 1)
	wantRun(t, 1, "a gateway is running on this Redis", "move", "-from", redis.URL(), "-to", "embedded:"+t.TempDir())
	onRedis.Signal(syscall.SIGTERM)
	onRedis.Wait()
	wantRun(t, 3, "only in the target", "move", "-verify-only", "-from", "embedded:"+first, "-to", redis.URL())

	cluster := redistest.StartCluster(t, false)
	wantRun(t, 0, "compared 7 accounts: all are the same", "move", "-from", redis.URL(), "-to", cluster.URL(), "-to-prefix", "other")
	second := filepath.Join(t.TempDir(), "data")
	wantRun(t, 0, "compared 7 accounts: all are the same", "move", "-from", cluster.URL(), "-from-prefix", "other", "-to", "embedded:"+second)
	wantRun(t, 0, "compared 6 accounts: all are the same", "move", "-replace", "-from", "embedded:"+first, "-to", "embedded:"+second)
	if after := shown(gatewaytest.StartWithOrganisationsAndAnchors(t, "embedded:"+second, upstream.URL)); after != before {
		t.Errorf("after all moves, the gateway shows\n%s\nbefore it was\n%s", after, before)
	}
	redis.Do("HSET", "metergate:{"+strings.Repeat("A", 22)+"}", "user", "later", "format", "2", "sweep", "format 2")
	wantRun(t, 1, "this version of the gateway knows only format 1", "move", "-from", redis.URL(), "-to", "embedded:"+t.TempDir())
}

func month() string { return time.Now().UTC().Format("2006-01") }

// asOf is what changes with each answer.
var asOf = regexp.MustCompile(`"(as_of|t)":"?[^",}]*"?,?`)

// sorted sorts the lines of a list, whose order is the store's.
func sorted(path, body string) string {
	if !strings.Contains(path, "?at=") {
		return body
	}
	lines := strings.Split(body, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
