package operating

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

const lossLine = "the data in Redis are not what they were"

// awaitMark waits until there is a mark in Redis that gateways have counted up several times.
func awaitMark(t *testing.T, redis *redistest.Server, beats int) {
	t.Helper()
	testkit.Eventually(t, "Redis has a mark", func() bool {
		keys, _ := redis.Do("KEYS", "metergate:identity:*").([]any)
		if len(keys) != 1 {
			return false
		}
		beat, _ := redis.Do("HMGET", keys[0], "beat").([]any)[0].(string)
		n, _ := strconv.Atoi(beat)
		return n >= beats
	})
}

func (c *countedGateway) status() int {
	return gatewaytest.Post(http.DefaultClient, c.URL+"/api/analyze", c.token())
}

// A Redis that is emptied while its connections stay open, restarts without its data, or is
// replaced by an empty one, is noticed. With on_data_loss: continue requests go on and are counted.
func TestLostDataAreReported(t *testing.T) {
	for what, lose := range map[string]func(t *testing.T, redis *redistest.Server, p *redistest.FaultProxy){
		"flushed":   func(_ *testing.T, redis *redistest.Server, _ *redistest.FaultProxy) { redis.Do("FLUSHALL") },
		"restarted": func(_ *testing.T, redis *redistest.Server, _ *redistest.FaultProxy) { redis.Kill(); redis.Start() },
		"replaced": func(t *testing.T, _ *redistest.Server, p *redistest.FaultProxy) {
			p.SwitchTo(redistest.Start(t).Addr)
			p.CutConnections()
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			p := redistest.StartFaultProxy(t, redis.Addr)
			c := startCounted(t, p.URL(), "ON_FAILURE=allow", gatewaytest.Patient)
			awaitMark(t, redis, 1)
			c.post(10)
			if value := gatewaytest.Metric(c.Process, "metergate_store_data_lost"); value != "0" || !strings.Contains(c.readyz(), `"data":"ok"`) {
				t.Errorf("before: metergate_store_data_lost %s, %s", value, c.readyz())
			}
			c.postWhile(func() {
				lose(t, redis, p)
				c.wantSaid("has lost all counts", "metergate_store_data_lost", lossLine)
			})
			if value := gatewaytest.Metric(c.Process, "metergate_store_data_losses_total"); value != "1" {
				t.Errorf("%s losses, want 1", value)
			}
			before := c.settledUsage().Used
			c.post(20)
			if u := gatewaytest.Usage(t, c.Process, c.token()); u.Used != before+20 || u.InFlight != 0 {
				t.Errorf("%d used, %d in flight; want %d and 0", u.Used, u.InFlight, before+20)
			}
		})
	}
}

// With on_data_loss: deny, no gateway admits a request until the data are back, or are accepted on
// one of them. A gateway that is killed meanwhile has not forgotten.
func TestLostDataAreDenied(t *testing.T) {
	redis := redistest.Start(t)
	a := startCounted(t, redis.URL(), "ON_DATA_LOSS=deny", "ON_FAILURE=allow", gatewaytest.Patient)
	b := startCounted(t, redis.URL(), "ON_DATA_LOSS=deny", "ON_FAILURE=allow", gatewaytest.Patient)
	both := []*countedGateway{a, b}
	awaitMark(t, redis, 4) // so that both know it
	for _, c := range both {
		c.post(5)
	}
	a.Signal(9)
	a.Wait()
	redis.Do("FLUSHALL")
	a.Process = a.Restart() // it knows from its journal's folder
	for _, c := range both {
		c.wantSaid("metergate accept-data", "metergate_store_data_lost", lossLine)
		sent := c.sent.Load()
		for range 5 {
			if status := c.status(); status != 503 {
				t.Errorf("status %d after the loss, want 503", status)
			}
		}
		if c.sent.Load() != sent {
			t.Error("a request was forwarded")
		}
	}
	env := []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken}
	if code, output := gatewaytest.Run(t, env, "accept-data", "-admin", b.Admin); code != 0 || !strings.Contains(output, "accepted") {
		t.Fatalf("exit status %d: %s", code, output)
	}
	for _, c := range both {
		testkit.Eventually(t, "the gateway goes on", func() bool { return c.status() == 200 })
		if value := gatewaytest.Metric(c.Process, "metergate_store_data_lost"); value != "0" || !strings.Contains(c.readyz(), `"data":"ok"`) {
			t.Errorf("afterwards: metergate_store_data_lost %s, %s", value, c.readyz())
		}
	}
	b.settledUsage()
	if u := a.settledUsage(); u.Used != 2 || u.InFlight != 0 {
		t.Errorf("%d used, %d in flight; want 2 and 0", u.Used, u.InFlight)
	}
}

// A gateway that was led to a wrong Redis for a while after an outage, with on_data_loss: deny, counts
// on where it was when the right one is back.
func TestWrongRedisIsDenied(t *testing.T) {
	redis, wrong := redistest.Start(t), redistest.Start(t)
	p := redistest.StartFaultProxy(t, redis.Addr)
	c := startCounted(t, p.URL(), "ON_DATA_LOSS=deny", "ON_FAILURE=allow", gatewaytest.Patient)
	awaitMark(t, redis, 1)
	c.post(10)
	p.RefuseConnections(true)
	p.CutConnections()
	c.post(10) // in the journal
	p.SwitchTo(wrong.Addr)
	p.Heal()
	c.wantSaid("metergate accept-data", "metergate_store_data_lost", lossLine)
	if status := c.status(); status != 503 {
		t.Errorf("status %d, want 503", status)
	}
	p.SwitchTo(redis.Addr)
	p.CutConnections()
	testkit.Eventually(t, "/readyz says ok", func() bool { return strings.Contains(c.readyz(), `"data":"ok"`) })
	c.post(10)
	c.wantCounted()
	if users := wrong.Do("KEYS", "metergate:{*}"); len(users.([]any)) > 0 {
		t.Errorf("the wrong Redis has %v", users)
	}
}
