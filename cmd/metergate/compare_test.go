package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"metergate/quota/redisstore/redistest"
)

// The roles that the test binary plays in processes of its own, so that the
// processor time of each can be told apart.
const roleEnv = "METERGATE_TEST_ROLE"

func init() {
	switch role, argument, _ := strings.Cut(os.Getenv(roleEnv), " "); role {
	case "upstream":
		playRole(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"words":7,"sentences":1,"language":"en","sentiment":0.25}`)
		}))
	case "bare":
		target, err := url.Parse(argument)
		if err != nil {
			log.Fatal(err)
		}
		playRole(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		}})
	}
}

// playRole serves h and, on a second listener, metrics, and does not return.
func playRole(h http.Handler) {
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s http://%s\n", public.Addr(), admin.Addr())
	go http.Serve(admin, promhttp.Handler())
	log.Fatal(http.Serve(public, h))
}

// startRole starts the test binary in a role.
func startRole(b *testing.B, role string) subject {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	s := subject{name: role, pid: cmd.Process.Pid}
	s.url, s.admin, _ = strings.Cut(strings.TrimSpace(line), " ")
	return s
}

// A subject is one way to the upstream.
type subject struct {
	name, url, admin string
	pid              int
	rounds           []round
}

// A round is what one run of the load showed.
type round struct {
	rate     float64 // requests a second
	p50, p99 time.Duration
	cpu      time.Duration // of the subject's process, a request
	allocs   float64       // in the subject's process, a request
}

const (
	compareRounds      = 5
	compareConnections = 32
	compareRequests    = 8000 // a round
)

// BenchmarkCompare sends the same load straight to an upstream, through a bare
// httputil.ReverseProxy, and through the gateway on Redis and on its embedded
// store, in turn, several rounds, all on this machine. It prints medians, and
// ratios to the bare proxy, which is what to look at: figures of different runs
// or machines cannot be compared.
func BenchmarkCompare(b *testing.B) {
	redis := redistest.Start(b)
	upstream := startRole(b, "upstream")
	bare := startRole(b, "bare "+upstream.url)
	onRedis := startGateway(b, redis.URL(), upstream.url, "LEVEL=info")
	onBolt := startGateway(b, "embedded:"+b.TempDir(), upstream.url, "LEVEL=info")
	bare.name = "bare ReverseProxy"
	subjects := []subject{upstream, bare,
		{name: "metergate, Redis", url: onRedis.url, admin: onRedis.admin, pid: onRedis.cmd.Process.Pid},
		{name: "metergate, embedded", url: onBolt.url, admin: onBolt.admin, pid: onBolt.cmd.Process.Pid},
	}
	for b.Loop() {
		for n := range compareRounds + 1 {
			for i := range subjects {
				r := subjects[i].load(b)
				if n > 0 { // the first round warms up
					subjects[i].rounds = append(subjects[i].rounds, r)
				}
			}
		}
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	b.Log("\n" + table(subjects, 1))
}

// load sends compareRequests over compareConnections, from 100 users.
func (s *subject) load(b *testing.B) round {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: compareConnections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	tokens := make([]string, 100)
	for i := range tokens {
		tokens[i] = "Bearer " + testToken(fmt.Sprint("bench-", i), "enterprise")
	}
	took := make([]time.Duration, compareRequests)
	var next atomic.Int64
	var wait sync.WaitGroup
	cpu, allocs, start := s.cpu(b), s.allocs(b), time.Now()
	for range compareConnections {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < compareRequests; i = next.Add(1) - 1 {
				req, _ := http.NewRequest("POST", s.url+"/api/analyze", strings.NewReader("a text of a few words"))
				req.Header.Set("Authorization", tokens[i%int64(len(tokens))])
				sent := time.Now()
				res, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				took[i] = time.Since(sent)
				if res.StatusCode != 200 {
					b.Errorf("%s: %s", s.name, res.Status)
					return
				}
			}
		})
	}
	wait.Wait()
	elapsed := time.Since(start)
	r := round{
		rate:   compareRequests / elapsed.Seconds(),
		cpu:    (s.cpu(b) - cpu) / compareRequests,
		allocs: (s.allocs(b) - allocs) / compareRequests,
	}
	slices.Sort(took)
	r.p50, r.p99 = took[len(took)/2], took[len(took)*99/100]
	return r
}

// cpu is the processor time that the process has used.
func (s *subject) cpu(b *testing.B) time.Duration {
	return time.Duration(s.metric(b, "process_cpu_seconds_total") * 1e9)
}

// allocs is how many objects the process has allocated.
func (s *subject) allocs(b *testing.B) float64 { return s.metric(b, "go_memstats_mallocs_total") }

func (s *subject) metric(b *testing.B, name string) float64 {
	b.Helper()
	status, body := get(s.admin+"/metrics", "")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	if status != 200 || m == nil {
		b.Fatalf("%s has no metric %s", s.name, name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// table shows medians, and in brackets the ratio to subjects[base].
func table(subjects []subject, base int) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\trequests/s\tp50\tp99\tCPU/request\tallocs/request\n")
	ref := subjects[base].median()
	for _, s := range subjects {
		m := s.median()
		fmt.Fprintf(w, "%s\t%.0f (%.2f)\t%v (%.2f)\t%v (%.2f)\t%v (%.2f)\t%.0f (%.2f)\n", s.name,
			m.rate, m.rate/ref.rate,
			m.p50.Round(10*time.Microsecond), ratio(m.p50, ref.p50),
			m.p99.Round(10*time.Microsecond), ratio(m.p99, ref.p99),
			m.cpu.Round(time.Microsecond), ratio(m.cpu, ref.cpu),
			m.allocs, m.allocs/ref.allocs)
	}
	w.Flush()
	return text.String()
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func (s *subject) median() (m round) {
	pick := func(value func(round) float64) float64 {
		values := make([]float64, len(s.rounds))
		for i, r := range s.rounds {
			values[i] = value(r)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	m.rate = pick(func(r round) float64 { return r.rate })
	m.p50 = time.Duration(pick(func(r round) float64 { return float64(r.p50) }))
	m.p99 = time.Duration(pick(func(r round) float64 { return float64(r.p99) }))
	m.cpu = time.Duration(pick(func(r round) float64 { return float64(r.cpu) }))
	m.allocs = pick(func(r round) float64 { return r.allocs })
	return m
}
