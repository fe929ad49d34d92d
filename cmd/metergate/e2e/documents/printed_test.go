package documents

// This file runs the commands of pages and compares what they print with what the pages
// say that they print.

import (
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota"
	"metergate/quota/testkit"
)

// A codeBlock is a fenced block of a page, without the indentation that it has in a list.
type codeBlock struct{ language, text string }

var fencedBlock = regexp.MustCompile("(?ms)^( *)```([a-z]*)\n(.*?)^ *```$")

// allBlocks returns the code blocks of a page, in their order.
func allBlocks(t *testing.T, name string) (found []codeBlock) {
	t.Helper()
	p, ok := markdownPages(t)[name]
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	for _, m := range fencedBlock.FindAllStringSubmatch(p.text, -1) {
		found = append(found, codeBlock{m[2], regexp.MustCompile(`(?m)^`+m[1]).ReplaceAllString(m[3], "")})
	}
	return found
}

// codeBlocks returns the code blocks of a page in a language, "" for those without one.
func codeBlocks(t *testing.T, name, language string) (found []string) {
	t.Helper()
	for _, block := range allBlocks(t, name) {
		if block.language == language {
			found = append(found, block.text)
		}
	}
	return found
}

// TestReadmeShowsWhatTheDemoPrints runs the commands that the demo offers and compares
// what they print with the README, where "..." stands for any text.
func TestReadmeShowsWhatTheDemoPrints(t *testing.T) {
	demo := gatewaytest.Start(t, nil, "demo", "-listen", "127.0.0.1:0", "-data", t.TempDir())
	demo.WaitForText("Ctrl-C stops")
	var script strings.Builder
	for line := range strings.Lines(demo.Output()) {
		if strings.HasPrefix(line, "curl ") || strings.HasPrefix(line, "for ") || strings.HasPrefix(line, "echo ") {
			script.WriteString(line)
		}
	}
	printed, err := exec.Command("bash", "-ec", script.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	demo.Signal(syscall.SIGTERM)
	demo.Wait()

	offered := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(script.String(), "127.0.0.1:8080")
	rest, commands, outputs := string(printed), 0, 0
	for _, block := range codeBlocks(t, "README.md", "") {
		if !strings.HasPrefix(block, "$ ") {
			continue
		}
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands++
				if !linePattern(command).MatchString(offered) {
					t.Errorf("the README shows the command %s, and the demo prints:\n%s", command, offered)
				}
				continue
			}
			outputs++
			at := linePattern(line).FindStringIndex(rest)
			if at == nil {
				t.Fatalf("the README shows the line %s, and the commands went on to print:\n%s", line, rest)
			}
			rest = rest[at[1]:]
		}
	}
	if commands < 3 || outputs < 5 {
		t.Errorf("compared %d commands and %d lines of output", commands, outputs)
	}
}

// linePattern matches a whole line in which "..." stands for any text.
func linePattern(line string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^` + strings.ReplaceAll(regexp.QuoteMeta(line), regexp.QuoteMeta("..."), ".*") + `$`)
}

// TestCommandsPageListsEveryCommand compares docs/commands.md with the program's help.
func TestCommandsPageListsEveryCommand(t *testing.T) {
	code, help := gatewaytest.Run(t, nil, "help")
	names := regexp.MustCompile(`(?m)^  metergate ([a-z-]+)`).FindAllStringSubmatch(help, -1)
	if code != 0 || len(names) < 10 {
		t.Fatalf("exit status %d, help:\n%s", code, help)
	}
	text := markdownPages(t)["docs/commands.md"].text
	known := map[string]bool{"help": true}
	for _, m := range names {
		known[m[1]] = true
		if !strings.Contains(text, "`metergate "+m[1]) {
			t.Errorf("docs/commands.md does not list the command %s", m[1])
		}
	}
	for name, p := range markdownPages(t) {
		if name == "CHANGELOG.md" {
			continue
		}
		for _, m := range regexp.MustCompile("(?m)(?:`|^ *(?:\\./)?|; )metergate ([a-z-]+)").FindAllStringSubmatch(p.text, -1) {
			if !known[m[1]] {
				t.Errorf("%s names metergate %s, which is not a command", name, m[1])
			}
		}
	}
}

