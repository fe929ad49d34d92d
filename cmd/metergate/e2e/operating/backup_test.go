package operating

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// A turnTaker sends requests for two users in turn, one after the other.
type turnTaker struct {
	a, b              string       // users
	sent, acknowledge atomic.Int64 // requests of both together
}

// total is what both have used by a gateway, which must have counted in turn as well.
func (w *turnTaker) total(t *testing.T, p *gatewaytest.Process) (total int64) {
	t.Helper()
	used := [2]int64{}
	for i, user := range []string{w.a, w.b} {
		used[i] = gatewaytest.Usage(t, p, testkit.Token(user, "enterprise")).Used
	}
	if ahead := used[0] - used[1]; ahead != 0 && ahead != 1 {
		t.Errorf("%s has used %d and %s %d: no moment had both", w.a, used[0], w.b, used[1])
	}
	return used[0] + used[1]
}

// Backups are made while 20 clients write. A gateway that starts on a backup has all users, and the counts of one
// moment while the backup was made.
func TestBackupUnderLoadIsOneState(t *testing.T) {
	t.Parallel()
	upstream := gatewaytest.StartUpstream(t, "ok")
	p := gatewaytest.StartWithAdminAPI(t, "embedded:"+t.TempDir(), upstream.URL)
	client := gatewaytest.NewClient(t)
	writers, stop := make([]*turnTaker, 20), make(chan struct{})
	var working sync.WaitGroup
	var ready sync.WaitGroup
	for i := range writers {
		w := &turnTaker{a: fmt.Sprintf("a-%d", i), b: fmt.Sprintf("b-%d", i)}
		writers[i] = w
		ready.Add(1)
		working.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				user := []string{w.a, w.b}[n%2]
				w.sent.Add(1)
				if status := gatewaytest.Post(client, p.URL+"/api/analyze", testkit.Token(user, "enterprise")); status != http.StatusOK {
					t.Errorf("%s: status %d", user, status)
				}
				w.acknowledge.Add(1)
				if n == 1 {
					ready.Done()
				}
			}
		})
	}
	ready.Wait()
	dir := t.TempDir()
	type bounds struct{ least, most []int64 }
	var expected []bounds
	for n := range gatewaytest.Times(3, 10) {
		b := bounds{make([]int64, len(writers)), make([]int64, len(writers))}
		for i, w := range writers {
			b.least[i] = w.acknowledge.Load()
		}
		file := filepath.Join(dir, fmt.Sprintf("%d", n), "usage.db")
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		code, out := gatewaytest.Run(t, []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken}, "backup", "-admin", p.Admin, file)
		if code != 0 || !strings.HasSuffix(out, " MiB, checked\n") {
			t.Fatalf("backup: exit status %d, output %q", code, out)
		}
		for i, w := range writers {
			b.most[i] = w.sent.Load()
		}
		expected = append(expected, b)
	}
	close(stop)
	working.Wait()
	for n, b := range expected {
		restored := gatewaytest.StartWithAdminAPI(t, "embedded:"+filepath.Join(dir, fmt.Sprintf("%d", n)), upstream.URL)
		for i, w := range writers {
			if got := w.total(t, restored); got < b.least[i] || got > b.most[i] {
				t.Errorf("backup %d: writer %d has used %d, acknowledged were %d before it and sent %d when it had ended", n, i, got, b.least[i], b.most[i])
			}
		}
		restored.Kill()
	}
}

// A backup that does not arrive whole leaves no file, and says so.
func TestBackupThatBreaksOff(t *testing.T) {
	t.Parallel()
	p := gatewaytest.StartWithAdminAPI(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	gatewaytest.Administer(t, p, "PUT", "/admin/users/u-17/plan", `{"plan":"enterprise"}`)
	// A proxy that cuts the response after its header and some bytes, or changes a byte of it.
	for _, change := range []struct {
		what string
		edit func(body []byte) []byte
		want string
	}{
		{"cut", func(body []byte) []byte { return body[:len(body)/2] }, "the backup broke off after "},
		{"changed", func(body []byte) []byte { body[len(body)-1] ^= 1; return body }, "its digest is wrong"},
	} {
		proxy := startEditor(t, p.Admin, change.edit)
		file := filepath.Join(t.TempDir(), "usage.db")
		for _, to := range []string{file, "-"} {
			code, out := gatewaytest.Run(t, []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken}, "backup", "-admin", proxy, to)
			if code != 1 || !strings.Contains(out, change.want) {
				t.Errorf("%s: backup %s: exit status %d, output %.200q, want %q", change.what, to, code, out, change.want)
			}
		}
		if left, err := os.ReadDir(filepath.Dir(file)); len(left) > 0 || err != nil {
			t.Errorf("%s: these files are left: %v, error %v", change.what, left, err)
		}
	}
}

// startEditor starts a server that sends what a gateway answers, with its body edited.
func startEditor(t *testing.T, gateway string, edit func([]byte) []byte) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body, header := fetch(gateway+r.URL.Path, r.Header.Get("Authorization"))
		for _, name := range []string{"Content-Length", "Content-Digest"} {
			w.Header().Set(name, header.Get(name))
		}
		w.WriteHeader(status)
		w.Write(edit(body))
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String()
}

func fetch(url, authorization string) (status int, body []byte, header http.Header) {
	req, _ := http.NewRequest("GET", url, nil)
	req.Header.Set("Authorization", authorization)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return http.StatusBadGateway, nil, http.Header{}
	}
	defer res.Body.Close()
	body, _ = io.ReadAll(res.Body)
	return res.StatusCode, body, res.Header
}

func TestBackupOfRedisSaysWhatToUse(t *testing.T) {
	t.Parallel()
	p := gatewaytest.StartWithAdminAPI(t, "redis://127.0.0.1:1", "http://127.0.0.1:1")
	code, out := gatewaytest.Run(t, []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken}, "backup", "-admin", p.Admin, filepath.Join(t.TempDir(), "usage.db"))
	if code != 1 || !strings.Contains(out, "BGSAVE") || !strings.Contains(out, "metergate move") {
		t.Errorf("exit status %d, output %q", code, out)
	}
}
