package admin_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"metergate/quota/testkit"
)

// parseProfile parses a profile as "go tool pprof" does.
func parseProfile(t *testing.T, text string) *profile.Profile {
	t.Helper()
	p, err := profile.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The CPU profile and the snapshots are what "go tool pprof" reads, and the trace is what "go tool trace" reads.
func TestProfilesCanBeRead(t *testing.T) {
	r := newTestAPI(t)
	stop := make(chan struct{})
	go func() {
		for i := 0; ; i++ { // something to find
			select {
			case <-stop:
				return
			default:
				bytes.Repeat([]byte{byte(i)}, 1<<10)
			}
		}
	}()
	status, header, text := r.do("GET", "/debug/pprof/profile?seconds=1", "")
	close(stop)
	if status != 200 || header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(header.Get("Content-Disposition"), "cpu.pb.gz") {
		t.Fatalf("%d %v", status, header)
	}
	if p := parseProfile(t, text); p.PeriodType.Type != "cpu" || p.DurationNanos < 9e8 {
		t.Errorf("%v, %d ns", p.PeriodType, p.DurationNanos)
	}
	for name, sample := range map[string]string{"heap": "inuse_space", "heap?gc=1": "inuse_space", "allocs": "alloc_space", "goroutine": "goroutine", "threadcreate": "threadcreate"} {
		_, _, text := r.do("GET", "/debug/pprof/"+name, "")
		p := parseProfile(t, text)
		found := false
		for _, s := range p.SampleType {
			found = found || s.Type == sample
		}
		if !found {
			t.Errorf("%s has the samples %v", name, p.SampleType)
		}
	}
	if _, _, text := r.do("GET", "/debug/pprof/trace?seconds=1", ""); !strings.HasPrefix(text, "go 1.") {
		t.Errorf("the trace begins with %.20q", text)
	}
	if _, header, text := r.do("GET", "/debug/pprof/goroutine?debug=2", ""); !strings.Contains(text, "getProfile") || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("%v\n%.200s", header, text)
	}
	for _, path := range []string{"profile", "heap"} {
		if status, _, text := r.do("HEAD", "/debug/pprof/"+path, ""); status != 200 || text != "" {
			t.Errorf("HEAD %s: %d %s", path, status, text)
		}
	}
}

func TestProfilesRefuseWhatTheyCannotDo(t *testing.T) {
	r := newTestAPI(t)
	for path, want := range map[string]string{
		"nothing": "There is no such profile", "mutex": "There is no such profile", "cmdline": "There is no such profile",
		"profile?seconds=0": "1 to 300", "profile?seconds=301": "1 to 300", "profile?seconds=x": "1 to 300", "profile?seconds=1&seconds=2": "given once",
		"trace?seconds=31": "1 to 30", "heap?seconds=5": "-diff_base", "heap?debug=3": "0 to 2",
	} {
		status, _, text := r.do("GET", "/debug/pprof/"+path, "")
		if status != 400 && status != 404 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _, _ := r.do("POST", "/debug/pprof/profile", ""); status != 405 {
		t.Errorf("POST: %d", status)
	}
}

// One recording runs at a time. When its client goes, the next one may begin.
func TestRecordingEndsWithItsClient(t *testing.T) {
	r := newTestAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, _ := http.NewRequestWithContext(ctx, "GET", r.url+"/debug/pprof/profile?seconds=300", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		http.DefaultClient.Do(req)
	}()
	busy := func() bool {
		status, _, text := r.do("GET", "/debug/pprof/trace?seconds=1", "")
		return status == 409 && strings.Contains(text, "Another profile")
	}
	testkit.Eventually(t, "a recording", func() bool {
		_, _, text := r.do("GET", "/debug/pprof/goroutine?debug=2", "") // a snapshot is made meanwhile
		return strings.Contains(text, "(*handler).record(")
	})
	testkit.Eventually(t, "a refusal", busy)
	cancel()
	testkit.Receive(t, "the end of the request", ended)
	testkit.Eventually(t, "no recording", func() bool { return !busy() })
}

// Nothing is served by importing a package.
func TestDefaultMuxHasNoProfiles(t *testing.T) {
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/heap"} {
		req, _ := http.NewRequest("GET", path, nil)
		if _, pattern := http.DefaultServeMux.Handler(req); pattern != "" {
			t.Errorf("http.DefaultServeMux serves %s", path)
		}
	}
}
