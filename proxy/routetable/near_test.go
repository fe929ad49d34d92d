package routetable_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"metergate/proxy/routetable"
	"metergate/proxy/urlpath"
)

// near returns the paths that a path nearly is.
func near(t *routetable.NearTable, host, path string) (paths []string) {
	t.Find(host, path, func(p string) bool {
		paths = append(paths, p)
		return false
	})
	return paths
}

func TestNearMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          string // empty: it is not near
	}{
		{"POST /api/analyze", "/api/analyze", ""},
		{"POST /api/analyze", "/api/Analyze", "/api/analyze"},
		{"POST /api/analyze", "/API/ANALYZE", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze/", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze;v=1", "/api/analyze"},
		{"POST /api/analyze", "/api;v=1/analyze", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze%3Bv=1", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze/;v=1", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze.json", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze.tar.gz", "/api/analyze"},
		{"POST /api/analyze", "/api/analyze.", "/api/analyze"},
		{"POST /api/analyze", "/Api;a/ANALYZE.Json;b=1/", "/api/analyze"},
		{"POST /api/analyze", "/api.json/analyze", ""},
		{"POST /api/analyze", "/api/analyzer", ""},
		{"POST /api/analyze", "/api/analyze/x", ""},
		{"POST /api/analyze", "/api", ""},
		{"POST /API/Analyze", "/api/analyze", "/API/Analyze"},
		{"/v1.2/a.b", "/v1.2/a.b.json", "/v1.2/a.b"},
		{"/v1.2/a.b", "/v1.2/a.c", ""},
		{"/a%20b/ä", "/A%20B/%C3%84", "/a%20b/ä"},
		{"/ki", "/%E2%84%AAi", "/ki"}, // the Kelvin sign
		{"/ki", "/k%C4%B1", "/ki"},    // the dotless i
		{"/items/{id}", "/items/5", ""},
		{"/items/{id}", "/items/5/", "/items/5"},
		{"/items/{id}", "/Items/a%20B", "/items/a%20B"},
		{"/items/{id}", "/items/;v=1", ""},
		{"/items/{id}/run", "/items/X;y/RUN.json", "/items/X;y/run"},
		{"/items/{id}/run", "/items/x/run", ""},
		{"/tree/", "/tree", "/tree/"},
		{"/tree/", "/tree/x/", ""},
		{"/tree/", "/Tree/X/y;1/", "/tree/X/y;1/"},
		{"/tree/{rest...}", "/TREE", "/tree/"},
		{"/tree/{rest...}", "/tree.json", "/tree/"},
		{"/top/{$}", "/top", "/top/"},
		{"/top/{$}", "/top/", ""},
		{"/top/{$}", "/Top/", "/top/"},
		{"/top/{$}", "/top/;v=1", "/top/"},
		{"/top/{$}", "/top/.json", "/top/"},
		{"/top/{$}", "/top/x.json", ""},
		{"/{rest...}", "/Anything/", ""},
		{"/{$}", "/;v=1", "/"},
		{"h.example/api", "/Api", ""},
	} {
		table := &routetable.NearTable{}
		table.Add(c.pattern)
		if canonical, err := urlpath.Canonicalize(c.path); err != nil || canonical != c.path {
			t.Errorf("%s is not canonical: %v", c.path, err)
		}
		if got := strings.Join(near(table, "other.example", c.path), " "); got != c.want {
			t.Errorf("%s: %s is near %q, want %q", c.pattern, c.path, got, c.want)
		}
	}
}

func TestNearMatchesOfHosts(t *testing.T) {
	var table routetable.NearTable
	table.Add("h.example/api")
	table.Add("GET /api")
	table.Add("/API")
	for host, want := range map[string]string{"h.example": "/api /api /API", "other.example": "/api /API", "": "/api /API"} {
		if got := strings.Join(near(&table, host, "/Api"), " "); got != want {
			t.Errorf("at %q: %s, want %s", host, got, want)
		}
	}
	if got := near(&routetable.NearTable{}, "h.example", "/Api"); got != nil {
		t.Errorf("in an empty table: %q", got)
	}
}

