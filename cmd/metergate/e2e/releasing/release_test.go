package releasing

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// sums returns the checksums of a release by file name.
func sums(t *testing.T, s *source) map[string]string {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(string(readFile(t, s.file("SHA256SUMS")))) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("SHA256SUMS: %q", line)
		}
		found[name] = sum
	}
	return found
}

// A release has an archive and a list of parts for each platform, and the other files, each with
// its checksum.
func TestReleaseIsComplete(t *testing.T) {
	s := released(t)
	want := []string{"RELEASE_NOTES.md", "metergate-client.tgz", "metergate-" + version + "-image.tar"}
	for _, platform := range platforms() {
		name := "metergate-" + version + "-" + strings.ReplaceAll(platform, "/", "-")
		want = append(want, name+".tar.gz", name+".cdx.json")
	}
	slices.Sort(want)
	found := sums(t, s)
	if names := slices.Sorted(maps.Keys(found)); !slices.Equal(names, want) {
		t.Errorf("SHA256SUMS has %q\nwant %q", names, want)
	}
	for name, sum := range found {
		if got := fmt.Sprintf("%x", sha256.Sum256(readFile(t, s.file(name)))); got != sum {
			t.Errorf("%s has the sum %s, and SHA256SUMS says %s", name, got, sum)
		}
	}
	entries, err := os.ReadDir(s.file(""))
	if err != nil || len(entries) != len(want)+1 {
		t.Errorf("error %v, files %v", err, entries)
	}
	// The command of docs/operate.md.
	check := exec.Command("sha256sum", "--check", "--strict", "--ignore-missing", "SHA256SUMS")
	check.Dir = s.file("")
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	notes := string(readFile(t, s.file("RELEASE_NOTES.md")))
	if !strings.HasPrefix(notes, "# Metergate "+version+"\n\n### ") || strings.Contains(notes, "\n## ") {
		t.Errorf("the notes are not one section of CHANGELOG.md: %.200q", notes)
	}
	if links := localLinks(notes); len(links) > 0 || !strings.Contains(notes, "See docs/backup.md.") {
		t.Errorf("the notes, which are read elsewhere, link to files: %q", links)
	}
}

// The same commit gives the same bytes, wherever it is built: here in a clone. With -long nothing of the first
// build is used again.
func TestReleaseIsReproducible(t *testing.T) {
	first := released(t)
	t.Setenv("TZ", "Asia/Tokyo")
	if gatewaytest.Times(0, 1) == 1 {
		t.Setenv("GOCACHE", t.TempDir())
	}
	second := &source{filepath.Join(work, "second-in-a-longer-folder")}
	if out, err := first.command("git", "clone", "-q", first.dir, second.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := second.release(); err != nil {
		t.Fatalf("make release: %v\n%s", err, out)
	}
	want, got := sums(t, first), sums(t, second)
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("%s: %s and %s", name, want[name], got[name])
		}
	}
}

// An archive has a static program of this version, and what its operators need, in the same order
// and with the same owner whoever has built it.
func TestArchiveHasWhatOperatorsNeed(t *testing.T) {
	s := released(t)
	commit, err := s.command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, platform := range platforms() {
		name := "metergate-" + version + "-" + strings.ReplaceAll(platform, "/", "-") + ".tar.gz"
		entries := unpack(t, readFile(t, s.file(name)))
		for _, wanted := range []string{"gateway.yaml", "deploy/metergate.service", "deploy/kubernetes.yaml", "deploy/kustomize/base/kustomization.yaml",
			"deploy/prometheus/alerts.yml", "docs/operate.md", "config/gateway.schema.json", "LICENSE", "THIRD_PARTY_NOTICES", "README.md"} {
			find(t, entries, wanted)
		}
		for _, e := range entries {
			if e.Uid != 0 || e.Gid != 0 || e.Uname != "" || e.ModTime.Unix() != 1700000000 || e.Mode != 0o644 && e.Mode != 0o755 {
				t.Errorf("%s: %s has owner %d %q, mode %o, time %v", name, e.Name, e.Uid, e.Uname, e.Mode, e.ModTime)
			}
		}
		for _, fault := range brokenLinks(entries) {
			t.Errorf("%s: %s", name, fault)
		}
		client := unpack(t, find(t, entries, "metergate-client.tgz").body)
		if text := string(find(t, client, "package/package.json").body); !strings.Contains(text, `"version": "7.8.9"`) {
			t.Errorf("the npm package has another version than the release: %s", text)
		}
		program := filepath.Join(t.TempDir(), "metergate")
		testkit.WriteFile(t, program, find(t, entries, "metergate").body)
		if err := os.Chmod(program, 0o755); err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{}
		for _, setting := range info.Settings {
			settings[setting.Key] = setting.Value
		}
		if got := settings["GOOS"] + "/" + settings["GOARCH"]; got != platform || settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
			t.Errorf("%s has a program built with %v", name, settings)
		}
		if file, err := elf.Open(program); err == nil {
			if slices.ContainsFunc(file.Progs, func(part *elf.Prog) bool { return part.Type == elf.PT_INTERP }) {
				t.Errorf("the program in %s needs a dynamic loader", name)
			}
			file.Close()
		} else if strings.HasPrefix(platform, "linux/") {
			t.Error(err)
		}
		if platform != runtime.GOOS+"/"+runtime.GOARCH {
			continue
		}
		want := fmt.Sprintf("metergate %s, commit %s, %s\n", version, strings.TrimSpace(string(commit)), info.GoVersion)
		if out, err := exec.Command(program, "version").CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("%s: error %v, %q, want %q", name, err, out, want)
		}
	}
}

