package bench

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A gateway gets traffic of every kind: successes, failures, broken bodies, clients that
// hang up, streams that come and go, reloads, and short outages of Redis. In the end it
// uses no more than after it had warmed up, and when the traffic ends, nothing is left of
// it. make soak runs this test for ten minutes.
func TestSoak(t *testing.T) {
	t.Parallel()
	random := gatewaytest.NewRandom(t)
	redis := redistest.Start(t)
	faultProxy := redistest.StartFaultProxy(t, redis.Addr)
	users := make([]*gatewaytest.Account, 200)
	for i := range users {
		users[i] = &gatewaytest.Account{User: loadUser(i), Plan: "load"}
	}
	users[0].Fails = true
	l := gatewaytest.NewWorkload(t, users...)
	gateway, file := startLoaded(t, "metergate", faultProxy.URL(), l.URL, 2, append(loadPaths(1), "/api/image-analysis"), "ON_FAILURE=allow")
	client := gatewaytest.NewClient(t)
	client.CheckRedirect = gatewaytest.KeepRedirects

	// The base has had one request: Redis is connected, and the scripts are loaded.
	if status := gatewaytest.Post(client, gateway.url()+"/api/analyze?status=200", testkit.Token("base", "load")); status != 200 {
		t.Fatalf("the first request got %d", status)
	}
	base := sampleOf(t, gateway)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for range 12 {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		running.Go(func() { l.Run(ctx, t, client, own, func(*rand.Rand) string { return gateway.url() }) })
	}
	s := &soak{T: t, gateway: gateway, file: file, faultProxy: faultProxy}
	for i := range 20 {
		running.Go(func() { s.watch(ctx, fmt.Sprint("watcher-", i%5)) })
	}
	running.Go(func() { s.reload(ctx) })
	running.Go(func() { s.outages(ctx) })
	begun := time.Now()
	var samples []sample
	all := func() bool {
		return l.Answered.Load() > 200 && s.streams.Load() > 100 && s.reloads.Load() > 2 && s.failures.Load() > 0
	}
	for every := time.NewTicker(min(time.Second, *soakFor/10)); time.Since(begun) < *soakFor || !all(); <-every.C {
		if time.Since(begun) > *soakFor+2*time.Minute {
			t.Fatal("one kind of traffic is missing")
		}
		samples = append(samples, sampleOf(t, gateway))
	}
	stop()
	running.Wait()
	client.CloseIdleConnections()
	l.CloseClientConnections()

	t.Logf("%d requests were answered, %d streams opened, %d reloads, %d outages", l.Answered.Load(), s.streams.Load(), s.reloads.Load(), s.failures.Load())
	var now sample
	defer func() {
		t.Logf("goroutines: %.0f before, %.0f after; descriptors: %.0f before, %.0f after", base.goroutines, now.goroutines, base.descriptors, now.descriptors)
	}()
	testkit.EventuallyWithin(t, time.Minute, "nothing is left of the traffic", func() bool {
		now = sampleOf(t, gateway)
		// Connections to Redis may stay, each with a reader, but their number is bounded.
		return now.inFlight == 0 && now.goroutines <= base.goroutines+80 && now.descriptors <= base.descriptors+40
	})
	if *soakFor < time.Minute {
		return // too short for trends
	}
	text, grown := judgeSamples(samples)
	t.Log("\n" + text)
	if len(grown) > 0 {
		t.Errorf("the gateway uses more and more: %s", strings.Join(grown, ", "))
	}
}

