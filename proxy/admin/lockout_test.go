package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// After ten wrong tokens, one token a second is checked from that address for the rest of
// the minute. Other addresses are not affected.
func TestLockoutAfterTenWrongTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		for range 20 { // no token, so not a guess
			l.want(t, "10.0.0.1:1000", "", 401, "")
			l.want(t, "10.0.0.1:1000", "Basic "+token, 401, "")
		}
		l.want(t, "10.0.0.1:1000", token, 200, "")
		for i := range 9 {
			l.want(t, fmt.Sprint("10.0.0.1:", 1000+i), fmt.Sprint("wrong-", i), 401, "")
		}
		time.Sleep(20 * time.Second)
		l.want(t, "10.0.0.1:1000", token, 200, "") // a right token does not reset the count
		l.want(t, "10.0.0.1:1000", "wrong-10", 401, "")
		l.want(t, "10.0.0.1:1000", "wrong-11", 429, "1")
		l.want(t, "10.0.0.1:2000", token, 429, "1")
		l.want(t, "[::ffff:10.0.0.1]:1", token, 429, "1") // the same address
		l.want(t, "10.0.0.1:2000", "", 401, "")
		l.want(t, "10.0.0.2:1000", token, 200, "")
		l.want(t, "10.0.0.2:1000", "wrong", 401, "")
		l.want(t, "10.0.0.2:1000", token, 200, "")
		time.Sleep(999 * time.Millisecond)
		l.want(t, "10.0.0.1:1000", token, 429, "1")
		time.Sleep(time.Millisecond) // a second after the last token that was checked
		l.want(t, "10.0.0.1:1000", token, 200, "")
		l.want(t, "10.0.0.1:1000", token, 200, "") // right tokens are not limited
		l.want(t, "10.0.0.1:1000", "wrong-12", 401, "")
		l.want(t, "10.0.0.1:1000", token, 429, "1")
		time.Sleep(39 * time.Second) // the window is over
		for i := range 10 {
			l.want(t, "10.0.0.1:1000", fmt.Sprint("wrong-", i), 401, "")
		}
		l.want(t, "10.0.0.1:1000", token, 429, "1")
		l.wantRefused(t, 41, 22, 6)
		if got := l.reloads.Load(); got != 6 {
			t.Errorf("%d reloads, want 6", got)
		}
		log := l.log.String()
		if strings.Count(log, "\n") != 2 || strings.Count(log, "address=10.0.0.1/32") != 2 {
			t.Errorf("the log of two lock-outs is\n%s", log)
		}
		if strings.Contains(log, "wrong-") || strings.Contains(log, token) {
			t.Errorf("the log has a token:\n%s", log)
		}
	})
}

// Somebody who guesses all the time from the operator's own address has ten tokens a
// minute and one a second checked, and keeps the operator out for about a second.
func TestGuesserCannotLockOperatorOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		const tick, minutes = 10 * time.Millisecond, 10
		looked, heard := 0, time.Now()
		var longest time.Duration
		for i := range int(minutes * time.Minute / tick) {
			if i%30 == 0 && l.send("127.0.0.1:1", "wrong").StatusCode == 401 {
				looked++
			}
			if i%7 == 0 && l.send("127.0.0.1:2", token).StatusCode == 200 {
				longest, heard = max(longest, time.Since(heard)), time.Now()
			}
			time.Sleep(tick)
		}
		if longest = max(longest, time.Since(heard)); longest > checkInterval+2*7*tick { // one interval of the operator before the check, one after
			t.Errorf("the operator was kept out for %v", longest)
		}
		if most := minutes * (maxWrongPerAddress + 60); looked > most {
			t.Errorf("%d guesses were checked, want at most %d", looked, most)
		}
	})
}

// An IPv6 /64 network counts as one address.
func TestLockoutOfIPv6Network(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		for i := range 10 {
			l.want(t, fmt.Sprintf("[2001:db8:0:1::%x]:1", i), "wrong", 401, "")
		}
		l.want(t, "[2001:db8:0:1:ffff::]:1", token, 429, "1")
		l.want(t, "[2001:db8:0:2::1]:1", token, 200, "")
	})
}

// Of concurrent guesses ten are checked. Concurrent right tokens all pass.
func TestLockoutOfConcurrentGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		count := func(token string) map[int]int {
			var mu sync.Mutex
			var wait sync.WaitGroup
			got := map[int]int{}
			for range 500 {
				wait.Go(func() {
					res := l.send("10.0.0.1:1", token)
					mu.Lock()
					defer mu.Unlock()
					got[res.StatusCode]++
				})
			}
			wait.Wait()
			return got
		}
		if got := count(token); got[200] != 500 {
			t.Errorf("right tokens got %v", got)
		}
		if got := count("wrong"); got[401] != 10 || got[429] != 490 {
			t.Errorf("wrong tokens got %v", got)
		}
	})
}

// After many guesses, each guessing address has one token a second checked, and all other
// addresses together have one.
func TestLockoutOfManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		address := func(i int) string { return fmt.Sprintf("10.1.%d.%d:1", i/256, i%256) }
		for i := range maxWrongInTotal {
			l.want(t, address(i), "wrong", 401, "")
		}
		for i := range 3 * maxWrongInTotal {
			l.want(t, address(i), "wrong", 429, "1")
		}
		l.want(t, "10.0.0.1:1", token, 429, "1")
		time.Sleep(time.Second)
		l.want(t, "10.0.0.1:1", token, 200, "")
		l.want(t, "10.0.0.2:1", token, 200, "")
		l.want(t, address(2*maxWrongInTotal), "wrong", 401, "") // the one of this second
		l.want(t, address(2*maxWrongInTotal+1), "wrong", 429, "1")
		l.want(t, "10.0.0.1:1", token, 429, "1")
		l.want(t, address(0), "wrong", 401, "") // it has its own second
		l.want(t, address(0), "wrong", 429, "1")
		time.Sleep(59 * time.Second)
		l.want(t, address(0), token, 200, "")
		l.want(t, "10.0.0.1:1", token, 200, "")
		if log := l.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "many wrong tokens") {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// Of guesses from a new address each, five hundred a second for a minute, a hundred and
// one a second are checked. No more addresses are remembered, and the log gets one line.
func TestLockoutBoundsMemoryAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLockout(slog.New(slog.NewTextHandler(&log, nil)))
		looked := 0
		for i := range 30_000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String()
			same, wait := l.compare(from, "wrong", token)
			if same {
				t.Fatalf("guess %d is the token", i)
			}
			if wait == 0 {
				looked++
			}
			if wait < 0 || wait > checkInterval {
				t.Fatalf("guess %d must wait for %v", i, wait)
			}
			time.Sleep(2 * time.Millisecond)
		}
		if most := maxWrongInTotal + 60; looked < maxWrongInTotal || looked > most || len(l.guessers) > most {
			t.Errorf("%d guesses were checked, %d addresses are remembered, want at most %d", looked, len(l.guessers), most)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines of log", lines)
		}
	})
}
