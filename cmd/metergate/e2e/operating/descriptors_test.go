package operating

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// startLimited runs a gateway with gatewaytest.BasicYAML from a shell, after some commands that
// limit it.
func startLimited(t *testing.T, commands, upstream string) *gatewaytest.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, gatewaytest.BasicYAML)
	cmd := exec.Command("sh", "-c", commands+"\nexec \"$0\" serve -config \"$1\"", gatewaytest.Program(), file)
	cmd.Env = append(os.Environ(), "STORE=embedded:"+t.TempDir(), "UPSTREAM="+upstream, "LEVEL=info", gatewaytest.Patient)
	g := gatewaytest.StartCommand(t, cmd)
	g.WaitUntilServing()
	return g
}

// A crowd is many clients, each with a connection of its own.
type crowd struct {
	testing.TB
	gateway  *gatewaytest.Process
	running  sync.WaitGroup
	mu       sync.Mutex
	statuses map[int]int // 0: no response
	close    chan bool   // ends clients that keep their connections
}

func newCrowd(t testing.TB, g *gatewaytest.Process) *crowd {
	return &crowd{TB: t, gateway: g, statuses: map[int]int{}, close: make(chan bool)}
}

// join makes n clients send a request. With keep they keep the connection afterwards.
func (c *crowd) join(n int, request func(i int) *http.Request, keep bool) {
	for i := range n {
		c.running.Go(func() {
			conn, status := c.send(request(i))
			// A gateway without room closes connections whose first request is five seconds late,
			// as it may be on a busy machine.
			for again := 0; status == 0 && again < 3; again++ {
				conn.Close()
				conn, status = c.send(request(i))
			}
			defer conn.Close()
			c.mu.Lock()
			c.statuses[status]++
			c.mu.Unlock()
			if keep {
				<-c.close
			}
		})
	}
}

// send sends a request on a connection of its own, and returns the status of the response.
func (c *crowd) send(req *http.Request) (conn net.Conn, status int) {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(c.gateway.URL, "http://"), 2*time.Minute)
	if err != nil {
		c.Errorf("a client: %v", err)
		return new(net.TCPConn), 0
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if err := req.Write(conn); err == nil {
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			status = res.StatusCode
		}
	}
	return conn, status
}

// answered is how many clients have got a status, of those given.
func (c *crowd) answered(statuses ...int) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range statuses {
		n += c.statuses[s]
	}
	return n
}

// request returns a request of a user, without a body.
func (c *crowd) request(method, path string, user func(i int) string) func(int) *http.Request {
	return func(i int) *http.Request {
		req, err := http.NewRequest(method, c.gateway.URL+path, nil)
		if err != nil {
			c.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testkit.Token(user(i), "enterprise"))
		return req
	}
}

// A gate is an upstream that holds all requests until it is opened.
type gate struct {
	*httptest.Server
	open     chan bool
	arrived  atomic.Int64
	answered atomic.Int64 // with 200
}

func newGate(t *testing.T) *gate {
	g := &gate{open: make(chan bool)}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.arrived.Add(1)
		<-g.open
		g.answered.Add(1)
		io.WriteString(w, "ok")
	}))
	t.Cleanup(g.Close)
	return g
}

// wantAdmin checks that the admin listener answers, and returns what /readyz says.
func wantAdmin(t testing.TB, g *gatewaytest.Process) (ready string) {
	t.Helper()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/livez", "/metrics", "/readyz"} {
		res, err := client.Get(g.Admin + path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
		ready = string(body)
	}
	return ready
}

