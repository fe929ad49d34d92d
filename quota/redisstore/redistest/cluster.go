package redistest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// A Cluster is a Redis Cluster of three masters on this machine.
type Cluster struct {
	// Nodes are the masters as they were at the start, and then a replica of each if there
	// are replicas.
	Nodes []*Server

	t testing.TB
}

const (
	masters = 3
	slots   = 16384
)

// StartCluster starts three masters that share the slots, each with one replica if replicas is
// true, and returns when every node knows all of this. With replicas, a master that dies is
// replaced within a few seconds; without them its slots stay away. Where no redis-server is
// installed, it does what Start does.
func StartCluster(t testing.TB, replicas bool) *Cluster {
	t.Helper()
	return startCluster(t, nil, replicas)
}

// StartTLSCluster is StartCluster for servers with TLS, without replicas. The arguments are for
// each of them.
func StartTLSCluster(t testing.TB, a *Authority, args ...string) *Cluster {
	t.Helper()
	return startCluster(t, a, false, args...)
}

func startCluster(t testing.TB, a *Authority, replicas bool, more ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	n, timeout := masters, "15000" // on a busy machine no node may be taken for dead
	if replicas {
		n, timeout = 2*masters, "1500"
	}
	args := append([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", timeout, "--cluster-replica-validity-factor", "0",
		"--repl-diskless-sync-delay", "0",
	}, more...)
	for range n {
		c.Nodes = append(c.Nodes, (&Server{t: t, authority: a, args: args}).launch(clusterAddr))
	}
	for i, s := range c.Nodes {
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			s.TakeSlots(i*slots/masters, (i+1)*slots/masters-1)
		}
		if i > 0 {
			host, port, _ := net.SplitHostPort(s.Addr)
			c.Nodes[0].Do("CLUSTER", "MEET", host, port)
		}
	}
	c.await("all nodes know each other", func(s *Server) bool {
		return len(c.nodesKnownTo(s)) == n && s.info("CLUSTER", "INFO")["cluster_state"] == "ok"
	})
	for i, s := range c.Nodes[masters:] {
		s.Do("CLUSTER", "REPLICATE", c.Nodes[i].Do("CLUSTER", "MYID"))
	}
	c.await("all replicas follow", func(s *Server) bool {
		for _, r := range c.Nodes[masters:] {
			if !slices.ContainsFunc(c.nodesKnownTo(s), func(n node) bool { return n.addr == r.Addr && n.role == "slave" }) ||
				r.info("INFO", "replication")["master_link_status"] != "up" {
				return false
			}
		}
		return true
	})
	return c
}

// URL returns the URL of the cluster, as the configuration takes it: one of the nodes, and an
// address where no node is.
func (c *Cluster) URL() string {
	node := c.Nodes[masters-1]
	return node.scheme() + "+cluster://127.0.0.1:1," + node.Addr
}

// Master returns the server that has a slot, by the knowledge of a running node.
func (c *Cluster) Master(slot int) *Server {
	c.t.Helper()
	if s := c.master(slot); s != nil {
		return s
	}
	c.t.Fatalf("no master has slot %d", slot)
	return nil
}

func (c *Cluster) master(slot int) *Server {
	for _, s := range c.Nodes {
		if !s.running() {
			continue
		}
		for _, n := range c.nodesKnownTo(s) {
			if n.role == "master" && !n.failed && n.has(slot) {
				i := slices.IndexFunc(c.Nodes, func(s *Server) bool { return s.Addr == n.addr && s.running() })
				if i >= 0 {
					return c.Nodes[i]
				}
			}
		}
	}
	return nil
}

// Kill ends the master of a slot and returns it.
func (c *Cluster) Kill(slot int) *Server {
	c.t.Helper()
	s := c.Master(slot)
	s.Kill()
	return s
}

// AwaitPromotion waits until a slot has another master than old, every running node says so, and
// the cluster is well.
func (c *Cluster) AwaitPromotion(slot int, old *Server) {
	c.t.Helper()
	c.await("a replica is promoted", func(s *Server) bool {
		return s.info("CLUSTER", "INFO")["cluster_state"] == "ok" && slices.ContainsFunc(c.nodesKnownTo(s), func(n node) bool {
			return n.addr != old.Addr && n.role == "master" && n.has(slot)
		})
	})
}

