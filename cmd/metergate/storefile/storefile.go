// Package storefile has what commands do with the files of the embedded store while no gateway has them open:
// it takes a backup in, and looks for faults.
package storefile

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"metergate/quota/boltstore"
)

// ErrExists: there is a file, and it is not to be replaced.
var ErrExists = errors.New("exists already; -force replaces it")

// A Backup is a copy of usage.db that is being received.
type Backup struct {
	Body io.Reader
	Size int64 // in bytes
	// digest is the SHA-256 of the body.
	digest []byte
	// Progress is told how many bytes were received; nil: nobody is.
	Progress func(bytes int64)
}

// FromResponse returns the backup in a response of GET /admin/backup. It returns an error if the response does not say
// how to recognise a whole one.
func FromResponse(res *http.Response) (*Backup, error) {
	text := res.Header.Get("Content-Digest")
	digest, err := base64.StdEncoding.DecodeString(between(text, "sha-256=:", ":"))
	if err != nil || len(digest) != sha256.Size || res.ContentLength < 0 {
		return nil, errors.New("the response has no length or no Content-Digest: something between this command and the gateway changes it")
	}
	return &Backup{Body: res.Body, Size: res.ContentLength, digest: digest}, nil
}

func between(text, before, after string) string {
	if len(text) < len(before)+len(after) || text[:len(before)] != before || text[len(text)-len(after):] != after {
		return ""
	}
	return text[len(before) : len(text)-len(after)]
}

// CopyTo writes the backup to w. It returns an error if it is not whole.
func (b *Backup) CopyTo(w io.Writer) error {
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), &progressReader{b, 0})
	switch {
	case err != nil:
		return fmt.Errorf("the backup broke off after %d of %d bytes: %w", n, b.Size, err)
	case n != b.Size:
		return fmt.Errorf("the backup broke off after %d of %d bytes", n, b.Size)
	case string(hash.Sum(nil)) != string(b.digest):
		return errors.New("the backup was changed on its way: its digest is wrong")
	}
	return nil
}

type progressReader struct {
	backup *Backup
	bytes  int64
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.backup.Body.Read(p)
	r.bytes += int64(n)
	if r.backup.Progress != nil {
		r.backup.Progress(r.bytes)
	}
	return n, err
}

// CheckFree returns ErrExists if there is a file, unless it may be replaced.
func CheckFree(file string, force bool) error {
	switch info, err := os.Lstat(file); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder; name a file", file)
	case !force:
		return fmt.Errorf("%s %w", file, ErrExists)
	}
	return nil
}

// Save writes the backup to a file for this user alone. The file is there when the backup is whole, on disk and free of
// faults, and not before. Errors are those of CopyTo and CheckFree, and of the disk.
func (b *Backup) Save(ctx context.Context, file string, force bool) (err error) {
	part, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.part") // with permissions for this user alone
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(part.Name())
		}
	}()
	err = b.CopyTo(part)
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	faults, err := boltstore.Examine(part.Name())
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return fmt.Errorf("the backup has %d faults, so it was not kept; the first is: %v; stop the gateway and run \"metergate check\" on its folder", len(faults), faults[0])
	}
	if err := errors.Join(ctx.Err(), CheckFree(file, force)); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), file); err != nil {
		return err
	}
	SyncFolder(filepath.Dir(file))
	return nil
}

// SyncFolder makes a new name in a folder durable, where the system can.
func SyncFolder(dir string) {
	if folder, err := os.Open(dir); err == nil {
		folder.Sync()
		folder.Close()
	}
}