// judgeSamples compares the last fifth of the samples with the second fifth, when
// everything had warmed up. It compares medians, so that a garbage collection, an outage
// or a slow moment does not count. Each column may grow by its slack and a tenth. It
// returns a table, and the columns that have grown more.
func judgeSamples(samples []sample) (text string, grown []string) {
	fifth := len(samples) / 5
	second, last := samples[fifth:2*fifth], samples[len(samples)-fifth:]
	rows := [][]string{{fmt.Sprintf("medians of %d samples", fifth), "second fifth", "last fifth", "allowed", "most"}}
	for _, c := range sampleColumns {
		was, is := median(valuesOf(second, c.value)), median(valuesOf(last, c.value))
		allowed := was*1.1 + c.slack
		if is > allowed {
			grown = append(grown, c.name)
		}
		rows = append(rows, []string{c.name, c.text(was), c.text(is), c.text(allowed), c.text(slices.Max(valuesOf(samples, c.value)))})
	}
	return markdown(rows), grown
}

// judgeSamples reports steady growth, and not what goes up and down.
func TestJudgeSamples(t *testing.T) {
	const n = 600
	for name, c := range map[string]struct {
		resident func(i int) float64 // MiB
		grown    bool
	}{
		"flat":                     {func(i int) float64 { return 60 }, false},
		"warming up":               {func(i int) float64 { return 20 + min(40, float64(i)/3) }, false},
		"a saw":                    {func(i int) float64 { return 50 + float64(i%37) }, false},
		"one peak":                 {func(i int) float64 { return 50 + 1000*float64(i/599) }, false},
		"a leak":                   {func(i int) float64 { return 50 + float64(i)/20 }, true},
		"a slow one under the saw": {func(i int) float64 { return 50 + float64(i%37) + float64(i)/18 }, true},
	} {
		samples := make([]sample, n)
		for i := range samples {
			samples[i] = sample{resident: c.resident(i) * (1 << 20), goroutines: 50}
		}
		text, grown := judgeSamples(samples)
		if (len(grown) > 0) != c.grown {
			t.Errorf("%s: reported as grown: %v, want %v:\n%s", name, grown, c.grown, text)
		}
	}
}

// soak is what happens beside the requests.
type soak struct {
	*testing.T
	gateway    *server
	file       string
	faultProxy *redistest.FaultProxy

	streams, reloads, failures atomic.Int64
}

// watch opens one stream of a user's usage after another. It closes each after a few
// events, or the gateway ends it.
func (s *soak) watch(ctx context.Context, user string) {
	for ctx.Err() == nil {
		own, hangUp := context.WithTimeout(ctx, min(3*time.Second, *soakFor/10))
		req, _ := http.NewRequestWithContext(own, "GET", s.gateway.url()+"/usage/stream", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token(user, "load"))
		transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}
		if res, err := transport.RoundTrip(req); err == nil {
			lines := bufio.NewScanner(res.Body)
			for n := 0; n < 3 && lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "event: ") {
					n++
				}
			}
			res.Body.Close()
			if res.StatusCode == 200 {
				s.streams.Add(1)
			}
		}
		hangUp()
		pause(ctx, 100*time.Millisecond)
	}
}

// reload changes the configuration back and forth. Every third time it is broken.
func (s *soak) reload(ctx context.Context) {
	good, err := os.ReadFile(s.file)
	if err != nil {
		s.Error(err)
		return
	}
	process, err := os.FindProcess(s.gateway.pid)
	if err != nil {
		s.Error(err)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		text := string(good)
		switch n % 3 {
		case 1:
			text = strings.Replace(text, "timeout: 60s", "timeout: 61s", 1)
		case 2:
			text += "unknown: 1\n"
		}
		if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
			s.Error(err)
			return
		}
		if err := process.Signal(syscall.SIGHUP); err != nil {
			s.Error(err)
			return
		}
		s.reloads.Add(1)
		pause(ctx, min(5*time.Second, *soakFor/10))
	}
}

// outages cuts the gateway off from Redis for a moment, again and again.
func (s *soak) outages(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, min(20*time.Second, *soakFor/4))
		s.faultProxy.DropReplies(true)
		s.failures.Add(1)
		pause(ctx, 300*time.Millisecond)
		s.faultProxy.Heal()
	}
}
