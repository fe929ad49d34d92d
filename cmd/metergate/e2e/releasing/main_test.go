// Package releasing builds releases as their maintainers do, and tests what is in them: the archives,
// the lists of parts, the checksums, and the image, which it runs as its user.
package releasing

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// work holds what the tests share. Another user has to run programs in it.
var work string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "metergate-releasing-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	work = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const version = "v7.8.9"

// platforms are those of the release that the tests build: that of the machine and its image, or
// all with -long.
func platforms() []string {
	if gatewaytest.Times(0, 1) == 1 {
		return []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}
	}
	own := []string{runtime.GOOS + "/" + runtime.GOARCH, "linux/" + runtime.GOARCH}
	return slices.Compact(own)
}

// A source is a clone of the repository, with what is not committed, whose commit has a tag and a
// section in CHANGELOG.md.
type source struct{ dir string }

// newSource makes a source.
func newSource(dir string) (*source, error) {
	s := &source{dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := filepath.Abs("../../../..")
	if err != nil {
		return nil, err
	}
	script := `set -euo pipefail
tar -C "$1" --exclude=.git --exclude=node_modules --exclude=.tools --exclude=./dist --exclude=./metergate --exclude=./data \
	--exclude=./.ci/bundlers --exclude=./.ci/npm -cf - . | tar -xf -
sed -i 's/^## \[Unreleased\]$/## [Unreleased]\n\n## [7.8.9] - 2026-11-30/' CHANGELOG.md
git init -q
git add -A
git -c user.name=t -c user.email=t@example.com commit -qm release
git -c user.name=t -c user.email=t@example.com tag -am release ` + version
	if out, err := s.command("bash", "-c", script, "bash", root).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return s, nil
}

// command returns a command in the source, at the time of its commit.
func (s *source) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_DATE=@1700000000 +0000", "GIT_COMMITTER_DATE=@1700000000 +0000", "MAKEFLAGS=", "MAKELEVEL=")
	return cmd
}

// release runs make release for platforms, and returns what it printed.
func (s *source) release(args ...string) (string, error) {
	out, err := s.command("make", append([]string{"release", "PLATFORMS=" + strings.Join(platforms(), ",")}, args...)...).CombinedOutput()
	return string(out), err
}

// programOnce builds the program that make release runs.
var programOnce = sync.OnceValues(func() (program string, err error) {
	program = filepath.Join(work, "release")
	out, err := exec.Command("go", "build", "-C", "../../../../.ci/release", "-o", program, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return program, err
})

// runProgram runs what make release runs, and returns what it printed.
func (s *source) runProgram(t *testing.T, args ...string) (string, error) {
	t.Helper()
	released(t) // which skips the test where the program cannot be built
	program, err := programOnce()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.command(program, append([]string{"-root", s.dir}, args...)...).CombinedOutput()
	return string(out), err
}

func (s *source) file(name string) string { return filepath.Join(s.dir, "dist", name) }

var buildOnce = sync.OnceValues(func() (*source, error) {
	s, err := newSource(filepath.Join(work, "first"))
	if err != nil {
		return nil, err
	}
	if out, err := s.release(); err != nil {
		return nil, fmt.Errorf("make release: %w\n%s", err, out)
	}
	return s, nil
})

// released returns the release that the tests share.
func released(t *testing.T) *source {
	t.Helper()
	testkit.DependOn(t, ".ci/release", "cmd", "config", "deploy", "docs", "proxy", "quota")
	for _, name := range []string{"Dockerfile", "Makefile", "go.mod", "gateway.yaml"} {
		testkit.ReadFile(t, name)
	}
	s, err := buildOnce()
	if err != nil {
		if os.Getenv(redistest.RequireEnv) == "" && strings.Contains(err.Error(), "no required module provides") {
			t.Skipf("run .ci/install for what make release needs: %v", err)
		}
		t.Fatal(err)
	}
	return s
}

// A packed is an entry of an archive.
type packed struct {
	*tar.Header
	body []byte
}

// unpack reads a tar archive, which may be compressed.
func unpack(t *testing.T, archive []byte) (entries []packed) {
	t.Helper()
	var from io.Reader = bytes.NewReader(archive)
	if bytes.HasPrefix(archive, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(from)
		if err != nil {
			t.Fatal(err)
		}
		from = unzipped
	}
	for reader := tar.NewReader(from); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, packed{header, body})
	}
}

// find returns the entry with a name.
func find(t *testing.T, entries []packed, name string) packed {
	t.Helper()
	i := slices.IndexFunc(entries, func(e packed) bool { return strings.TrimSuffix(e.Name, "/") == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return entries[i]
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// appendText appends to a file of the source.
func (s *source) appendText(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	testkit.WriteFile(t, path, string(readFile(t, path))+text)
}
