package admin_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota"
)

// A backup has its length and its digest in the header, and leaves an entry. One that fails says why.
func TestBackup(t *testing.T) {
	r := newTestAPI(t)
	r.use("u-17", "free", "analyze")
	status, header, body := r.do("GET", "/admin/backup?reason=nightly", "")
	sum := sha256.Sum256([]byte(body))
	if status != 200 || header.Get("Content-Digest") != "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":" || header.Get("Content-Length") != fmt.Sprint(len(body)) {
		t.Errorf("status %d, %d bytes, header %v", status, len(body), header)
	}
	if e := r.entries("/admin/audit")[0]; e.Action != "backup" || e.Detail != fmt.Sprintf("%d bytes", len(body)) || e.Reason != "nightly" || e.Outcome != "done" {
		t.Errorf("entry %+v", e)
	}
	if status, _, _ := r.do("HEAD", "/admin/backup", ""); status != 200 || len(r.entries("/admin/audit")) != 1 {
		t.Errorf("HEAD: status %d, %d entries; want 200 and no more", status, len(r.entries("/admin/audit")))
	}
	for err, want := range map[error]int{fmt.Errorf("%w: full", quota.ErrNoSpace): http.StatusInsufficientStorage, errors.New("input/output error"): 500} {
		r := newTestAPI(t, func(o *admin.Options) { o.Backups = failingBackups{err} })
		r.refused(want, err.Error(), "GET", "/admin/backup", "")
	}
	none := newTestAPI(t, func(o *admin.Options) { o.Backups = nil })
	none.refused(http.StatusNotImplemented, "BGSAVE", "GET", "/admin/backup", "")
}

type failingBackups struct{ err error }

func (b failingBackups) Backup(context.Context) (*os.File, error) { return nil, b.err }

// While one backup is made, another one is refused. It ends when the client goes.
func TestOneBackupAtATime(t *testing.T) {
	slow := slowBackups{make(chan struct{}), make(chan struct{})}
	r := newTestAPI(t, func(o *admin.Options) { o.Backups = slow })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, _ := http.NewRequestWithContext(ctx, "GET", r.url+"/admin/backup", strings.NewReader(""))
		req.Header.Set("Authorization", "Bearer "+token)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}()
	<-slow.begun
	r.refused(http.StatusConflict, "Another backup is being made", "GET", "/admin/backup", "")
	if status, _, _ := r.do("HEAD", "/admin/backup", ""); status != http.StatusConflict {
		t.Errorf("HEAD: status %d, want 409 as for GET", status)
	}
	cancel()
	<-slow.ended
	<-ended
}

type slowBackups struct{ begun, ended chan struct{} }

func (b slowBackups) Backup(ctx context.Context) (*os.File, error) {
	close(b.begun)
	<-ctx.Done()
	close(b.ended)
	return nil, ctx.Err()
}
