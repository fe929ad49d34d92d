// Command release builds what a release of Metergate consists of, in the folder dist: for each
// platform a static program in an archive and a list of its parts (SBOM), the image, the npm
// package, the release notes and the checksums. The same commit gives the same bytes.
//
// It is a module of its own, so that its libraries stay out of the gateway's go.mod. The Makefile
// runs it; docs/release.md says how to make a release.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// supported are the platforms of a release.
var supported = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

func main() {
	var r release
	var platforms string
	flag.StringVar(&r.root, "root", "../..", "the `folder` of the source")
	flag.StringVar(&r.out, "out", "dist", "the `folder` to write to, below the source")
	flag.StringVar(&r.version, "version", "", "the version, by default that of git describe")
	flag.StringVar(&r.commit, "commit", "", "the commit, by default that of git")
	flag.StringVar(&platforms, "platforms", strings.Join(supported, ","), "build for these")
	flag.BoolVar(&r.trial, "trial", false, "build what is there, even if it is not a tagged commit")
	flag.BoolVar(&r.archives, "archives", false, "build the archives and nothing else")
	flag.Parse()
	r.platforms = strings.Split(platforms, ",")
	if err := r.run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// A release is what is being built.
type release struct {
	root, out       string
	version, commit string
	platforms       []string // such as linux/amd64
	trial, archives bool

	time  time.Time // of every file in it: when the commit was made
	work  string    // a temporary folder
	files []string  // what has been written, by its name in out
}

func (r *release) run() (err error) {
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	r.out = filepath.Join(r.root, r.out)
	if err := r.checkPlatforms(); err != nil {
		return err
	}
	if err := r.identify(); err != nil {
		return err
	}
	notes, err := r.notes()
	if err != nil {
		return err
	}
	definition, err := r.readDockerfile()
	if err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "metergate-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := r.clear(); err != nil {
		return err
	}
	if err := r.write("metergate-client.tgz", func(w io.Writer) error { return r.npmPackage(w) }); err != nil {
		return fmt.Errorf("npm package: %w", err)
	}
	for _, platform := range r.platforms {
		if err := r.platform(platform); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
	}
	if r.archives {
		return nil
	}
	if err := r.image(definition); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if err := r.write("RELEASE_NOTES.md", func(w io.Writer) error { _, err := io.WriteString(w, notes); return err }); err != nil {
		return err
	}
	return r.sums()
}

// checkPlatforms refuses what a release is not built for. "make dist" builds for the machine, whichever that is.
func (r *release) checkPlatforms() error {
	for i, platform := range r.platforms {
		if !r.archives && !slices.Contains(supported, platform) {
			return fmt.Errorf("PLATFORMS: %q is not supported: choose from %s", platform, strings.Join(supported, ","))
		}
		if slices.Contains(r.platforms[:i], platform) {
			return fmt.Errorf("PLATFORMS: %s is there twice: name it once", platform)
		}
	}
	return nil
}

// tag matches the tags of releases.
var tag = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

const tryIt = "; to try it without a release, run make release TRIAL=1"

// identify finds out which version is built, and that it is a release.
func (r *release) identify() error {
	if !r.trial {
		changed, err := r.git("status", "--porcelain")
		if err != nil {
			return err
		}
		if changed != "" {
			return errors.New("these files differ from the commit: commit them, or remove them" + tryIt + "\n" + changed)
		}
		tagged, err := r.git("describe", "--tags", "--exact-match", "HEAD")
		if err != nil || !tag.MatchString(tagged) {
			return errors.New("the commit has no tag such as v1.2.3: add one with git tag -a" + tryIt)
		}
		if r.version != "" && r.version != tagged {
			return fmt.Errorf("the version is to be %s, and the commit has the tag %s: leave VERSION out%s", r.version, tagged, tryIt)
		}
		r.version = tagged
	}
	for value, args := range map[*string][]string{
		&r.version: {"describe", "--tags", "--always", "--dirty"},
		&r.commit:  {"rev-parse", "HEAD"},
	} {
		if *value == "" {
			found, err := r.git(args...)
			if err != nil {
				return err
			}
			*value = found
		}
	}
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		var err error
		if seconds, err = r.git("log", "-1", "--format=%ct"); err != nil && !r.trial {
			return err
		} else if err != nil { // the source of a release, without git
			seconds = strconv.FormatInt(time.Now().Unix(), 10)
		}
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(n, 0).UTC()
	return nil
}

// git returns what git prints about the source.
func (r *release) git(args ...string) (string, error) {
	out, err := r.command("git", args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimRight(string(out), "\n"), err
}

// command returns a command in the folder of the source.
func (r *release) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = r.root
	return cmd
}

// clear removes what an earlier run has left in out.
func (r *release) clear() error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"metergate-*", "RELEASE_NOTES.md", "SHA256SUMS"} {
		names, _ := filepath.Glob(filepath.Join(r.out, pattern)) // the patterns are valid
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes a file of the release.
func (r *release) write(name string, fill func(io.Writer) error) error {
	file, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	r.files = append(r.files, name)
	return errors.Join(fill(file), file.Close())
}

func (r *release) npmPackage(w io.Writer) error {
	cmd := r.command("go", "run", "-trimpath", "-ldflags", "-X metergate/proxy/browser.version="+r.version, "./proxy/browser/writepackage")
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	return cmd.Run()
}

// platform builds the archive and the list of parts for a platform such as linux/amd64.
func (r *release) platform(platform string) error {
	if err := r.make("root", platform, "ROOT="+r.imageRoot(platform)); err != nil {
		return err
	}
	program := filepath.Join(r.imageRoot(platform), "metergate")
	name := "metergate-" + r.version + "-" + strings.ReplaceAll(platform, "/", "-")
	if err := r.write(name+".tar.gz", func(w io.Writer) error { return r.archive(w, program) }); err != nil || r.archives {
		return err
	}
	return r.write(name+".cdx.json", func(w io.Writer) error { return r.partsList(w, program, platform) })
}

// imageRoot returns the folder of the program for a platform, and of the other files of an image.
func (r *release) imageRoot(platform string) string {
	return filepath.Join(r.work, strings.ReplaceAll(platform, "/", "-"))
}

// make runs a target of the Makefile for a platform.
func (r *release) make(target, platform string, variables ...string) error {
	system, processor, ok := strings.Cut(platform, "/")
	if !ok {
		return errors.New("a platform is written as linux/amd64")
	}
	cmd := r.command("make", append([]string{"--no-print-directory", target, "VERSION=" + r.version, "COMMIT=" + r.commit}, variables...)...)
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "MAKEFLAGS=", "MAKELEVEL=")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// sums writes SHA256SUMS, as sha256sum -c reads it.
func (r *release) sums() error {
	slices.Sort(r.files)
	var lines strings.Builder
	for _, name := range r.files {
		file, err := os.Open(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, file)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", hash.Sum(nil), name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(lines.String()), 0o644)
}
