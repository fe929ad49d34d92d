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
	// Nodes are the masters as they were at the start, and then a replica of each,
	// if there are any.
	Nodes []*Server

	t testing.TB
}

const (
	masters = 3
	slots   = 16384
)

// StartCluster starts three masters that share the slots, each with one replica if
// replicas is true, and returns when every node knows all of this. A master that
// dies is then replaced within a few seconds; without replicas none is, and its
// slots stay away. Where no redis-server is installed it does as Start.
func StartCluster(t testing.TB, replicas bool) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	n, timeout := masters, "15000" // nobody is to be taken for dead because the machine is busy
	if replicas {
		n, timeout = 2*masters, "1500"
	}
	for range n {
		c.Nodes = append(c.Nodes, (&Server{t: t, args: []string{
			"--cluster-enabled", "yes", "--cluster-node-timeout", timeout, "--cluster-replica-validity-factor", "0",
			"--repl-diskless-sync-delay", "0",
		}}).launch(clusterAddr))
	}
	for i, s := range c.Nodes {
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			s.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
		}
		if i > 0 {
			host, port, _ := net.SplitHostPort(s.Addr)
			c.Nodes[0].Do("CLUSTER", "MEET", host, port)
		}
	}
	c.await("all nodes know each other", func(s *Server) bool {
		return len(c.view(s)) == n && s.info("CLUSTER", "INFO")["cluster_state"] == "ok"
	})
	for i, s := range c.Nodes[masters:] {
		s.Do("CLUSTER", "REPLICATE", c.Nodes[i].Do("CLUSTER", "MYID"))
	}
	c.await("all replicas follow", func(s *Server) bool {
		for _, r := range c.Nodes[masters:] {
			if !slices.ContainsFunc(c.view(s), func(n node) bool { return n.addr == r.Addr && n.role == "slave" }) ||
				r.info("INFO", "replication")["master_link_status"] != "up" {
				return false
			}
		}
		return true
	})
	return c
}

// URL is what the configuration takes: one of the nodes, and one that is not there.
func (c *Cluster) URL() string {
	return "redis+cluster://127.0.0.1:1," + c.Nodes[masters-1].Addr
}

// Master returns the server that has a slot, as a node that runs knows it.
func (c *Cluster) Master(slot int) *Server {
	c.t.Helper()
	if s := c.master(slot); s != nil {
		return s
	}
	c.t.Fatalf("nobody has slot %d", slot)
	return nil
}

func (c *Cluster) master(slot int) *Server {
	for _, s := range c.Nodes {
		if !s.running() {
			continue
		}
		for _, n := range c.view(s) {
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

// Promoted waits until a slot has another master than old, every node that runs
// says so, and the cluster is well.
func (c *Cluster) Promoted(slot int, old *Server) {
	c.t.Helper()
	c.await("a replica is promoted", func(s *Server) bool {
		return s.info("CLUSTER", "INFO")["cluster_state"] == "ok" && slices.ContainsFunc(c.view(s), func(n node) bool {
			return n.addr != old.Addr && n.role == "master" && n.has(slot)
		})
	})
}

// await waits for a state of every node that runs.
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

// view is what a server knows of the nodes whose handshake is over.
func (c *Cluster) view(s *Server) []node {
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

// A Move is a slot on its way from one master to another, as an operator's tools
// move it: key by key, while it is used.
type Move struct {
	From, To *Server

	c    *Cluster
	slot int
}

// Move begins to move a slot to another master: what is not there yet is from now
// on sent to the new one.
func (c *Cluster) Move(slot int) *Move {
	c.t.Helper()
	m := &Move{From: c.Master(slot), c: c, slot: slot}
	for _, s := range c.Nodes[:masters] {
		if s != m.From && s.running() {
			m.To = s
		}
	}
	m.To.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", m.From.Do("CLUSTER", "MYID"))
	m.From.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", m.To.Do("CLUSTER", "MYID"))
	return m
}

// Key moves one key of the slot.
func (m *Move) Key(key string) {
	m.c.t.Helper()
	host, port, _ := net.SplitHostPort(m.To.Addr)
	m.From.Do("MIGRATE", host, port, key, 0, 20000)
}

// Finish moves the keys that are left, and tells every master who has the slot.
func (m *Move) Finish() {
	m.c.t.Helper()
	testkit.EventuallyWithin(m.c.t, time.Minute, "the slot is empty", func() bool {
		keys := m.From.Do("CLUSTER", "GETKEYSINSLOT", m.slot, 1000).([]any)
		for _, k := range keys {
			m.Key(k.(string))
		}
		return len(keys) == 0
	})
	id := m.To.Do("CLUSTER", "MYID")
	m.To.Do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.From.Do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.c.await("all know who has the slot", func(s *Server) bool {
		return slices.ContainsFunc(m.c.view(s), func(n node) bool { return n.addr == m.To.Addr && n.has(m.slot) })
	})
}

// clusterAddr is a free address whose port + 10000, where nodes talk to each other,
// is free as well.
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
	t.Fatal("no two free ports that are 10000 apart")
	return ""
}
