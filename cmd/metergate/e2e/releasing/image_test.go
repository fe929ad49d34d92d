package releasing

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A descriptor names a blob of an image.
type descriptor struct {
	MediaType   string
	Digest      string
	Size        int
	Platform    struct{ OS, Architecture string }
	Annotations map[string]string
}

// An image is one of those in the archive of a release.
type image struct {
	Architecture, OS string
	Config           imageConfig
	layers           []packed // of all layers, in order
}

type imageConfig struct {
	User              string
	Env               []string
	Entrypoint, Cmd   []string
	ExposedPorts      map[string]struct{}
	Volumes           map[string]struct{}
	Labels            map[string]string
	WorkingDir, Shell string
	Healthcheck       *struct {
		Test                           []string
		Interval, Timeout, StartPeriod time.Duration
	}
}

// An imageArchive has the files of an image's archive by name.
type imageArchive map[string][]byte

// blob returns a blob, whose digest and size must be right.
func (a imageArchive) blob(t *testing.T, d descriptor) []byte {
	t.Helper()
	body, ok := a["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(body)); !ok || got != d.Digest || len(body) != d.Size {
		t.Fatalf("blob %s of %d bytes: found %v, with the digest %s and %d bytes", d.Digest, d.Size, ok, got, len(body))
	}
	return body
}

