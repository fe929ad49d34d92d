package redisstore

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// wantWrongKind checks that an error says what the server is.
func wantWrongKind(t *testing.T, what string, err error, want string) {
	t.Helper()
	if wrong := (*redisclient.WrongKindError)(nil); !errors.As(err, &wrong) || !strings.Contains(wrong.Advice, want) {
		t.Errorf("%s: error %v, want a *redisclient.WrongKindError with %q", what, err, want)
	}
}

// TestWrongKindOfServerIsExplained gives each kind of server as each other kind. Ping, which the
// start and validate -online call, and all calls that fail say how to write the URL.
func TestWrongKindOfServerIsExplained(t *testing.T) {
	t.Parallel()
	single, cluster, group := redistest.Start(t), redistest.StartCluster(t, false), redistest.StartSentinel(t, "")
	sentinel := group.Sentinels[0].Addr
	for _, test := range []struct{ name, url, ping, reserve string }{
		{"a cluster's node as a single Redis", cluster.Nodes[1].URL(), "redis+cluster://", "redis+cluster://"},
		{"a Sentinel as a single Redis", "redis://" + sentinel, "redis+sentinel://", "redis+sentinel://"},
		{"a single Redis as a cluster", "redis+cluster://" + single.Addr, "redis://HOST:PORT", "redis://HOST:PORT"},
		{"a Sentinel as a cluster", "redis+cluster://" + sentinel, "redis+sentinel://", "redis+sentinel://"},
		{"a single Redis as a Sentinel", "redis+sentinel://" + single.Addr + "/main", "not a Sentinel", "not a Sentinel"},
		{"a cluster's node as a Sentinel", "redis+sentinel://" + cluster.Nodes[0].Addr + "/main", "not a Sentinel", "not a Sentinel"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t, test.url)
			wantWrongKind(t, "Check", s.Check(ctx), test.ping)
			failed := 0
			for i := range 20 { // one node has some of the users
				if _, err := s.Reserve(ctx, newRequest(fmt.Sprint("user-", i))); err != nil {
					failed++
					wantWrongKind(t, "Reserve", err, test.reserve)
				}
			}
			if failed == 0 {
				t.Error("no reserve failed")
			}
		})
	}
}

// TestClusterOfOneNodeServesAsASingleRedis checks that a node with all slots may be given as a
// single Redis, which has always worked.
func TestClusterOfOneNodeServesAsASingleRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	server.TakeSlots(0, 16383)
	s := openStore(t, server.URL())
	testkit.Eventually(t, "the node serves its slots", func() bool { return s.Check(ctx) == nil })
	mustReserve(t, s, "u")
}

// TestWrongKindAfterAReconnect checks an address that leads to a server of another kind later.
func TestWrongKindAfterAReconnect(t *testing.T) {
	t.Parallel()
	group := redistest.StartSentinel(t, "")
	p := redistest.StartFaultProxy(t, group.Master().Addr)
	s := openStore(t, p.URL())
	mustReserve(t, s, "u")
	p.SwitchTo(group.Sentinels[0].Addr)
	p.CutConnections()
	for range 10 { // the first may fail with its connection
		_, err := s.Reserve(ctx, newRequest("u"))
		if net := net.Error(nil); err == nil || errors.As(err, &net) || strings.Contains(err.Error(), "EOF") {
			continue
		}
		wantWrongKind(t, "Reserve", err, "redis+sentinel://")
		return
	}
	t.Error("no call failed because of the server")
}
