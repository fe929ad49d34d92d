package documents

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// documents returns the files below deploy and docs, and those that users read first, by
// their path in the module.
func documents(t *testing.T) map[string]string {
	t.Helper()
	module, texts := testkit.ModuleRoot(t), map[string]string{}
	for _, root := range []string{"deploy", "docs", "README.md", "SECURITY.md", "compose.yaml"} {
		err := filepath.WalkDir(filepath.Join(module, root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".png") {
				return err
			}
			text, err := os.ReadFile(path)
			name, _ := filepath.Rel(module, path)
			texts[name] = string(text)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return texts
}

// metricNames returns the metrics that the source defines, and the series of histograms,
// whose endings Prometheus adds.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	defined := regexp.MustCompile(`"(metergate_[a-z_]+)"`)
	histogram := regexp.MustCompile(`(?s)HistogramOpts\{\s*Name:\s*"(metergate_[a-z_]+)"`)
	names := map[string]bool{}
	err := filepath.WalkDir(testkit.ModuleRoot(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range defined.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		for _, m := range histogram.FindAllStringSubmatch(string(text), -1) {
			for _, ending := range []string{"_bucket", "_sum", "_count"} {
				names[m[1]+ending] = true
			}
		}
		return err
	})
	if err != nil || len(names) < 20 {
		t.Fatal(err, len(names))
	}
	return names
}

// Every metric that a document, a rule or a dashboard names exists, and docs/operate.md
// explains every metric.
func TestMetricsAreDocumented(t *testing.T) {
	names, texts := metricNames(t), documents(t)
	for path, text := range texts {
		for _, name := range regexp.MustCompile(`\bmetergate_[a-z_]+`).FindAllString(text, -1) {
			if !names[name] {
				t.Errorf("%s names %s, which does not exist", path, name)
			}
		}
	}
	manual := texts["docs/operate.md"]
	for name := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !strings.Contains(manual, "`"+name+"`") && !strings.Contains(manual, "`"+base+"`") {
			t.Errorf("docs/operate.md does not explain %s", name)
		}
	}
}

// findProgram returns the path of a program. It skips the test, or fails it where all tests
// must run, if the program is not installed.
func findProgram(t *testing.T, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv(redistest.RequireEnv) != "" {
			t.Fatal(name + " is not installed")
		}
		t.Skip(name + " is not installed")
	}
	return path
}

// Prometheus's own promtool accepts its configuration, the alerts, their tests, and the
// queries of the dashboard.
func TestPromtoolAcceptsRules(t *testing.T) {
	promtool := findProgram(t, "promtool")
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(testkit.ReadFile(t, "deploy/grafana/metergate.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string            `yaml:"record"`
		Expr   string            `yaml:"expr"`
		Labels map[string]string `yaml:"labels"`
	}
	var rules []rule
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*")
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			rules = append(rules, rule{"panel", variables.Replace(q.Expr), map[string]string{"title": p.Title, "n": string(rune('a' + len(rules)))}})
		}
	}
	if len(rules) < 20 {
		t.Fatalf("the dashboard has only %d queries", len(rules))
	}
	queries := filepath.Join(t.TempDir(), "dashboard.yml")
	groups, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err == nil {
		err = os.WriteFile(queries, groups, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"},
		{"check", "rules", queries},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join(testkit.ModuleRoot(t), "deploy/prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// docs/operate.md explains what to do about each alert, and about no other.
func TestAlertsAreExplained(t *testing.T) {
	texts := documents(t)
	name := regexp.MustCompile(`\bMetergate[A-Z][A-Za-z]+`)
	find := func(text string) []string {
		found := name.FindAllString(text, -1)
		slices.Sort(found)
		return slices.Compact(found)
	}
	rules, manual := find(texts["deploy/prometheus/alerts.yml"]), find(texts["docs/operate.md"])
	if !slices.Equal(rules, manual) {
		t.Errorf("alerts %v\nexplained %v", rules, manual)
	}
}

// docker-compose accepts compose.yaml: also 1.29, which Debian 12 has.
func TestDockerComposeAcceptsFile(t *testing.T) {
	cmd := exec.Command(findProgram(t, "docker-compose"), "--profile", "monitoring", "config")
	cmd.Dir = testkit.ModuleRoot(t)
	cmd.Env = append(os.Environ(), "JWT_SECRET="+testkit.Secret)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var composed struct{ Services map[string]any }
	if err := yaml.Unmarshal(out, &composed); err != nil || len(composed.Services) != 5 {
		t.Errorf("error %v, %d services, want 5", err, len(composed.Services))
	}
}

// Prometheus reaches the gateway of compose.yaml under a name that its admin listener knows.
func TestComposeLetsPrometheusIn(t *testing.T) {
	texts := documents(t)
	target := regexp.MustCompile(`targets: \["([a-z]+):9090"\]`).FindStringSubmatch(texts["deploy/prometheus/prometheus.yml"])
	if target == nil || !strings.Contains(texts["compose.yaml"], "\n      ADMIN_HOST: "+target[1]+" ") {
		t.Errorf("compose.yaml does not set ADMIN_HOST to the name in prometheus.yml, %q", target)
	}
}
