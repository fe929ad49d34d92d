package browsertest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

// NodeModules is the folder of the npm packages that .ci/install installs. Without them it skips
// the test, or fails it if RequireEnv is set.
func NodeModules(t testing.TB) string {
	t.Helper()
	return nodeModulesIn(t, ".ci/npm")
}

// Bundlers is the same for those that build and check the app of docs/frontend.md.
func Bundlers(t testing.TB) string {
	t.Helper()
	return nodeModulesIn(t, ".ci/bundlers")
}

func nodeModulesIn(t testing.TB, folder string) string {
	t.Helper()
	dir := filepath.Join(testkit.ModuleRoot(t), folder, "node_modules")
	if _, err := os.Stat(filepath.Join(dir, ".package-lock.json")); err != nil {
		if os.Getenv(RequireEnv) != "" {
			t.Fatal("the npm packages are not installed: ", err)
		}
		t.Skip("run .ci/install for the npm packages")
	}
	return dir
}

// WantAccessible checks with axe-core, in the light and the dark colour scheme, that what the tab
// shows keeps nobody with a disability from using it. The test fails with a line for each fault.
// state names what the tab shows, for that message. With selectors, only what they select is
// checked: a page of a test may lack what every real page has, such as a heading.
//
// A page that chooses its scheme itself, whatever the browser prefers, is checked in its own.
func (tab *Tab) WantAccessible(state string, selectors ...string) {
	tab.t.Helper()
	defer tab.Media()
	for _, scheme := range []string{"light", "dark"} {
		// With reduced motion, colours do not change while axe measures them.
		tab.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		switch passed, faults := tab.runAxe(selectors); {
		case passed == 0:
			tab.t.Errorf("%s, %s: axe found nothing to check", state, scheme)
		case len(faults) > 0:
			tab.t.Errorf("%s, %s: axe has %d findings:\n%s", state, scheme, len(faults), strings.Join(faults, "\n"))
		}
	}
}

// runAxe returns how many rules the page has passed, and its faults.
func (tab *Tab) runAxe(selectors []string) (passed int, faults []string) {
	tab.t.Helper()
	if tab.String("typeof window.axe") == "undefined" {
		source, err := os.ReadFile(filepath.Join(NodeModules(tab.t), "axe-core", "axe.min.js"))
		if err != nil {
			tab.t.Fatal(err)
		}
		tab.Eval("(() => {"+string(source)+"})()", nil)
	}
	within := "document"
	if len(selectors) > 0 {
		list, _ := json.Marshal(selectors) // strings always become JSON
		within = string(list)
	}
	var result struct {
		Passed int
		Faults []string
	}
	tab.Eval(`axe.run(`+within+`, { resultTypes: ['violations'] }).then((r) => ({
		passed: r.passes.length,
		faults: r.violations.flatMap((v) => v.nodes.map((n) => [v.id + ' (' + v.impact + '): ' + n.target.flat().join(' '),
			n.html, ...n.failureSummary.split('\n')].join('\n    '))),
	}))`, &result)
	return result.Passed, result.Faults
}