func decode[T any](t *testing.T, text []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

type index struct {
	MediaType string
	Manifests []descriptor
}

// loadImages returns the images of the release by their processor, as a registry or "docker load"
// reads them.
func loadImages(t *testing.T) map[string]image {
	t.Helper()
	files := imageArchive{}
	for _, e := range unpack(t, readFile(t, released(t).file("metergate-"+version+"-image.tar"))) {
		files[e.Name] = e.body
	}
	top := decode[index](t, files["index.json"])
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "metergate:"+version {
		t.Fatalf("index.json: %+v", top)
	}
	list := decode[index](t, files.blob(t, top.Manifests[0]))
	if list.MediaType != "application/vnd.docker.distribution.manifest.list.v2+json" {
		t.Errorf("the index is of type %s", list.MediaType)
	}
	type saved struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var fromIndex []saved
	images := map[string]image{}
	for _, d := range list.Manifests {
		manifest := decode[struct {
			MediaType string
			Config    descriptor
			Layers    []descriptor
		}](t, files.blob(t, d))
		if manifest.MediaType != "application/vnd.docker.distribution.manifest.v2+json" {
			t.Errorf("the manifest is of type %s, for which Podman has no health check", manifest.MediaType)
		}
		one := decode[image](t, files.blob(t, manifest.Config))
		if one.OS != d.Platform.OS || one.Architecture != d.Platform.Architecture {
			t.Errorf("the image for %+v is for %s/%s", d.Platform, one.OS, one.Architecture)
		}
		entry := saved{Config: blobName(manifest.Config), RepoTags: []string{"metergate:" + version + "-" + one.Architecture}}
		for _, layer := range manifest.Layers {
			entry.Layers = append(entry.Layers, blobName(layer))
			one.layers = append(one.layers, unpack(t, files.blob(t, layer))...)
		}
		fromIndex = append(fromIndex, entry)
		images[one.Architecture] = one
	}
	if got, want := fmt.Sprint(decode[[]saved](t, files["manifest.json"])), fmt.Sprint(fromIndex); got != want {
		t.Errorf("docker load reads %s, and registries %s", got, want)
	}
	var want []string
	for _, platform := range platforms() {
		if processor, ok := strings.CutPrefix(platform, "linux/"); ok {
			want = append(want, processor)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(images)); !slices.Equal(got, want) {
		t.Fatalf("there are images for %q, want %q", got, want)
	}
	return images
}

func blobName(d descriptor) string { return path.Join("blobs", strings.Replace(d.Digest, ":", "/", 1)) }

// dockerfileList returns the list in an instruction of the Dockerfile.
func dockerfileList(t *testing.T, instruction string) []string {
	t.Helper()
	return decode[[]string](t, []byte(dockerfileLine(t, instruction+`.*?`, `\[.*\]`)))
}

// dockerfileLine returns what an instruction of the Dockerfile has after a prefix.
func dockerfileLine(t *testing.T, prefix, value string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + prefix + ` ?(` + value + `)$`).FindSubmatch(readFile(t, released(t).dir+"/Dockerfile"))
	if m == nil {
		t.Fatalf("the Dockerfile has no %s", prefix)
	}
	return string(m[1])
}

// The image has the settings of the Dockerfile.
func TestImageHasSettingsOfDockerfile(t *testing.T) {
	for processor, one := range loadImages(t) {
		c := one.Config
		if c.Healthcheck == nil {
			t.Fatalf("%s: there is no health check", processor)
		}
		check := c.Healthcheck
		got := fmt.Sprintln(c.User, c.Env, slices.Collect(maps.Keys(c.Volumes)), slices.Collect(maps.Keys(c.ExposedPorts)), c.Entrypoint, c.Cmd,
			check.Test, check.Interval, check.Timeout, check.StartPeriod)
		want := fmt.Sprintln(dockerfileLine(t, "USER", `\S+`), []string{dockerfileLine(t, "ENV", `\S+`)}, []string{dockerfileLine(t, "VOLUME", `\S+`)},
			[]string{dockerfileLine(t, "EXPOSE", `\S+`) + "/tcp"}, dockerfileList(t, "ENTRYPOINT"), dockerfileList(t, "CMD"),
			append([]string{"CMD"}, dockerfileList(t, "HEALTHCHECK")...), "10s", "6s", "10s")
		if got != want {
			t.Errorf("%s has\n%s, and the Dockerfile\n%s", processor, got, want)
		}
		if dockerfileLine(t, "HEALTHCHECK", `\S+ \S+ \S+ CMD .*`)[:54] != "--interval=10s --timeout=6s --start-period=10s CMD [\"/" {
			t.Error("the times of the health check in the Dockerfile are others than in this test")
		}
		if c.User != "65532:65532" || c.Labels["org.opencontainers.image.version"] != version || len(c.Labels["org.opencontainers.image.revision"]) != 40 {
			t.Errorf("%s: user %s, labels %v", processor, c.User, c.Labels)
		}
	}
}

// The image has the files that the program needs: no more, with the owners and rights that they
// need, and nothing of the machine that has built it.
func TestImageHasFilesOfProgram(t *testing.T) {
	for processor, one := range loadImages(t) {
		var got []string
		for _, e := range one.layers {
			if e.ModTime.Unix() != 1700000000 {
				t.Errorf("%s: %s is of %v", processor, e.Name, e.ModTime)
			}
			got = append(got, fmt.Sprintf("%s %o %d:%d %s", e.Name, e.Mode, e.Uid, e.Gid, e.Linkname))
		}
		want := []string{
			"etc/ 755 0:0 ", "etc/ssl/ 755 0:0 ", "etc/ssl/certs/ 755 0:0 ", "etc/group 644 0:0 ", "etc/passwd 644 0:0 ",
			"etc/ssl/certs/ca-certificates.crt 644 0:0 ", "tmp/ 1777 0:0 ",
			"metergate 755 0:0 ",
			"usr/ 755 0:0 ", "usr/share/ 755 0:0 ", "usr/share/doc/ 755 0:0 ", "usr/share/doc/metergate/ 755 0:0 ",
			"usr/share/doc/metergate/LICENSE 644 0:0 ", "usr/share/doc/metergate/THIRD_PARTY_NOTICES 644 0:0 ",
			"etc/metergate/ 755 0:0 ", "etc/metergate/data 777 0:0 /var/lib/metergate", "etc/metergate/gateway.yaml 644 0:0 ",
			"var/ 755 0:0 ", "var/lib/ 755 0:0 ", "var/lib/metergate/ 755 65532:65532 ",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has\n%s\nwant\n%s", processor, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		roots := x509.NewCertPool()
		certificates := find(t, one.layers, "etc/ssl/certs/ca-certificates.crt").body
		if n := bytes.Count(certificates, []byte("BEGIN CERTIFICATE")); n < 100 || !roots.AppendCertsFromPEM(certificates) {
			t.Errorf("%s has %d certificates of authorities", processor, n)
		}
		if !bytes.Equal(find(t, one.layers, "etc/metergate/gateway.yaml").body, readFile(t, released(t).dir+"/gateway.yaml")) {
			t.Errorf("%s has another gateway.yaml", processor)
		}
	}
}