// TestNearMatchesAreFoundAfterAnyChange: whatever of the four differences a path has, the
// path without them is found, and what is found is a path that the pattern matches.
func TestNearMatchesAreFoundAfterAnyChange(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	for range 5000 {
		var table routetable.NearTable
		exact := routetable.New[string]()
		pattern, path, sent := "", "", ""
		for i := range 1 + rnd.IntN(4) {
			segment := pick("api", "v1.2", "Items", "ä", "{x}")
			pattern += "/" + strings.Replace(segment, "{x}", "{x"+string(rune('0'+i))+"}", 1)
			segment = strings.Replace(segment, "{x}", "some", 1)
			path += "/" + segment
			if !strings.HasSuffix(pattern, "}") {
				segment = pick(segment, strings.ToUpper(segment), strings.ToLower(segment))
			}
			sent += "/" + segment + pick("", "", ";v=1", ";")
		}
		end := pick("", "/", "/{rest...}")
		pattern += end
		table.Add(pattern)
		if end != "" {
			path += "/"
		}
		sent += pick("", ".json", ".tar.gz") + pick("", ";p=.x") + pick("", "/")
		if err := exact.Add(pattern, &pattern); err != nil {
			t.Fatal(err)
		}
		canonical, err := urlpath.Canonicalize(escape(sent))
		if err != nil {
			t.Fatal(err)
		}
		if exact.Find("", "GET", canonical) != nil {
			continue // no difference counts
		}
		found := near(&table, "", canonical)
		if len(found) == 0 {
			t.Fatalf("%s: %s is not near %s", pattern, canonical, path)
		}
		for _, p := range found {
			if exact.Find("", "GET", p) == nil {
				t.Fatalf("%s: %s is near %s, which the pattern does not match", pattern, canonical, p)
			}
		}
	}
}

// escape escapes what a request cannot have.
func escape(path string) string {
	return strings.NewReplacer("ä", "%C3%A4", "Ä", "%C3%84").Replace(path)
}

// A path of dots or of many segments must not cost more than its length.
func TestNearMatchesDoNotAllocate(t *testing.T) {
	var table routetable.NearTable
	for _, p := range []string{"/api/analyze", "/api/{x}/run", "/tree/{rest...}", "/{a}/{b}/{c}/d"} {
		table.Add(p)
	}
	for _, path := range []string{"/api/analyze", "/static/app.js", "/api/x/y/z", "/" + strings.Repeat(".", 40) + "x", "/tree/x/y"} {
		if n := testing.AllocsPerRun(100, func() { table.Find("", path, func(string) bool { return true }) }); n > 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

// TestMayBeNear covers pairs of patterns.
func TestMayBeNear(t *testing.T) {
	for _, c := range []struct {
		pattern, other string
		want           bool
	}{
		{"/api/{rest...}", "POST /api/analyze", true},
		{"/", "POST /api/analyze", true},
		{"/static/", "POST /api/analyze", false},
		{"GET /api/", "POST /api/analyze", false},
		{"HEAD /api/", "GET /api/analyze", true},
		{"a.example/api/", "b.example/api/x", false},
		{"/{lang}/docs/{rest...}", "/api/analyze", false},
		{"/api/{name}", "/api/analyze", true},
		{"/api/public/{x...}", "/api/{rest...}", false},
		{"/api/public/{x...}", "/API/{rest...}", true},
		{"/api/Analyze", "/api/analyze", true},
		{"/api/analyze", "POST /api/analyze", false},
		{"/api/analyze.json", "/api/analyze", true},
		{"/api/analyze.json/x", "/api/analyze/x", false},
		{"/api/analyze/{$}", "/api/analyze", true},
		{"/api/analyze", "/api/analyze/{$}", true},
		{"/api/analyze", "/api/analyze/", true},
		{"/api/analyze/", "/api/analyze", true},
		{"/api/v;x", "/api/v", true},
		{"/items/{id}", "/items", false},
		{"/items/{id}/", "/items/{id}", true},
		{"/items/{id}", "/items/{id}", false},
	} {
		if got := routetable.MayBeNear(c.pattern, c.other); got != c.want {
			t.Errorf("MayBeNear(%q, %q) is %v", c.pattern, c.other, got)
		}
	}
}