var (
	code     = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	linkedTo = regexp.MustCompile(`(?:\]\(|(?:src|srcset|href)=")([^)"\s#]+)`)
)

// localLinks returns the files that a page of Markdown links to.
func localLinks(text string) (files []string) {
	for _, m := range linkedTo.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		if !strings.Contains(m[1], ":") {
			files = append(files, m[1])
		}
	}
	return files
}

// brokenLinks returns what the pages of an archive link to and the archive does not have.
func brokenLinks(entries []packed) (faults []string) {
	links, there := 0, map[string]bool{}
	for _, e := range entries {
		there[strings.TrimSuffix(e.Name, "/")] = true
	}
	for _, e := range entries {
		if path.Ext(e.Name) != ".md" {
			continue
		}
		for _, file := range localLinks(string(e.body)) {
			links++
			if !there[path.Join(path.Dir(e.Name), file)] {
				faults = append(faults, fmt.Sprintf("%s links to %s, which is not packed", e.Name, file))
			}
		}
	}
	if links < 50 {
		faults = append(faults, fmt.Sprintf("there are only %d links", links))
	}
	return faults
}

// The list of parts is valid, and names each module that is linked and each library in the pages.
func TestPartsListIsComplete(t *testing.T) {
	s := released(t)
	schemas, err := s.command("go", "list", "-C", ".ci/release", "-m", "-f", "{{.Dir}}/schema", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schemax.json"} {
		var schema any
		if err := json.Unmarshal(readFile(t, filepath.Join(strings.TrimSpace(string(schemas)), name)), &schema); err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+strings.Replace(name, "schemax", "schema", 1), schema); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	libraries := browserLibraries(t, s)
	for _, platform := range platforms() {
		name := "metergate-" + version + "-" + strings.ReplaceAll(platform, "/", "-")
		text := readFile(t, s.file(name+".cdx.json"))
		var any any
		var list struct {
			Metadata   struct{ Component struct{ Version string } }
			Components []struct{ PURL string }
		}
		if err := json.Unmarshal(text, &any); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(any); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := json.Unmarshal(text, &list); err != nil || list.Metadata.Component.Version != version {
			t.Fatalf("%s: error %v, version %q", name, err, list.Metadata.Component.Version)
		}
		// go version -m names what is linked.
		program := filepath.Join(t.TempDir(), "metergate")
		testkit.WriteFile(t, program, find(t, unpack(t, readFile(t, s.file(name+".tar.gz"))), "metergate").body)
		out, err := exec.Command("go", "version", "-m", program).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want := slices.Clone(libraries)
		for _, m := range regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(string(out), -1) {
			want = append(want, "pkg:golang/"+m[1]+"@"+m[2])
		}
		want = append(want, "pkg:golang/stdlib@"+strings.TrimPrefix(runtime.Version(), "go"))
		var got []string
		for _, c := range list.Components {
			got = append(got, c.PURL)
		}
		slices.Sort(want)
		slices.Sort(got)
		if len(want) < 20 || !slices.Equal(got, want) {
			t.Errorf("%s lists\n%q, and these are linked:\n%q", name, got, want)
		}
	}
}

