package billing

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// Hours pass in which users send requests, some of which are counted hours later, and on Redis in which it cannot be
// reached for hours. Meanwhile metergate bill runs again and again, killed at random, also two at
// once, against a receiver that fails. In the end, the events that were accepted add up to what was counted, for
// each user, endpoint and hour.
func TestBillsAddUpToCounts(t *testing.T) {
	all := []struct {
		name, to string
		onRedis  bool
	}{
		{"embedded to Stripe", "stripe", false},
		{"Redis to Lago", "lago", true},
		{"embedded to OpenMeter", "openmeter", false},
		{"Redis to CloudEvents", "cloudevents", true},
	}
	for _, c := range all[:gatewaytest.Times(2, len(all))] {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.to, c.onRedis)
			faulty(w.receiver)
			users, hours := gatewaytest.Times(50, 1000), gatewaytest.Times(8, 48)
			ctx, done := context.WithCancel(t.Context())
			var billing sync.WaitGroup
			for range 2 {
				billing.Go(func() { w.keepBilling(ctx) })
			}
			outage, outages := 0, 0 // hours that it still takes; how many there were
			for hour := range hours {
				switch {
				case !c.onRedis:
				case outage == 1:
					w.network.RefuseConnections(false)
				case outage == 0 && hour > 0 && hour < hours-3 && (outages == 0 || w.random.IntN(6) == 0):
					outages++
					w.network.RefuseConnections(true)
					w.network.CutConnections()
					outage = 2 + w.random.IntN(3)
				}
				outage = max(0, outage-1)
				w.use(hour, users, users)
				w.countLate(hour)
				w.clock.Advance(time.Hour)
			}
			if c.onRedis {
				t.Logf("%d outages of Redis", outages)
				w.network.RefuseConnections(false)
			}
			w.countLate(2 * hours)
			done()
			billing.Wait()
			w.receiver.Heal()
			w.clock.Advance(time.Hour)
			testkit.EventuallyWithin(t, 2*time.Minute, "the journal is replayed", func() bool { return w.store.Stats().Backlog == 0 && w.store.Check(t.Context()) == nil })
			billAll(t, w.admin, w.to, w.receiver)
			w.wantSums()
		})
	}
}

// keepBilling runs metergate bill until the context ends, and kills most of its runs.
func (w *world) keepBilling(ctx context.Context) {
	for ctx.Err() == nil {
		life := rand.N(500 * time.Millisecond)
		if rand.IntN(4) == 0 {
			life = time.Minute
		}
		run, cancel := context.WithTimeout(ctx, life)
		cmd := exec.CommandContext(run, gatewaytest.Program(), billArgs(w.admin, w.to, w.receiver, "-retry", "2s")...)
		cmd.Env = append(os.Environ(), billEnv...)
		cmd.Run() // most end by a signal
		cancel()
	}
}
