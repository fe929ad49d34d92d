package redisstore

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// TestClusterThatDoesNotNameItsNodes checks the ways in which a cluster may leave the hosts of its
// nodes out, while it is used and while a slot moves.
func TestClusterThatDoesNotNameItsNodes(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false)
	c.Nodes[0].Needs(t, "7", "preferred endpoint types")
	for _, endpoint := range []string{"unknown-endpoint", "hostname", "ip"} {
		t.Run(endpoint, func(t *testing.T) {
			for _, node := range c.Nodes {
				node.Do("CONFIG", "SET", "cluster-preferred-endpoint-type", endpoint)
				node.Do("FLUSHALL")
			}
			s := openWith(t, Options{URL: c.URL(), Timeout: patient})
			if err := s.Check(ctx); err != nil {
				t.Fatal(err)
			}
			useStore(t, s)
			testSlotMove(t, c)
		})
	}
}

// TestClusterByNameOverTLS checks a cluster whose certificates have a name only. Its nodes are
// reached by that name however the cluster names them.
func TestClusterByNameOverTLS(t *testing.T) {
	t.Parallel()
	a := redistest.NewAuthority(t)
	a.Server = a.Issue(time.Now().Add(24*time.Hour), "localhost")
	c := redistest.StartTLSCluster(t, a)
	c.Nodes[0].Needs(t, "7", "preferred endpoint types")
	url := strings.ReplaceAll(c.URL(), "127.0.0.1", "localhost")
	for _, endpoint := range []string{"ip", "unknown-endpoint", "hostname"} {
		for _, node := range c.Nodes {
			node.Do("CONFIG", "SET", "cluster-announce-hostname", "localhost")
			node.Do("CONFIG", "SET", "cluster-preferred-endpoint-type", endpoint)
		}
		useStore(t, openWith(t, Options{URL: url, TLS: a.ClientTLS(a.Client), Timeout: patient}))
	}
}

// TestNodeThatDoesNotKnowItsAddress checks a cluster of one node. The node has never learnt its
// address from another one, and names itself by its port alone.
func TestNodeThatDoesNotKnowItsAddress(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--cluster-enabled", "yes")
	node.TakeSlots(0, 16383)
	s := openWith(t, Options{URL: "redis+cluster://" + node.Addr, Timeout: patient})
	testkit.Eventually(t, "the node serves its slots", func() bool { return s.Probe(ctx, "u") == nil })
	mustReserve(t, s, "u")
	err := s.client.EachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		if addr := master.Options().Addr; addr != node.Addr {
			return &net.AddrError{Err: "connected to another address", Addr: addr}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