// browserLibraries returns the package URLs of the scripts of others that are part of the source:
// those with another licence than ours beside them.
func browserLibraries(t *testing.T, s *source) (purls []string) {
	t.Helper()
	out, err := s.command("git", "ls-files", "*/LICENSE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range strings.Fields(string(out)) {
		folder := filepath.Base(filepath.Dir(file))
		scripts, _ := filepath.Glob(filepath.Join(s.dir, filepath.Dir(file), "*.js"))
		if len(scripts) == 0 || bytes.Equal(readFile(t, filepath.Join(s.dir, file)), readFile(t, filepath.Join(s.dir, "LICENSE"))) {
			continue
		}
		i := strings.LastIndexByte(folder, '-')
		if i < 0 {
			t.Errorf("%s is not in a folder such as uplot-1.6.32, by which the list of parts finds the library", file)
			continue
		}
		purls = append(purls, "pkg:npm/"+folder[:i]+"@"+folder[i+1:])
	}
	return purls
}

// What is not ready for a release is refused before anything is built, with what to do; TRIAL=1
// builds it.
func TestReleaseRefusesWhatIsNotReady(t *testing.T) {
	s, err := newSource(filepath.Join(work, "refused"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := s.runProgram(t, args...)
		if err == nil || !strings.Contains(out, want) || !strings.Contains(out, "make release TRIAL=1") {
			t.Errorf("error %v, want %q and what TRIAL=1 does, got:\n%s", err, want, out)
		}
	}
	git := func(args ...string) {
		t.Helper()
		if out, err := s.command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	changelog := func(old, replacement string) {
		t.Helper()
		path := filepath.Join(s.dir, "CHANGELOG.md")
		text := string(readFile(t, path))
		testkit.WriteFile(t, path, strings.Replace(text, old, replacement, 1))
		git("commit", "-qam", "changelog")
		git("tag", "-fam", "again", version)
	}
	for platforms, want := range map[string]string{
		"plan9/amd64":             `"plan9/amd64" is not supported: choose from linux/amd64,linux/arm64,darwin/amd64,darwin/arm64`,
		"linux/amd64,":            `"" is not supported`,
		"linux/amd64,linux/amd64": "linux/amd64 is there twice",
	} {
		if out, err := s.runProgram(t, "-trial", "-platforms", platforms); err == nil || !strings.Contains(out, "PLATFORMS: "+want) {
			t.Errorf("%s: error %v, want %q, got:\n%s", platforms, err, want, out)
		}
	}
	refused("the commit has the tag "+version, "-version", "v1.0.0")
	s.appendText(t, "README.md", "\n")
	refused(" M README.md")
	git("commit", "-qam", "untagged")
	refused("the commit has no tag such as v1.2.3")
	changelog("## [7.8.9] - 2026-11-30", "## [7.8.9] - soon")
	refused(`the heading of version 7.8.9 must end with its date, such as " - 2026-11-30", and not with " - soon"`)
	changelog("## [7.8.9] - soon", "## [7.8.9] - 2026-11-30\n\n## [7.8.8] - 2026-11-29")
	refused("the section of version 7.8.9 is empty")
	changelog("## [7.8.9]", "## [7.7.7]")
	refused("CHANGELOG.md has no section ## [7.8.9]")
}

// "make dist" packs what is there, also files that are not committed, for this machine. An
// instruction of the Dockerfile that make release does not know stops it, so that its image has what
// docker build would put there.
func TestDistPacksWhatIsThere(t *testing.T) {
	s, err := newSource(filepath.Join(work, "dist"))
	if err != nil {
		t.Fatal(err)
	}
	s.appendText(t, "README.md", "not committed\n")
	if out, err := s.command("make", "dist", "VERSION=v1.2.3-trial", "COMMIT=c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	entries := unpack(t, readFile(t, s.file("metergate-v1.2.3-trial-"+runtime.GOOS+"-"+runtime.GOARCH+".tar.gz")))
	if readme := find(t, entries, "README.md"); !strings.HasSuffix(string(readme.body), "not committed\n") {
		t.Error("the archive has the README of the commit")
	}
	program := filepath.Join(t.TempDir(), "metergate")
	testkit.WriteFile(t, program, find(t, entries, "metergate").body)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "metergate v1.2.3-trial, commit c, go") {
		t.Errorf("error %v: %s", err, out)
	}

	s.appendText(t, "Dockerfile", "WORKDIR /somewhere\n")
	if out, err := s.runProgram(t, "-trial"); err == nil || !strings.Contains(out, `Dockerfile: "WORKDIR /somewhere": this instruction is not known`) {
		t.Errorf("error %v: %s", err, out)
	}
}
