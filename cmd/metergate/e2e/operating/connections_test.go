package operating

import (
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// When the open connections lead to a Redis that cannot serve any more, but new ones to one that
// can, the gateway makes new ones: no call fails, and each is counted.
func TestConnectionsThatCannotServeAreMadeAnew(t *testing.T) {
	t.Run("READONLY", func(t *testing.T) {
		t.Parallel()
		old, next := redistest.Start(t), redistest.Start(t)
		follow := func(replica, master *redistest.Server) {
			host, port, _ := net.SplitHostPort(master.Addr)
			replica.Do("REPLICAOF", host, port)
		}
		follow(next, old)
		p := redistest.StartFaultProxy(t, old.Addr)
		wantRecovery(t, p, func() {
			testkit.Eventually(t, "the replica follows", func() bool { return strings.Contains(next.Do("INFO", "replication").(string), "master_link_status:up") })
			old.AwaitReplication("key")
			next.Do("REPLICAOF", "NO", "ONE")
			p.SwitchTo(next.Addr)
			follow(old, next)
		})
	})
	t.Run("NOAUTH", func(t *testing.T) {
		t.Parallel()
		p := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
		wantRecovery(t, p, func() { p.AnswerOpen("NOAUTH Authentication required.") })
	})
}

// wantRecovery sends requests before and after the connections through p become useless.
func wantRecovery(t *testing.T, p *redistest.FaultProxy, fault func()) {
	t.Helper()
	c := startCounted(t, p.URL(), "ON_FAILURE=deny", gatewaytest.Patient)
	c.post(10)
	fault()
	c.post(30)
	if u := gatewaytest.Usage(t, c.Process, c.token()); u.Used != 40 || u.InFlight != 0 {
		t.Errorf("%d used, %d in flight; want 40 and 0", u.Used, u.InFlight)
	}
	testkit.Eventually(t, "/readyz says that the store is well", func() bool { return strings.Contains(c.readyz(), `"store":"ok"`) })
}

// A Redis that ceases to let the gateway subscribe shows in one warning and in a metric, until it
// does so again. Calls are counted meanwhile.
func TestLostSubscribeIsSaidOnce(t *testing.T) {
	t.Parallel()
	const (
		warning = "does not let the gateway subscribe to changes"
		metric  = "metergate_store_subscribe_fails"
	)
	redis := redistest.Start(t)
	redis.Needs(t, "6.2", "ACL for channels")
	redis.Do("ACL", "SETUSER", "gateway", "on", ">secret", "~*", "&*", "+@all")
	c := startCounted(t, "redis://gateway:secret@"+redis.Addr, gatewaytest.Patient)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", c.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+c.token())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if value := gatewaytest.Metric(c.Process, metric); value != "0" || strings.Contains(c.Output(), warning) {
		t.Errorf("before: %s %s; the log:\n%s", metric, value, c.Output())
	}

	redis.Do("ACL", "SETUSER", "gateway", "-subscribe")
	redis.Do("CLIENT", "KILL", "TYPE", "pubsub")
	c.WaitForText(warning)
	testkit.Eventually(t, "the metric is 1", func() bool { return gatewaytest.Metric(c.Process, metric) == "1" })
	c.post(20)
	refused := refusedSubscribes(redis)
	testkit.EventuallyWithin(t, time.Minute, "the gateway has asked twice more", func() bool { return refusedSubscribes(redis) >= refused+2 })

	redis.Do("ACL", "SETUSER", "gateway", "+subscribe")
	c.WaitForText("Redis confirms subscriptions again")
	testkit.Eventually(t, "the metric is 0", func() bool { return gatewaytest.Metric(c.Process, metric) == "0" })
	if n := strings.Count(c.Output(), warning); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, c.Output())
	}
}

// refusedSubscribes is how often Redis has refused SUBSCRIBE.
func refusedSubscribes(redis *redistest.Server) (n int) {
	stats, _ := redis.Do("INFO", "commandstats").(string)
	if m := regexp.MustCompile(`cmdstat_subscribe:.*rejected_calls=(\d+)`).FindStringSubmatch(stats); m != nil {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}
