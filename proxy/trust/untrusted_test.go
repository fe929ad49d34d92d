package trust

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDocsListRemovedHeaders: docs/http.md names each header that is removed from a
// client's request.
func TestDocsListRemovedHeaders(t *testing.T) {
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(rerouting, serverVariables, connectionHeaders, identityHeaders) {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("%s is not in docs/http.md", name)
		}
	}
}

func TestUntrustedHeadersAreRemovedInEverySpelling(t *testing.T) {
	fields := NewUntrustedHeaders([]string{"X-User-Id", "", "Plan1"}, nil)
	long := "X-" + strings.Repeat("A", 200)
	h := http.Header{}
	for _, name := range []string{
		"X-User-Id", "x-user-id", "X_USER-ID", "X.User.Id", "X!User~Id", "Plan1", "PLAN1", "X-Original-Url", "X_Original_URL", "SCRIPT_NAME", "Proxy", "Remote-User", "remote_user",
		"Content_Length", "Transfer.Encoding",
		"X-User", "X-User-Id-2", "XUserId", "Plan", "Plan-1", "Authorization", "Cookie", long,
	} {
		h[name] = []string{"1"}
	}
	fields.Remove(h, Origin{})
	want := []string{"Authorization", "Cookie", "Plan", "Plan-1", long, "X-User", "X-User-Id-2", "XUserId"}
	if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, want) {
		t.Errorf("the remaining headers are %q, want %q", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { fields.Remove(h, Origin{}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestHeadersOfProxiesAreRemoved: each header with which a proxy describes the client, and
// each that begins with one of the prefixes, is removed in every spelling. Those of a trusted
// peer stay in the usual spelling, unless they would reroute the request.
func TestHeadersOfProxiesAreRemoved(t *testing.T) {
	u := NewUntrustedHeaders(nil, nil)
	left := func(name string, from Origin) bool {
		h := http.Header{name: {"1"}}
		u.Remove(h, from)
		return len(h) > 0
	}
	names := []string{"X-Ms-Original-Url", "X-Original-Remote-Addr", "X-True-Ip", "Real-Ip", "X-Proxyuser-Ip", "X-Override-Url"}
	for _, name := range slices.Concat(rerouting, serverVariables, connectionHeaders, identityHeaders) {
		name, isPrefix := strings.CutSuffix(name, "-*")
		if names = append(names, name); isPrefix {
			names = append(names, name+"-Id", name+"-Some-Other-Thing", name+"-"+strings.Repeat("a", 100))
			if strings.Count(name, "-") >= maxDashes {
				t.Errorf("%s has more than %d dashes", name, maxDashes)
			}
		}
	}
	for _, name := range names {
		usual := http.CanonicalHeaderKey(name)
		for _, spelling := range []string{usual, strings.ToUpper(usual), strings.ToLower(usual), strings.ReplaceAll(usual, "-", "_"), strings.ReplaceAll(usual, "-", ".")} {
			if left(spelling, Origin{}) {
				t.Errorf("%s of a client is not removed", spelling)
			}
			unusual := strings.ContainsAny(spelling, "_.")
			if believed := !u.always.contains(appendNormalized(nil, name)) && !unusual; left(spelling, Origin{trusted: true}) != believed {
				t.Errorf("%s of a trusted proxy stays: %v, want %v", spelling, !believed, believed)
			}
		}
	}
	for _, name := range []string{
		"Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "X-Auth-User", "X-Requested-With", "X-Csrf-Token", "X-Forward", "X-Goog-Api-Key", "X-Goog-User-Project",
		"X-Amz-Date", "X-Amzn-Trace-Id", "X-Ms-Client-Request-Id", "X-Ms-Version", "Cf-Ray", "X-Middleware-Prefetch", "Idempotency-Key", "Traceparent", "X-User", "Impersonate-User",
	} {
		if !left(name, Origin{}) {
			t.Errorf("%s is removed", name)
		}
	}
}

// TestPassedHeadersStay: a header that the operator lets through stays in its usual
// spelling, but never one that tells upstreams about users.
func TestPassedHeadersStay(t *testing.T) {
	u := NewUntrustedHeaders([]string{"X-User-Id"}, []string{"x-auth-request-email", "X-HTTP-Method-Override", "X-User-Id", "X-Request-Id"})
	h := http.Header{}
	for _, name := range []string{"X-Auth-Request-Email", "X-Auth-Request-User", "X_Auth_Request_Email", "X-Http-Method-Override", "X-User-Id", "X-Request-Id"} {
		h[name] = []string{"1"}
	}
	u.Remove(h, Origin{})
	if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, []string{"X-Auth-Request-Email", "X-Http-Method-Override"}) {
		t.Errorf("the remaining headers are %q", got)
	}
}
