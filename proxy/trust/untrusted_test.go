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
	for _, name := range slices.Concat(rerouting, serverVariables) {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("%s is not in docs/http.md", name)
		}
	}
}

func TestUntrustedHeadersAreRemovedInEverySpelling(t *testing.T) {
	fields := NewUntrustedHeaders("X-User-Id", "", "Plan1")
	long := "X-" + strings.Repeat("A", 200)
	h := http.Header{}
	for _, name := range []string{
		"X-User-Id", "x-user-id", "X_USER-ID", "X.User.Id", "X!User~Id", "Plan1", "PLAN1", "X-Original-Url", "X_Original_URL", "SCRIPT_NAME", "Proxy", "Remote-User", "remote_user",
		"Content_Length", "Transfer.Encoding",
		"X-User", "X-User-Id-2", "XUserId", "Plan", "Plan-1", "Authorization", "Cookie", long,
	} {
		h[name] = []string{"1"}
	}
	fields.Remove(h)
	want := []string{"Authorization", "Cookie", "Plan", "Plan-1", long, "X-User", "X-User-Id-2", "XUserId"}
	if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, want) {
		t.Errorf("the remaining headers are %q, want %q", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { fields.Remove(h) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
