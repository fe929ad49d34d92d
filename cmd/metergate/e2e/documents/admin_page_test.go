package documents

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The commands of docs/admin.md work as they are pasted, from the first that starts a gateway
// with the example configuration to the last.
func TestAdminPageCommandsWork(t *testing.T) {
	p := newPastes(t)
	script := strings.Join(codeBlocks(t, "docs/admin.md", "sh"), "")
	// The window of the examples need not be the running one, nor one that is over.
	script = strings.ReplaceAll(script, "-at 2026-11", "-at "+time.Now().UTC().Format("2006-01"))
	out, state := p.run(p.withAdmin("set -e\n" + script))
	if !state.Success() {
		t.Fatalf("%v:\n%s", state, out)
	}
	for _, want := range []string{"user u-17, plan enterprise, set by an administrator until 2035", `"granted":[{"name":"month"`,
		"imported 3 counts of 2 users", "of 2 users with something counted now", "plan cleared"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for file, want := range map[string]string{
		"november.csv":   "user,plan,endpoint,used\r\nu-17,pro,analyze,30\r\nu-17,pro,image-analysis,12\r\nu-18,free,analyze,99\r\n",
		"november.jsonl": `{"user":"u-18","plan":"free","used":99,"endpoints":{"analyze":99},"claimed":null,"override":null}`,
	} {
		if got, err := os.ReadFile(filepath.Join(p.dir, file)); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: error %v, %q; want %q", file, err, got, want)
		}
	}
}
