package browser

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"time"
)

// version is that of the release. The linker sets it, see the Makefile. npm wants a semantic
// version.
var version = ""

// Archive is the name of the npm package among the files: what npm pack makes of this folder.
const Archive = "client.tgz"

// archive makes the package when it is first asked for.
var archive = sync.OnceValue(func() file {
	body, err := pack(npmVersion(version))
	if err != nil {
		panic("browser: " + err.Error()) // a file of the program is missing
	}
	return newFile(body, "application/gzip")
})

var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// npmVersion makes a version that npm accepts of one that git describe has printed: v1.2.3,
// v1.2.3-4-g5e6f7a8, or only a commit.
func npmVersion(described string) string {
	switch v := strings.TrimPrefix(described, "v"); {
	case semantic.MatchString(v):
		return v
	case v == "":
		return "0.0.0"
	default:
		return "0.0.0-g" + regexp.MustCompile(`[^0-9A-Za-z-]`).ReplaceAllString(v, "-")
	}
}

// pack returns the archive. It is the same for the same files: npm records its hash.
func pack(version string) ([]byte, error) {
	var out bytes.Buffer
	zipped, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // a valid level
	packed := tar.NewWriter(zipped)
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(embedded, name)
		if err == nil && name == "package.json" {
			body, err = withVersion(body, version)
		}
		if err != nil {
			return err
		}
		// As npm has it. Some tools refuse files from before 1980.
		modified := time.Date(1985, 10, 26, 8, 15, 0, 0, time.UTC)
		header := &tar.Header{Name: "package/" + name, Mode: 0o644, Size: int64(len(body)), ModTime: modified, Format: tar.FormatUSTAR}
		if err := packed.WriteHeader(header); err != nil {
			return err
		}
		_, err = packed.Write(body)
		return err
	})
	err = errors.Join(err, packed.Close(), zipped.Close())
	return out.Bytes(), err
}

// withVersion replaces the version of a package.json.
func withVersion(text []byte, version string) ([]byte, error) {
	var p struct{ Version string }
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("package.json: %w", err)
	}
	return bytes.Replace(text, fmt.Appendf(nil, `"version": %q`, p.Version), fmt.Appendf(nil, `"version": %q`, version), 1), nil
}
