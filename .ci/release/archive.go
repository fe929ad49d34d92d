package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// archived are the files and folders of the source that go into each archive: what operators need, and what its
// pages link to.
var archived = []string{
	"LICENSE", "THIRD_PARTY_NOTICES", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
	"gateway.yaml", "config/gateway.schema.json", "Dockerfile", "compose.yaml", "deploy", "docs",
	"proxy/browser/meter.js", "proxy/browser/upgrade.js", "cmd/metergate/demoapi/page/usage.js",
}

// archive writes a .tar.gz with the program, the files of the source and the npm package.
func (r *release) archive(w io.Writer, program string) error {
	zipped := gzip.NewWriter(w)
	out := packer{tar.NewWriter(zipped), r.time}
	err := out.add("metergate", program, 0, 0)
	for _, name := range archived {
		err = errors.Join(err, out.add(name, filepath.Join(r.root, name), 0, 0))
	}
	err = errors.Join(err, out.add("metergate-client.tgz", filepath.Join(r.out, "metergate-client.tgz"), 0, 0))
	return errors.Join(err, out.Close(), zipped.Close())
}

// A packer writes archives that do not depend on who packs them, and when.
type packer struct {
	*tar.Writer
	time time.Time
}

// add adds a file, a link or a folder with all that is in it.
func (p packer) add(name, path string, uid, gid int) error {
	return filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		return p.addOne(filepath.ToSlash(filepath.Join(name, below)), file, uid, gid)
	})
}

func (p packer) addOne(name, path string, uid, gid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = name
	header.Mode = 0o644 // whatever the umask of the clone was
	if info.IsDir() {
		header.Name += "/"
	}
	switch {
	case target != "":
		header.Mode = 0o777
	case info.Mode()&0o111 != 0:
		header.Mode = 0o755
	}
	header.ModTime, header.AccessTime, header.ChangeTime = p.time, time.Time{}, time.Time{}
	header.Uid, header.Gid, header.Uname, header.Gname = uid, gid, "", ""
	header.Format = tar.FormatPAX
	if err := p.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(p, file)
	return errors.Join(err, file.Close())
}
