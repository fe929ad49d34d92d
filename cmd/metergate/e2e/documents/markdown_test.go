package documents

// This file checks the Markdown itself: that links lead somewhere, that the README stays
// short, and that every page says what it is for.

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const (
	repositoryRoot = "../../../.."
	// maxReadmeWords is what a newcomer reads in their first ten minutes.
	maxReadmeWords = 1500
)

// A markdownPage is one Markdown file.
type markdownPage struct {
	path  string // from the repository's repositoryRoot, with slashes
	text  string
	prose string // text without its code blocks
}

// markdownPages returns every Markdown file of the repository by its path, without
// those of other people's packages, of a release that was built, and of folders that begin with a dot.
func markdownPages(t *testing.T) map[string]markdownPage {
	t.Helper()
	pages := map[string]markdownPage{}
	err := filepath.WalkDir(repositoryRoot, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != repositoryRoot && (strings.HasPrefix(d.Name(), ".") || d.Name() == "dist" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(repositoryRoot, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		pages[name] = markdownPage{name, string(text), withoutCode(string(text))}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("found only %d pages", len(pages))
	}
	return pages
}

// withoutCode removes fenced code blocks, indented ones in lists included. It keeps the
// line breaks, so that line numbers stay right.
func withoutCode(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence {
			inside = !inside
		}
		if inside || fence {
			line = "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

var (
	inlineCode   = regexp.MustCompile("`[^`\n]*`")
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	htmlLink     = regexp.MustCompile(`(?:src|srcset|href)="([^"]+)"`)
	heading      = regexp.MustCompile(`(?m)^#{1,6} +(.+?)\s*$`)
	htmlAnchor   = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// lineAt returns the number of the line at an offset.
func lineAt(text string, offset int) int { return 1 + strings.Count(text[:offset], "\n") }

// TestLinksLeadSomewhere checks each relative link and picture: the file must exist, and
// the page must have the heading.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := markdownPages(t)
	links := 0
	for _, p := range pages {
		prose := inlineCode.ReplaceAllStringFunc(p.prose, func(code string) string {
			return strings.Repeat("x", len(code))
		})
		for _, kind := range []*regexp.Regexp{markdownLink, htmlLink} {
			for _, m := range kind.FindAllStringSubmatchIndex(prose, -1) {
				target := prose[m[2]:m[3]]
				if fault := brokenLink(pages, p, target); fault != "" {
					t.Errorf("%s:%d: link to %s: %s", p.path, lineAt(prose, m[2]), target, fault)
				}
				links++
			}
		}
	}
	if links < 50 {
		t.Errorf("found only %d links", links)
	}
}

// brokenLink returns what is wrong with a link of a page, and "" if nothing is. It does
// not look at links to other sites.
func brokenLink(pages map[string]markdownPage, from markdownPage, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	to := from.path
	if u.Path != "" {
		to = path.Join(path.Dir(from.path), u.Path)
		if strings.HasPrefix(to, "../") {
			return "it leads out of the repository"
		}
		if _, err := os.Stat(filepath.Join(repositoryRoot, filepath.FromSlash(to))); err != nil {
			return "there is no such file"
		}
	}
	if u.Fragment == "" {
		return ""
	}
	if !anchors(pages[to].prose)[u.Fragment] {
		return fmt.Sprintf("%s has no such heading", to)
	}
	return ""
}

// anchors returns what links can name in a page: its headings in the form that GitHub
// and most other renderers give them, and explicit anchors.
func anchors(prose string) map[string]bool {
	found, count := map[string]bool{}, map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		slug := slugOf(m[1])
		if n := count[slug]; n > 0 {
			found[fmt.Sprintf("%s-%d", slug, n)] = true
		} else {
			found[slug] = true
		}
		count[slug]++
	}
	for _, m := range htmlAnchor.FindAllStringSubmatch(prose, -1) {
		found[m[1]] = true
	}
	return found
}

func slugOf(title string) string {
	title = markdownLink.ReplaceAllString(title, "]")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

func TestSlugsAreThoseOfGitHub(t *testing.T) {
	for title, want := range map[string]string{
		"What it does not promise":          "what-it-does-not-promise",
		"GET /usage/client.js, client.d.ts": "get-usageclientjs-clientdts",
		"An experiment: reading":            "an-experiment-reading",
		"`attempts` and `mode`":             "attempts-and-mode",
		"See [http](http.md)":               "see-http",
	} {
		if got := slugOf(title); got != want {
			t.Errorf("%q: %s, want %s", title, got, want)
		}
	}
}

// TestPathsInPagesExist checks the paths of the repository that pages name as code, such
// as `deploy/prometheus` or `proxy/path*_test.go`.
func TestPathsInPagesExist(t *testing.T) {
	entries, err := os.ReadDir(repositoryRoot)
	if err != nil {
		t.Fatal(err)
	}
	top := map[string]bool{}
	for _, e := range entries {
		top[e.Name()] = e.IsDir()
	}
	for _, p := range markdownPages(t) {
		if strings.Contains(p.path, "testdata/") || p.path == "CHANGELOG.md" { // which speaks of the past
			continue
		}
		for _, m := range inlineCode.FindAllStringIndex(p.prose, -1) {
			name := strings.TrimPrefix(strings.Trim(p.prose[m[0]:m[1]], "`"), "./")
			first, _, below := strings.Cut(name, "/")
			if !below || !top[first] || strings.ContainsAny(name, " $<>{}") || strings.HasSuffix(name, "...") {
				continue
			}
			found, err := filepath.Glob(filepath.Join(repositoryRoot, filepath.FromSlash(name)))
			if err != nil || len(found) == 0 {
				t.Errorf("%s:%d: there is no %s", p.path, lineAt(p.prose, m[0]), name)
			}
		}
	}
}

// TestNamedPagesExist checks that the pages which code, configurations and scripts refer
// to are there.
func TestNamedPagesExist(t *testing.T) {
	named := regexp.MustCompile(`\bdocs/[a-z-]+\.(?:md|yaml)\b`)
	err := filepath.WalkDir(repositoryRoot, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != repositoryRoot && strings.HasPrefix(name, ".") && name != ".ci" || name == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		switch filepath.Ext(file) {
		case ".go", ".yaml", ".yml", ".json", ".js", ".ts", ".sh", ".lua", ".service", "":
		default:
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > 1<<20 {
			return err // a program that was built here, for example
		}
		text, err := os.ReadFile(file)
		for _, m := range named.FindAllIndex(text, -1) {
			name := string(text[m[0]:m[1]])
			if _, err := os.Stat(filepath.Join(repositoryRoot, filepath.FromSlash(name))); err != nil {
				t.Errorf("%s:%d: there is no %s", file, lineAt(string(text), m[0]), name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadmeIsShort counts the words outside of code blocks.
func TestReadmeIsShort(t *testing.T) {
	words := len(strings.Fields(markdownPages(t)["README.md"].prose))
	if words > maxReadmeWords {
		t.Errorf("README.md has %d words outside of code blocks, at most %d fit the first ten minutes: move reference to docs/", words, maxReadmeWords)
	}
	if words < 300 {
		t.Errorf("counted only %d words", words)
	}
}

// TestPagesAreIndexed checks that each page below docs begins with a title and one line
// that says what it answers, and that docs/README.md lists it with the same line.
func TestPagesAreIndexed(t *testing.T) {
	pages := markdownPages(t)
	entry := regexp.MustCompile(`(?m)^- \[([^\]]+)\]\(([^)]+)\): (.+)$`)
	listed := map[string]string{}
	for _, m := range entry.FindAllStringSubmatch(pages["docs/README.md"].prose, -1) {
		listed[path.Join("docs", m[2])] = m[3]
	}
	for name, p := range pages {
		if path.Dir(name) != "docs" {
			continue
		}
		summary, err := summaryOf(p.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "docs/README.md" {
			continue
		}
		if _, ok := listed[name]; !ok {
			t.Errorf("docs/README.md does not list %s", name)
		} else if listed[name] != summary {
			t.Errorf("docs/README.md says %q of %s, which says %q", listed[name], name, summary)
		}
	}
	for name := range listed {
		if _, err := os.Stat(filepath.Join(repositoryRoot, filepath.FromSlash(name))); err != nil {
			t.Errorf("docs/README.md lists %s, which does not exist", name)
		}
	}
}

// summaryOf returns the line below a page's title.
func summaryOf(text string) (string, error) {
	lines := strings.SplitN(text, "\n", 5)
	if len(lines) < 5 || !strings.HasPrefix(lines[0], "# ") {
		return "", fmt.Errorf("line 1 must be the title")
	}
	if lines[1] != "" || lines[3] != "" || !strings.HasSuffix(lines[2], ".") {
		return "", fmt.Errorf("line 3 must say in one sentence what the page answers, with empty lines around it")
	}
	return lines[2], nil
}

// TestCompatibilityPageNamesItsTests checks that each row of docs/compatibility.md ends with
// tests, as `TestName` in `folder`, and that they are there.
func TestCompatibilityPageNamesItsTests(t *testing.T) {
	const page = "docs/compatibility.md"
	proof := regexp.MustCompile("((?:`Test\\w+`(?: and |, )?)+) in `([\\w/]+)`")
	test := regexp.MustCompile("Test\\w+")
	rows := 0
	for line := range strings.Lines(markdownPages(t)[page].text) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "|--") || strings.HasSuffix(line, "| test |\n") {
			continue
		}
		rows++
		cells := strings.Split(line, "|")
		proofs := proof.FindAllStringSubmatch(cells[len(cells)-2], -1)
		if proofs == nil {
			t.Errorf("%s: no test in: %s", page, line)
		}
		for _, p := range proofs {
			for _, name := range test.FindAllString(p[1], -1) {
				if !testExists(t, p[2], "func "+name+`\(`) {
					t.Errorf("%s: %s has no test %s", page, p[2], name)
				}
			}
		}
	}
	if rows < 10 {
		t.Errorf("found only %d rows", rows)
	}
}

// testExists reports whether the tests in a folder match a pattern.
func testExists(t *testing.T, folder, pattern string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repositoryRoot, filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(pattern).Match(text) {
			return true
		}
	}
	return false
}

// TestNamedTestsExist checks that the tests which pages run by name are there.
func TestNamedTestsExist(t *testing.T) {
	command := regexp.MustCompile(`go test (\./[\w/.-]+) (?:-\w+ )*-run '?\^?(\w+)`)
	checked := 0
	for name, p := range markdownPages(t) {
		for _, m := range command.FindAllStringSubmatch(p.text, -1) {
			named := "func " + m[2]
			if !strings.HasPrefix(m[2], "Test") {
				named = `func Test\w*` + m[2]
			}
			if !testExists(t, m[1], named) {
				t.Errorf("%s runs %s, which has no test %s", name, m[1], m[2])
			}
			checked++
		}
	}
	if checked == 0 {
		t.Error("found no such command")
	}
}
