package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// image writes the image for every Linux platform into one archive, which registries, Docker,
// Podman and containerd read: an OCI layout with an index, and beside it the manifest.json of
// "docker save". The images have Docker's media types, because the OCI's have no health check, and
// Podman would ignore it.
func (r *release) image(definition *dockerfile) error {
	index := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	var saved []savedImage
	for _, platform := range r.platforms {
		processor, ok := strings.CutPrefix(platform, "linux/")
		if !ok {
			continue
		}
		image, err := r.platformImage(definition, processor)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: processor}},
		})
		one, err := describeSaved(image, "metergate:"+r.version+"-"+processor)
		if err != nil {
			return err
		}
		saved = append(saved, one)
	}
	if len(saved) == 0 {
		return nil
	}
	return r.writeImage(index, saved)
}

// platformImage returns the image for a processor.
func (r *release) platformImage(definition *dockerfile, processor string) (v1.Image, error) {
	root := r.imageRoot("linux/" + processor)
	layers := make([]v1.Layer, 2)
	for i, fill := range []func(packer) error{r.addBase, func(p packer) error { return addCopies(p, definition.copies, root) }} {
		var packed bytes.Buffer
		out := packer{tar.NewWriter(&packed), r.time}
		err := errors.Join(fill(out), out.Close())
		if err != nil {
			return nil, err
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
		if layers[i], err = tarball.LayerFromOpener(open, tarball.WithMediaType(types.DockerLayer)); err != nil {
			return nil, err
		}
	}
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", processor, v1.Time{Time: r.time}, definition.config
	file.Config.Labels = map[string]string{
		"org.opencontainers.image.title":    "metergate",
		"org.opencontainers.image.version":  r.version,
		"org.opencontainers.image.revision": r.commit,
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	file.History = []v1.History{
		{Created: v1.Time{Time: r.time}, CreatedBy: "certificates, users and /tmp"},
		{Created: v1.Time{Time: r.time}, CreatedBy: "metergate " + r.version},
	}
	return mutate.ConfigFile(image, file)
}

// addBase adds what the base image of the Dockerfile has and the program needs: the certificates of
// public authorities, names for the users, and a /tmp. Time zones are part of the program.
func (r *release) addBase(p packer) error {
	var certificates bytes.Buffer
	for root := range bundle.Roots() {
		if err := pem.Encode(&certificates, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return err
		}
	}
	folder := func(name string, mode int64) error {
		return p.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: p.time, Format: tar.FormatPAX})
	}
	file := func(name string, body []byte) error {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: p.time, Format: tar.FormatPAX}
		if err := p.WriteHeader(header); err != nil {
			return err
		}
		_, err := p.Write(body)
		return err
	}
	return errors.Join(
		folder("etc/", 0o755), folder("etc/ssl/", 0o755), folder("etc/ssl/certs/", 0o755),
		file("etc/group", []byte("root:x:0:\nnonroot:x:65532:\n")),
		file("etc/passwd", []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")),
		file("etc/ssl/certs/ca-certificates.crt", certificates.Bytes()),
		folder("tmp/", 0o1777),
	)
}

// addCopies adds what the COPY lines name, with the folders above it.
func addCopies(p packer, copies []copied, root string) error {
	made := []string{"etc"} // by addBase
	for _, c := range copies {
		name := strings.TrimPrefix(c.to, "/")
		for i := range name {
			if name[i] != '/' || slices.Contains(made, name[:i]) {
				continue
			}
			made = append(made, name[:i])
			if err := p.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name[:i] + "/", Mode: 0o755, ModTime: p.time, Format: tar.FormatPAX}); err != nil {
				return err
			}
		}
		if err := p.add(name, c.source(root), c.uid, c.uid); err != nil {
			return err
		}
	}
	return nil
}

// A savedImage is an entry of manifest.json, which "docker load" reads.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func describeSaved(image v1.Image, name string) (savedImage, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return savedImage{}, err
	}
	blob := func(d v1.Descriptor) string { return path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex) }
	saved := savedImage{Config: blob(manifest.Config), RepoTags: []string{name}}
	for _, layer := range manifest.Layers {
		saved.Layers = append(saved.Layers, blob(layer))
	}
	return saved, nil
}

func (r *release) writeImage(index v1.ImageIndex, saved []savedImage) error {
	folder := filepath.Join(r.work, "image")
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	// Tools name the image by one or the other when they load it.
	name := layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": "metergate:" + r.version,
		"io.containerd.image.name":          "docker.io/library/metergate:" + r.version,
	})
	if err := written.AppendIndex(index, name); err != nil {
		return err
	}
	text, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "manifest.json"), text, 0o600); err != nil {
		return err
	}
	return r.write("metergate-"+r.version+"-image.tar", func(w io.Writer) error {
		out := packer{tar.NewWriter(w), r.time}
		entries, err := os.ReadDir(folder)
		for _, e := range entries {
			err = errors.Join(err, out.add(e.Name(), filepath.Join(folder, e.Name()), 0, 0))
		}
		return errors.Join(err, out.Close())
	})
}
