package config

import (
	"strings"
	"testing"
)

// A program that reads some keys is stopped by the faults that concern them, and by no
// others.
func TestLoadOnlyIgnoresFaultsOfOtherKeys(t *testing.T) {
	unset := func(string) (string, bool) { return "", false }
	const good = `
admin: { listen: "127.0.0.1:7070", token: "${TOKEN}" }
store: { url: "${REDIS_URL}", timeout: never }
auth: { jwt: { secret_file: /nowhere/at/all } }
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month, endpoint: analyze }] } }
upstreams: { analysis: { targets: [{ url: "${UPSTREAM_URL}" }] } }
routes: [{ match: "POST /api/analyze", endpoint: analyze, upstream: analysis }]
`
	for name, c := range map[string]struct {
		old, new string
		keys     string
		fault    string // a part of the only fault; empty: none
	}{
		"one key of a section":            {"", "", "admin.listen", ""},
		"several sections":                {"", "", "plans default_plan routes", ""},
		"a variable of the key":           {"", "", "store.url", "REDIS_URL is not set"},
		"a variable below the key":        {"", "", "auth", "auth.jwt.secret_file"},
		"a variable in the key's section": {"127.0.0.1:7070", "${LISTEN}", "admin.listen", "LISTEN is not set"},
		"a section that is no mapping":    {`{ listen: "127.0.0.1:7070", token: "${TOKEN}" }`, "7070", "admin.listen", "must be a mapping"},
		"a key that may mean this one":    {"default_plan:", "default_plna:", "default_plan", "did you mean default_plan?"},
		"a key in the section":            {`listen: "127.0.0.1:7070"`, `adress: "127.0.0.1:7070"`, "admin.listen", "admin.adress: unknown key"},
		"a key in another section":        {`timeout: never`, `timeuot: never`, "admin.listen", ""},
		"a key of the file":               {"default_plan:", "colour: red\ndefault_plan:", "admin.listen", "colour: unknown key"},
		"a file that is no YAML":          {"default_plan:", "]", "admin.listen", "not valid YAML"},
		"a section that is missing":       {"plans:", "timezone: UTC\ncors:", "plans", "plans: is required"},
		"another section that is missing": {"default_plan: free\n", "", "plans", ""},
		"a value that refers to another":  {"endpoint: analyze }] }", "endpoint: report }] }", "plans", "no route counts under this endpoint"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		cfg, err := parseOnly("gateway.yaml", []byte(text), unset, strings.Fields(c.keys)...)
		switch {
		case c.fault == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.fault == "" && c.keys == "admin.listen" && cfg.Admin.Listen != "127.0.0.1:7070":
			t.Errorf("%s: admin.listen is %q", name, cfg.Admin.Listen)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: got %v; want one fault with %q", name, err, c.fault)
		}
	}
	many := "admin: { listen: \"127.0.0.1:7070\" }\nroutes: &r [" + strings.Repeat("{}, ", 1000) + "]\n" + strings.Repeat("x: *r\n", 200)
	if _, err := parseOnly("gateway.yaml", []byte(many), unset, "admin.listen"); err == nil {
		t.Error("aliases without end are ignored")
	}
}
