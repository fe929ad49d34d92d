package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A listedPackage is what the go command says about one of our packages.
type listedPackage struct {
	ImportPath    string
	Imports, Deps []string
}

// allowedImports has what each of our packages may import of ours, so that a new import is a
// decision. A pattern that ends with /... stands for all packages below a folder. Tests may
// import more.
//
// Imports point one way: cmd imports everything, proxy imports quota, and the domain
// imports nothing of ours. config knows no proxy and no store. It imports the packages that
// hold a rule which it shares with them, and these import none of ours.
var allowedImports = map[string][]string{
	"cmd/metergate": {"cmd/metergate/app", "cmd/metergate/billing", "cmd/metergate/counterfile", "cmd/metergate/demoapi", "cmd/metergate/host", "cmd/metergate/sockets", "cmd/metergate/storefile", "config", "proxy/apikeys", "proxy/jwtauth/jwtrules", "quota", "quota/guard", "quota/notify", "quota/plancheck", "quota/record"},
	"cmd/metergate/app": {"cmd/metergate/host", "cmd/metergate/sockets", "quota/blocking", "quota/ratelog", "quota/rawsocket", "config", "proxy", "proxy/admin", "proxy/admin/recent", "proxy/apikeys", "proxy/jsonlog", "proxy/jwtauth", "proxy/routetable", "proxy/tracing", "proxy/upstream",
		"quota", "quota/boltstore", "quota/guard", "quota/notify", "quota/redisstore"},
	"cmd/metergate/billing":     nil,
	"cmd/metergate/counterfile": {"quota"},
	"cmd/metergate/demoapi":     nil,
	"cmd/metergate/host":        nil,
	"cmd/metergate/sockets":     {"config"},
	"cmd/metergate/storefile":   {"quota", "quota/boltstore", "quota/guard", "quota/record", "quota/redisstore", "quota/redisstore/redisurl"},

	"config": {"proxy/apikeys", "proxy/jwtauth/jwtrules", "proxy/reported", "proxy/urlpath", "quota", "quota/redisstore/redisurl"},

	"proxy": {"proxy/apikeys", "proxy/browser", "proxy/credential", "proxy/jsonlog", "proxy/jwtauth", "proxy/reported", "proxy/routetable", "proxy/tracing", "proxy/trust", "proxy/turns", "proxy/upstream",
		"proxy/urlpath", "quota", "quota/ratelog"},
	"proxy/admin":                {"proxy/admin/console", "proxy/admin/recent", "proxy/admin/scans", "quota", "quota/plancheck"},
	"proxy/admin/console":        nil,
	"proxy/admin/recent":         nil,
	"proxy/admin/scans":          {"quota", "quota/plancheck"},
	"proxy/apikeys":              {"quota"},
	"proxy/browser":              nil,
	"proxy/browser/writepackage": {"proxy/browser"},
	"proxy/credential":           {"proxy/apikeys"},
	"proxy/jsonlog":              nil,
	"proxy/jwtauth":              {"proxy/credential", "proxy/jwtauth/jwtrules"},
	"proxy/jwtauth/jwtrules":     nil,
	"proxy/reported":             nil,
	"proxy/routetable":           {"proxy/urlpath"},
	"proxy/tracing":              nil,
	"proxy/trust":                nil,
	"proxy/turns":                nil,
	"proxy/upstream":             {"proxy/tracing", "proxy/upstream/direct"},
	"proxy/upstream/direct":      {"quota/rawsocket"},
	"proxy/urlpath":              nil,

	"quota":           nil,
	"quota/boltstore": {"quota", "quota/internal/boltfile", "quota/internal/bucket", "quota/internal/hub", "quota/internal/queue", "quota/record"},
	"quota/guard":     {"quota", "quota/internal/boltfile", "quota/internal/bucket", "quota/internal/hub", "quota/internal/queue", "quota/ratelog"},
	"quota/notify":    {"quota", "quota/ratelog"},
	"quota/record":    {"quota"},
	"quota/redisstore": {"quota", "quota/internal/hub", "quota/internal/queue", "quota/record", "quota/redisstore/redisclient",
		"quota/redisstore/redisurl", "quota/redisstore/resp", "quota/redisstore/script"},
	"quota/redisstore/redisclient": {"quota", "quota/rawsocket", "quota/redisstore/redisurl", "quota/redisstore/resp"},
	"quota/redisstore/redisurl":    nil,
	"quota/redisstore/resp":        nil,
	"quota/redisstore/script":      {"quota", "quota/record", "quota/redisstore/resp"},
	"quota/internal/boltfile":      {"quota/blocking", "quota/internal/redolog"},
	"quota/internal/bucket":        {"quota"},
	"quota/internal/hub":           nil,
	"quota/internal/queue":         nil,
	"quota/internal/redolog":       {"quota/blocking"},

	"quota/plancheck": {"quota"},
	"quota/ratelog":   nil,
	"quota/blocking":  nil,
	"quota/rawsocket": nil,

	// What only tests use.
	"cmd/metergate/bench":               nil,
	"cmd/metergate/e2e/...":             nil,
	"cmd/metergate/billing/billingtest": nil,
	"cmd/metergate/gatewaytest":         {"quota", "quota/testkit"},
	"proxy/browser/browsertest":         {"quota/testkit"},
	"proxy/tracing/tracingtest":         {"quota/testkit"},
	"quota/quotatest":                   {"quota"},
	"quota/record/recordtest":           {"quota", "quota/quotatest", "quota/record"},
	"quota/redisstore/redistest":        {"quota/redisstore/script", "quota/testkit"},
	"quota/testkit":                     nil,
}

