package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"metergate/quota"
)

// Backups makes copies of a store that is in a file.
type Backups interface {
	// Backup returns a copy of the store in one state, which every account was in at the same instant during
	// the call. The caller closes it. Errors are quota.ErrNoSpace and those of ctx and of the disk.
	Backup(context.Context) (*os.File, error)
}

const noBackups = "The counts are in Redis, so Redis makes the backups: with BGSAVE (RDB) or its append-only file. \"metergate move\" copies them to another store."

// getBackup serves GET /admin/backup: a copy of the store's file. Its length and digest are in the header, so
// that a copy that broke off is not taken for a whole one.
func (h *handler) getBackup(w http.ResponseWriter, r *http.Request) {
	if err := h.reasonOf(w, r); err != nil {
		writeError(w, r, err)
		return
	}
	if h.Backups == nil {
		writeProblem(w, http.StatusNotImplemented, noBackups, nil)
		return
	}
	isHead := r.Method == http.MethodHead // which must not get in the way of a GET
	if isHead && h.backingUp.Load() || !isHead && !h.backingUp.CompareAndSwap(false, true) {
		writeProblem(w, http.StatusConflict, "Another backup is being made or sent. Try again when it has ended.", nil)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if isHead {
		noteNoChange(w)
		return
	}
	defer h.backingUp.Store(false)
	// How long it takes depends on the file. net/http would end the request with its read deadline.
	deadlines := http.NewResponseController(w)
	deadlines.SetReadDeadline(time.Time{})
	deadlines.SetWriteDeadline(time.Time{})
	copied, err := h.Backups.Backup(r.Context())
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, quota.ErrNoSpace) {
			status = http.StatusInsufficientStorage
		}
		deadlines.SetWriteDeadline(time.Now().Add(writeTimeout))
		writeProblem(w, status, fmt.Sprintf("The backup failed: %v.", err), nil)
		return
	}
	defer copied.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, copied)
	if err == nil {
		_, err = copied.Seek(0, io.SeekStart)
	}
	deadlines.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, fmt.Sprintf("The backup cannot be read: %v.", err), nil)
		return
	}
	noteDetail(w, "%d bytes", size)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.Header().Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(digest.Sum(nil))+":") // RFC 9530
	w.Header().Set("Content-Disposition", `attachment; filename="usage.db"`)
	w.WriteHeader(http.StatusOK)
	for buffer := make([]byte, 256<<10); err == nil; {
		var n int
		if n, err = copied.Read(buffer); n > 0 {
			deadlines.SetWriteDeadline(time.Now().Add(writeTimeout)) // the client must keep reading
			if _, err := w.Write(buffer[:n]); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		panic(http.ErrAbortHandler)
	}
}
