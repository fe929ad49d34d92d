// Package upgrading proves that gateways of this release and of the one before can share a store,
// that this one goes on with the counts of the other, and what becomes of them on the way back.
package upgrading

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "metergate-release-")
	if err != nil {
		panic(err)
	}
	buildRelease = sync.OnceValues(func() (string, error) { return build(dir) })
	code := gatewaytest.Build(m).Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildRelease builds the program of the release before, and returns its path.
var buildRelease func() (program string, err error)

// build builds the source in testdata with the modules of this tree. Release 0.1.0 needs no others.
func build(dir string) (string, error) {
	archive, err := os.Open("testdata/0.1.0.tar.gz")
	if err != nil {
		return "", err
	}
	defer archive.Close()
	if err := unpack(archive, dir); err != nil {
		return "", err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join("../../../..", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return "", err
		}
	}
	// With -trimpath, the go command finds what it has built before in another folder.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", "release", "./cmd/metergate")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	return filepath.Join(dir, "release"), cmd.Run()
}

// unpack writes the files of an archive into dir.
func unpack(archive io.Reader, dir string) error {
	text, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	for files := tar.NewReader(text); ; {
		h, err := files.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(files)
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			return err
		}
	}
}

// A version is a program and the plans and routes that its configuration has.
type version struct {
	release bool   // the program of the release before
	claims  string // of auth.jwt; empty: as they are without
	plans   string
	routes  string
}

// before is the release before, with what was sold then; now is this one, with costs turned on.
var (
	before = version{
		release: true,
		plans: `
  free:  { limits: [{ requests: 100, per: month }] }
  small: { limits: [{ requests: 100, per: month }] }`,
		routes: `
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }`,
	}
	now = version{
		plans: `
  free:  { limits: [{ requests: 100, per: month }, { units: 1000, per: month }], concurrent: { requests: 900, wait: 30s } }
  small: { limits: [{ units: 20, per: month }], concurrent: { requests: 2 } }`,
		routes: `
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis, cost: { max: 20, from: header X-Cost } }`,
	}
)

// start runs a gateway. store is a URL, and dir has its configuration and its journal.
func (v version) start(t *testing.T, dir, store, upstream string) *gatewaytest.Process {
	t.Helper()
	p := v.launch(t, dir, store, upstream)
	p.WaitUntilServing()
	return p
}

// launch is start for a gateway that may not come to serve.
func (v version) launch(t *testing.T, dir, store, upstream string) *gatewaytest.Process {
	t.Helper()
	program, name := gatewaytest.Program(), "now.yaml"
	if v.release {
		var err error
		if program, err = buildRelease(); err != nil {
			t.Fatalf("building the release before: %v", err)
		}
		name = "before.yaml"
	}
	file := filepath.Join(dir, name)
	testkit.WriteFile(t, file, `
listen: 127.0.0.1:0
shutdown_timeout: 30s
admin: { listen: 127.0.0.1:0, token: "`+gatewaytest.AdminToken+`" }
store: { url: "`+store+`", timeout: 20s, on_failure: deny, journal: journal }
auth: { jwt: { secret: "`+testkit.Secret+`", algorithms: [HS256]`+v.claims+` } }
default_plan: free
plans:`+v.plans+`
upstreams:
  analysis: { targets: [{ url: "`+upstream+`" }], timeout: 2s }
routes:`+v.routes+`
log: { level: info }
`)
	return gatewaytest.StartCommand(t, exec.Command(program, "serve", "-config", file))
}