func TestImportsPointOneWay(t *testing.T) {
	packages := listPackages(t)
	seen := map[string]bool{}
	for path, p := range packages {
		row := allowedRow(strings.TrimPrefix(path, "metergate/"))
		allowed, ok := allowedImports[row]
		if seen[row] = true; !ok {
			t.Errorf("allowedImports has no row for %s", path)
		}
		for _, imported := range ourImports(p) {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s imports metergate/%s; if that is meant, add it to allowedImports", path, imported)
			}
		}
		for _, imported := range allowed {
			if !slices.Contains(ourImports(p), imported) {
				t.Errorf("%s does not import metergate/%s any more; remove it from allowedImports", path, imported)
			}
		}
	}
	for row := range allowedImports {
		if !seen[row] {
			t.Errorf("allowedImports names %s, which does not exist", row)
		}
	}
	for path, p := range packages {
		if !strings.HasPrefix(path, "metergate/proxy/tracing") && slices.ContainsFunc(p.Imports, func(i string) bool { return strings.HasPrefix(i, "go.opentelemetry.io/") }) {
			t.Errorf("%s imports OpenTelemetry; only proxy/tracing may", path)
		}
	}
	for _, dep := range packages["metergate/cmd/metergate"].Deps {
		if dep == "net/http/pprof" || strings.HasPrefix(dep, "google.golang.org/grpc") {
			t.Errorf("the program contains %s", dep)
		}
	}
	for _, dep := range packages["metergate/quota"].Deps {
		if dep == "net/http" || dep == "net" {
			t.Errorf("metergate/quota depends on %s: the domain is arithmetic", dep)
		}
	}
}

// allowedRow returns the key of allowedImports for a package.
func allowedRow(path string) string {
	if strings.HasPrefix(path, "cmd/metergate/e2e/") {
		return "cmd/metergate/e2e/..."
	}
	return path
}

func listPackages(t *testing.T) map[string]listedPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "metergate/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]listedPackage{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	if len(packages) < 8 {
		t.Fatalf("go list knows only %d packages", len(packages))
	}
	return packages
}

// ourImports returns the packages of this module that p imports, without the module's
// name.
func ourImports(p listedPackage) []string {
	var ours []string
	for _, imported := range p.Imports {
		if path, ok := strings.CutPrefix(imported, "metergate/"); ok {
			ours = append(ours, path)
		}
	}
	return ours
}
