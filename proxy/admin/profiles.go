package admin

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The profiles of runtime/pprof and the trace of runtime/trace, at the paths that package net/http/pprof uses.
// That package is not imported: it would also serve them on http.DefaultServeMux, without a token.

// snapshots show a moment. The profiles of locks and of blocking are not among them: their rates are 0, so they
// would be empty.
var snapshots = []string{"allocs", "goroutine", "heap", "threadcreate"}

// A recording lasts for a while.
type recording struct {
	usual, longest int // seconds
	start          func(http.ResponseWriter) error
	stop           func()
}

var recordings = map[string]recording{
	"profile": {30, 300, func(w http.ResponseWriter) error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile},
	"trace":   {1, 30, func(w http.ResponseWriter) error { return trace.Start(w) }, trace.Stop},
}

// A profiler makes one recording and one snapshot at a time: each slows the gateway down.
type profiler struct{ recording, snapshot sync.Mutex }

const profileBusy = "Another profile is being made. Try again when it has ended."

// getProfile serves GET /debug/pprof/{profile}.
func (h *handler) getProfile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("profile")
	if rec, ok := recordings[name]; ok {
		h.record(w, r, name, rec)
		return
	}
	snapshot := pprof.Lookup(name)
	if snapshot == nil || !slices.Contains(snapshots, name) {
		writeProblem(w, http.StatusNotFound, "There is no such profile. There are profile (of the processor), trace, "+strings.Join(snapshots, ", ")+".", nil)
		return
	}
	debug, err := wholeParameter(r, "debug", 0, 0, 2)
	switch {
	case err != nil:
		writeError(w, r, err)
		return
	case r.URL.Query().Has("seconds"):
		writeProblem(w, http.StatusBadRequest, "seconds is for profile and trace. Make two profiles, and compare them with: go tool pprof -diff_base.", nil)
		return
	case !h.profiler.snapshot.TryLock():
		writeProblem(w, http.StatusConflict, profileBusy, nil)
		return
	}
	defer h.profiler.snapshot.Unlock()
	if debug > 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		setProfileHeaders(w, name)
	}
	if r.Method == http.MethodHead {
		return
	}
	if name == "heap" && r.URL.Query().Get("gc") == "1" {
		runtime.GC()
	}
	snapshot.WriteTo(w, debug)
}

// record makes a recording, until its time is up or the client goes.
func (h *handler) record(w http.ResponseWriter, r *http.Request, name string, rec recording) {
	seconds, err := wholeParameter(r, "seconds", rec.usual, 1, rec.longest)
	if err != nil {
		writeError(w, r, err)
		return
	}
	if r.Method == http.MethodHead {
		setProfileHeaders(w, name)
		return
	}
	if !h.profiler.recording.TryLock() {
		writeProblem(w, http.StatusConflict, profileBusy, nil)
		return
	}
	defer h.profiler.recording.Unlock()
	// net/http would end the request with its read deadline.
	deadlines, end := http.NewResponseController(w), time.Now().Add(time.Duration(seconds)*time.Second+writeTimeout)
	deadlines.SetReadDeadline(end)
	deadlines.SetWriteDeadline(end)
	setProfileHeaders(w, name)
	if err := rec.start(w); err != nil { // the program profiles itself
		w.Header().Del("Content-Disposition")
		writeProblem(w, http.StatusConflict, profileBusy, nil)
		return
	}
	defer rec.stop()
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
}

func setProfileHeaders(w http.ResponseWriter, name string) {
	file := name + ".pb.gz"
	switch name {
	case "profile":
		file = "cpu.pb.gz"
	case "trace":
		file = "trace.out"
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", file))
}

// wholeParameter returns a parameter of the query that is a whole number.
func wholeParameter(r *http.Request, name string, byDefault, least, most int) (int, error) {
	values := r.URL.Query()[name]
	if len(values) == 0 {
		return byDefault, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || len(values) > 1 || n < least || n > most {
		return 0, badRequest("The parameter %s must be given once, as a whole number from %d to %d.", name, least, most)
	}
	return n, nil
}