func metric(t testing.TB, g *gatewaytest.Process, name string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(gatewaytest.Metric(g, name), 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// wantFewLines checks that a message is in the log, and not for each client.
func wantFewLines(t testing.TB, g *gatewaytest.Process, message string) {
	t.Helper()
	g.WaitForText(message)
	n := strings.Count(g.Output(), message)
	if seconds := int(time.Since(processStart(t, g)).Seconds()) + 2; n > seconds {
		t.Errorf("the log says %d times in %d s: %s", n, seconds, message)
	}
}

// processStart is a little before the process began.
func processStart(t testing.TB, g *gatewaytest.Process) time.Time {
	t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d", g.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime().Add(-time.Second)
}

const (
	clientsWait      = "clients wait: as many connections are open"
	requestsRefused  = "requests are refused, because as many are running"
	acceptFailed     = "a connection could not be accepted"
	openConnections  = `metergate_connections_open{listener="listen"}`
	maxConnections   = `metergate_connections_max{listener="listen"}`
	acceptErrorCount = `metergate_accept_errors_total{listener="listen"}`
)

// With fewer descriptors than clients, the gateway serves as many requests as it has
// descriptors for, answers the others 503, and its admin listener and reloads work.
func TestDescriptorsAreLeftForAdmin(t *testing.T) {
	upstream := newGate(t)
	g := startLimited(t, "ulimit -n 256", upstream.URL)
	g.WaitForText("only 256 files may be open")
	g.WaitForText("docker run --ulimit nofile=20065")
	bound := int(metric(t, g, "metergate_requests_in_flight_max"))
	if bound < 50 || bound > 127 {
		t.Fatalf("the gateway serves %d requests at once; want about half of 256", bound)
	}
	const clients = 300
	c := newCrowd(t, g)
	c.join(clients, c.request("POST", "/api/analyze", func(int) string { return "u" }), false)
	testkit.EventuallyWithin(t, time.Minute, "the others are refused", func() bool {
		return c.answered(503) == clients-bound && int(upstream.arrived.Load()) == bound
	})
	if ready := wantAdmin(t, g); !strings.Contains(ready, `"status":"ready"`) || !strings.Contains(ready, fmt.Sprintf("there is room for %d at once", bound)) {
		t.Errorf("/readyz: %s", ready)
	}
	if n := metric(t, g, `metergate_overload_refused_total{reason="total"}`); int(n) != clients-bound {
		t.Errorf("the metric counts %v refused requests, want %d", n, clients-bound)
	}
	wantFewLines(t, g, requestsRefused)
	g.Signal(syscall.SIGHUP)
	g.WaitForText("the configuration was reloaded")
	close(upstream.open)
	c.running.Wait()
	if c.answered(200) != bound || c.answered(503) != clients-bound {
		t.Errorf("statuses %v, want %d times 200, and 503 otherwise", c.statuses, bound)
	}
	wantCounted(t, g, "u", c.answered(200), int(upstream.answered.Load()))
}

// wantCounted checks that no more was counted than the upstream answered, no less than the
// clients saw, and that nothing is held.
func wantCounted(t testing.TB, g *gatewaytest.Process, user string, seen, answered int) {
	t.Helper()
	u := gatewaytest.Usage(t, g, testkit.Token(user, "enterprise"))
	if u.Used < int64(seen) || u.Used > int64(answered) || u.InFlight != 0 {
		t.Errorf("clients saw %d, counted %d, the upstream answered %d, held %d", seen, u.Used, answered, u.InFlight)
	}
}

// Connections that are idle make room for clients that wait.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := startLimited(t, "ulimit -n 256", upstream.URL)
	c := newCrowd(t, g)
	c.join(300, c.request("GET", "/usage", func(int) string { return "u" }), true)
	testkit.EventuallyWithin(t, time.Minute, "all are answered", func() bool { return c.answered(200, 503) == 300 })
	if ready := wantAdmin(t, g); !strings.Contains(ready, "have waited for a connection") {
		t.Errorf("/readyz: %s", ready)
	}
	wantFewLines(t, g, clientsWait)
	close(c.close)
	c.running.Wait()
	testkit.EventuallyWithin(t, time.Minute, "/readyz forgets it", func() bool { return strings.Contains(wantAdmin(t, g), `"capacity":"ok"`) })

	// With room again, a connection stays open between two requests.
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for range 2 {
		c.request("POST", "/api/analyze", func(int) string { return "u" })(0).Write(conn)
		res, err := http.ReadResponse(answers, nil)
		if err != nil || res.StatusCode != 200 || res.Close {
			t.Fatalf("%v, error %v", res, err)
		}
		io.Copy(io.Discard, res.Body)
	}
	wantCounted(t, g, "u", 2, 2)
}

// Connections that are all busy make other clients wait, and nothing else.
func TestBusyConnectionsMakeClientsWait(t *testing.T) {
	g := startLimited(t, "ulimit -n 256", "http://127.0.0.1:9")
	room := int(metric(t, g, maxConnections))
	c := newCrowd(t, g)
	c.join(room, c.request("GET", "/usage/stream", func(i int) string { return fmt.Sprint("u", i) }), true)
	testkit.EventuallyWithin(t, time.Minute, "all streams are open", func() bool { return c.answered(200) == room })
	late := newCrowd(t, g)
	late.join(50, late.request("GET", "/usage", func(int) string { return "u" }), false)
	testkit.EventuallyWithin(t, time.Minute, "the others wait", func() bool { return int(metric(t, g, openConnections)) == room+1 })
	if ready := wantAdmin(t, g); !strings.Contains(ready, "clients wait") {
		t.Errorf("/readyz: %s", ready)
	}
	if n := late.answered(0, 200, 503); n != 0 {
		t.Errorf("%d clients were answered although all connections are busy", n)
	}
	close(c.close)
	late.running.Wait()
	c.running.Wait()
	if n := late.answered(200); n != 50 {
		t.Errorf("%d of 50 clients were served after the others had left: %v", n, late.statuses)
	}
	wantFewLines(t, g, clientsWait)
}