// await waits until every running node is in a state.
func (c *Cluster) await(what string, done func(*Server) bool) {
	c.t.Helper()
	testkit.EventuallyWithin(c.t, time.Minute, what, func() bool {
		return !slices.ContainsFunc(c.Nodes, func(s *Server) bool { return s.running() && !done(s) })
	})
}

// A node is one line of CLUSTER NODES.
type node struct {
	id, addr string
	role     string // master or slave
	failed   bool
	slots    []string // "5", "0-99"
}

func (n node) has(slot int) bool {
	return slices.ContainsFunc(n.slots, func(s string) bool {
		from, to, ok := strings.Cut(s, "-")
		if !ok {
			to = from
		}
		first, _ := strconv.Atoi(from)
		last, _ := strconv.Atoi(to)
		return first <= slot && slot <= last
	})
}

// nodesKnownTo returns what a server knows of the nodes whose handshake is over.
func (c *Cluster) nodesKnownTo(s *Server) []node {
	text, _ := s.try("CLUSTER", "NODES")
	var nodes []node
	for line := range strings.Lines(fmt.Sprint(text)) {
		f := strings.Fields(line)
		if len(f) < 8 || strings.Contains(f[2], "handshake") || strings.Contains(f[2], "noaddr") {
			continue
		}
		n := node{id: f[0], role: "slave", failed: strings.Contains(f[2], "fail")}
		n.addr, _, _ = strings.Cut(f[1], "@")
		if strings.Contains(f[2], "master") {
			n.role = "master"
		}
		for _, s := range f[8:] {
			if !strings.HasPrefix(s, "[") { // of a slot that moves
				n.slots = append(n.slots, s)
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// A SlotMove is a slot on its way from one master to another, as an operator's tools move it: key
// by key, while it is used.
type SlotMove struct {
	From, To *Server

	c    *Cluster
	slot int
}

// StartSlotMove begins to move a slot to another master. From now on, keys that the old master
// does not have are sent to the new one.
func (c *Cluster) StartSlotMove(slot int) *SlotMove {
	c.t.Helper()
	m := &SlotMove{From: c.Master(slot), c: c, slot: slot}
	for _, s := range c.Nodes[:masters] {
		if s != m.From && s.running() {
			m.To = s
		}
	}
	m.To.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", m.From.Do("CLUSTER", "MYID"))
	m.From.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", m.To.Do("CLUSTER", "MYID"))
	return m
}

// MoveKey moves one key of the slot.
func (m *SlotMove) MoveKey(key string) {
	m.c.t.Helper()
	host, port, _ := net.SplitHostPort(m.To.Addr)
	m.From.Do("MIGRATE", host, port, key, 0, 20000)
}

// Finish moves the other keys, and tells every master which one has the slot.
func (m *SlotMove) Finish() {
	m.c.t.Helper()
	testkit.EventuallyWithin(m.c.t, time.Minute, "the slot is empty", func() bool {
		keys := m.From.Do("CLUSTER", "GETKEYSINSLOT", m.slot, 1000).([]any)
		for _, k := range keys {
			m.MoveKey(k.(string))
		}
		return len(keys) == 0
	})
	id := m.To.Do("CLUSTER", "MYID")
	m.To.Do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.From.Do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.c.await("all nodes know which master has the slot", func(s *Server) bool {
		return slices.ContainsFunc(m.c.nodesKnownTo(s), func(n node) bool { return n.addr == m.To.Addr && n.has(m.slot) })
	})
}

// clusterAddr returns a free address whose port + 10000, on which nodes talk to each other, is
// free as well.
func clusterAddr(t testing.TB) string {
	for range 1000 {
		addr := testkit.FreeAddress(t)
		host, text, _ := net.SplitHostPort(addr)
		port, _ := strconv.Atoi(text)
		if port >= 55000 {
			continue
		}
		if l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+10000))); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("there are no two free ports that are 10000 apart")
	return ""
}