// TestTokenCommandOfThePageWorks runs the command at the end of docs/tokens.md.
func TestTokenCommandOfThePageWorks(t *testing.T) {
	scripts := codeBlocks(t, "docs/tokens.md", "sh")
	if len(scripts) != 1 {
		t.Fatalf("%d commands", len(scripts))
	}
	out := runIn(t, "gateway.yaml", scripts[0])
	if !regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]+\n$`).MatchString(out) {
		t.Errorf("it printed %q, not a token", out)
	}
}

// TestLogPageShowsTheHashOfAUser runs the command of docs/log.md and compares the output.
func TestLogPageShowsTheHashOfAUser(t *testing.T) {
	commands := 0
	for script, shown := range transcripts(t, "docs/log.md") {
		commands++
		if out := runIn(t, "gateway.yaml", script); out != shown {
			t.Errorf("it printed %q, and the page says %q", out, shown)
		}
	}
	if commands != 1 {
		t.Errorf("%d commands", commands)
	}
}

// TestPagesShowWhatTheirCommandsPrint runs the commands of some pages, one page after the
// other, against a gateway with the example configuration. It compares what they print
// with the code block that follows them, if that is one without a language.
func TestPagesShowWhatTheirCommandsPrint(t *testing.T) {
	dir := newFolder(t, "gateway.yaml")
	file := filepath.Join(dir, "gateway.yaml")
	example, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	example = []byte(strings.Replace(string(example), "${LISTEN:-:8080}", "127.0.0.1:0", 1))
	example = []byte(strings.Replace(string(example), "\n  timeout: 250ms\n", "\n  timeout: 20s\n", 1)) // on a busy machine
	testkit.WriteFile(t, file, example)
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	gateway := gatewaytest.StartFile(t, append(environment(dir),
		"ADMIN_LISTEN=127.0.0.1:0", "UPSTREAM_URL="+upstream.URL, "REDIS_URL=embedded:"+t.TempDir()), file)

	// docs/admin.md looks at a user who has used something.
	for endpoint, n := range map[string]int{"analyze": 30, "image-analysis": 12} {
		for range n {
			url := gateway.URL + "/api/" + endpoint
			if status := gatewaytest.Post(http.DefaultClient, url, testkit.Token("u-17", "pro")); status != 200 {
				t.Fatalf("%s: status %d", url, status)
			}
		}
	}
	addresses := strings.NewReplacer("http://127.0.0.1:9090", gateway.Admin, "http://127.0.0.1:8080", gateway.URL)
	command := regexp.MustCompile(`(?m)^metergate \S+`)
	for _, name := range []string{"docs/admin.md", "docs/http.md"} {
		compared := 0
		for script, shown := range transcripts(t, name) {
			if strings.Contains(script, "metergate &") {
				continue // this gateway runs already
			}
			script = addresses.Replace(command.ReplaceAllString(script, "$0 -admin "+gateway.Admin))
			// The month of the examples need not be the running one.
			script = strings.ReplaceAll(script, "-at 2026-11", "-at "+time.Now().UTC().Format("2006-01"))
			rest := withoutDates(runScript(t, dir, script))
			for line := range strings.Lines(withoutDates(shown)) {
				at := linePattern(strings.TrimSuffix(line, "\n")).FindStringIndex(rest)
				if at == nil {
					t.Errorf("%s shows the line\n%s\nand the commands\n%s\nwent on to print\n%s", name, line, script, rest)
					break
				}
				rest = rest[at[1]:]
				compared++
			}
		}
		if compared < 3 {
			t.Errorf("%s: compared %d lines", name, compared)
		}
	}
}

// transcripts yields the shell blocks of a page, each with what the page says it prints.
func transcripts(t *testing.T, name string) iter.Seq2[string, string] {
	t.Helper()
	all := allBlocks(t, name)
	return func(yield func(script, shown string) bool) {
		for i, block := range all {
			if block.language != "sh" {
				continue
			}
			shown := ""
			if i+1 < len(all) && all[i+1].language == "" {
				shown = all[i+1].text
			}
			if !yield(block.text, shown) {
				return
			}
		}
	}
}

// withoutDates replaces what depends on the time of a run, and the number of spaces.
func withoutDates(text string) string {
	text = regexp.MustCompile(`\d{4}-\d{2}(-\d{2}T[\d:.]+Z)?`).ReplaceAllString(text, "DATE")
	return regexp.MustCompile(` {2,}`).ReplaceAllString(strings.ReplaceAll(text, "\r", ""), "  ")
}

// runIn runs a script in a new folder with the program and a copy of a file of the
// repository, and returns what it printed.
func runIn(t *testing.T, file, script string) string {
	t.Helper()
	return runScript(t, newFolder(t, file), script)
}

func newFolder(t *testing.T, file string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text, err := os.ReadFile(filepath.Join(repositoryRoot, file))
	if err == nil {
		err = os.Symlink(gatewaytest.Program(), filepath.Join(dir, "metergate"))
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(dir, file), text)
	return dir
}

func runScript(t *testing.T, dir, script string) (printed string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment(dir)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, script)
	}
	return string(out)
}

// environment is what the example configuration and the commands need.
func environment(dir string) []string {
	return []string{
		"PATH=" + dir + ":" + os.Getenv("PATH"),
		"JWT_SECRET=" + testkit.Secret, "METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken,
	}
}

// TestPagesShowValidConfigurations puts each YAML block into the example configuration, in
// place of what that has. Package config does the same for docs/configuration.md.
func TestPagesShowValidConfigurations(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(repositoryRoot, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for name := range markdownPages(t) {
		if name == "docs/configuration.md" {
			continue
		}
		for _, block := range codeBlocks(t, name, "yaml") {
			var whole, part map[string]yaml.Node
			err := yaml.Unmarshal(example, &whole)
			if err == nil {
				err = yaml.Unmarshal([]byte(block), &part)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			maps.Copy(whole, part)
			text, err := yaml.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			_, err = config.Parse(name, text, func(variable string) (string, bool) {
				value, ok := map[string]string{"JWT_SECRET": testkit.Secret, "WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}[variable]
				return value, ok
			})
			if err != nil && !strings.Contains(err.Error(), "auth.api_keys.file: cannot read this file") { // an example's file does not exist
				t.Errorf("%s: %v\n%s", name, err, block)
			}
			checked++
		}
	}
	if checked < 2 {
		t.Errorf("found only %d YAML blocks", checked)
	}
}

// TestObjectsOfThePageAreComplete checks that the objects in docs/http.md have the members of
// quota.Usage, with upgrade_url, which the gateway adds, and without exhausts_at, which is optional;
// and those of quota.HistoryUsage.
func TestObjectsOfThePageAreComplete(t *testing.T) {
	blocks := codeBlocks(t, "docs/http.md", "json")
	if len(blocks) != 2 {
		t.Fatalf("%d JSON blocks", len(blocks))
	}
	for i, object := range []any{new(quota.Usage), new(quota.HistoryUsage)} {
		var shown, complete map[string]any
		for _, to := range []any{object, &shown} {
			if err := json.Unmarshal([]byte(blocks[i]), to); err != nil {
				t.Fatal(err)
			}
		}
		encoded, err := json.Marshal(object)
		if err == nil {
			err = json.Unmarshal(encoded, &complete)
		}
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			complete["upgrade_url"] = "https://example.com/pricing"
		}
		if diff := cmp.Diff(complete, shown); diff != "" {
			t.Errorf("%T (-) and docs/http.md (+) differ:\n%s", object, diff)
		}
	}
}
