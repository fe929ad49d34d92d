package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkGenerator compares the load of this package with wrk, in front of the same servers: what
// each takes of the machine, and what it says of the servers. make bench does not run it.
func BenchmarkGenerator(b *testing.B) {
	if _, err := exec.LookPath("wrk"); err != nil {
		b.Fatal("wrk is not installed: apt-get install wrk")
	}
	upstream := startRole(b, "upstream", "upstream")
	servers := []*server{startBare(b, upstream.url()), startOnRedis(b, upstream.url())}
	f := traffic{requests: loadRequests(100, loadPaths(1)...), connections: 32, lasts: *roundFor}
	for b.Loop() {
		generators := []struct {
			name string
			run  func(s *server) (round, time.Duration)
		}{
			{"this load", func(s *server) (round, time.Duration) {
				before := ownTime(b, syscall.RUSAGE_SELF)
				r := f.run(b, s)
				return r, ownTime(b, syscall.RUSAGE_SELF) - before
			}},
			{"wrk", func(s *server) (round, time.Duration) { return f.runWrk(b, s) }},
		}
		all := make([][]series, len(generators))
		for g := range generators {
			all[g] = make([]series, len(servers))
		}
		for n := range *rounds + 1 {
			for i, s := range servers {
				for g, generator := range generators {
					r, own := generator.run(s)
					r.own = own / time.Duration(r.sent)
					if all[g][i].name = s.name; n > 0 {
						all[g][i].rounds = append(all[g][i].rounds, r)
					}
				}
			}
		}
		own := column{name: "of the load itself", value: func(r round) float64 { return float64(r.own) }, text: duration}
		for g, generator := range generators {
			show(b, ratioTable(fmt.Sprintf("%s, %d rounds of %v", generator.name, *rounds, *roundFor),
				[]column{cpuColumn, redisColumn, rateColumn, p50Column, own}, all[g], all[g][0]))
		}
	}
	b.ReportMetric(0, "ns/op") // means nothing here
}

// ownTime is the processor time that this process or its children have used.
func ownTime(t testing.TB, who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var (
	wrkCount  = regexp.MustCompile(`(\d+) requests in`)
	wrkRate   = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkMedian = regexp.MustCompile(`50%\s+(\S+)`)
)

// runWrk puts the load on s with wrk, in one thread, and returns what wrk itself used as well.
func (f traffic) runWrk(b *testing.B, s *server) (round, time.Duration) {
	file := filepath.Join(b.TempDir(), "requests")
	if err := os.WriteFile(file, bytes.Join(f.requests, []byte{0}), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("wrk", "-t1", fmt.Sprint("-c", f.connections), "-d", f.lasts.String(), "--latency", "-s", "testdata/wrk.lua", s.url())
	cmd.Env = append(os.Environ(), "REQUESTS="+file)
	cpu, redis, own := s.cpu(b), s.redisCPU(b), ownTime(b, syscall.RUSAGE_CHILDREN)
	printed, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(printed, []byte("Non-2xx")) {
		b.Fatalf("wrk: %v\n%s", err, printed)
	}
	r, err := readWrk(string(printed))
	if err != nil {
		b.Fatalf("wrk: %v\n%s", err, printed)
	}
	r.cpu, r.redis = (s.cpu(b)-cpu)/time.Duration(r.sent), (s.redisCPU(b)-redis)/time.Duration(r.sent)
	return r, ownTime(b, syscall.RUSAGE_CHILDREN) - own
}

// readWrk takes the figures out of what wrk printed.
func readWrk(printed string) (r round, err error) {
	count, rate, p50 := wrkCount.FindStringSubmatch(printed), wrkRate.FindStringSubmatch(printed), wrkMedian.FindStringSubmatch(printed)
	if count == nil || rate == nil || p50 == nil {
		return r, errors.New("the number of requests, Requests/sec or the median is missing")
	}
	var failed [3]error
	r.sent, failed[0] = strconv.Atoi(count[1])
	r.rate, failed[1] = strconv.ParseFloat(rate[1], 64)
	r.p50, failed[2] = time.ParseDuration(p50[1])
	if err := errors.Join(failed[:]...); err != nil {
		return r, err
	}
	if r.sent == 0 || r.rate == 0 || r.p50 == 0 {
		return r, errors.New("a figure is 0")
	}
	return r, nil
}
