package redistest

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// A Group is a master and a replica, watched by three Sentinels.
type Group struct {
	// Servers are the master as it was at the start, and its replica.
	Servers []*Server
	// Sentinels are servers too: they can be paused and killed.
	Sentinels []*Server

	t        testing.TB
	password string
}

const group = "main"

// StartSentinel starts a Group, and returns when the Sentinels know of everyone.
// password is what the two servers want, the Sentinels want none; empty: nobody
// does. Where no redis-server is installed it does as Start.
func StartSentinel(t testing.TB, password string) *Group {
	t.Helper()
	g := &Group{t: t, password: password}
	args := []string{"--repl-diskless-sync-delay", "0"}
	auth := ""
	if password != "" {
		args = append(args, "--requirepass", password, "--masterauth", password)
		auth = fmt.Sprintf("sentinel auth-pass %s %q\n", group, password)
	}
	master := (&Server{t: t, args: args, password: password}).launch(testkit.FreeAddress)
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := (&Server{t: t, args: append(slices.Clone(args), "--replicaof", host+" "+port), password: password}).launch(testkit.FreeAddress)
	g.Servers = []*Server{master, replica}
	g.Follows(replica)
	for range 3 {
		g.Sentinels = append(g.Sentinels, (&Server{t: t, conf: fmt.Sprintf(
			"sentinel monitor %[1]s %[2]s %[3]s 2\n%[4]s"+
				"sentinel down-after-milliseconds %[1]s 1500\nsentinel failover-timeout %[1]s 2000\n",
			group, host, port, auth)}).launch(testkit.FreeAddress))
	}
	testkit.EventuallyWithin(t, time.Minute, "the Sentinels know everyone", func() bool {
		return !slices.ContainsFunc(g.Sentinels, func(s *Server) bool {
			text := fmt.Sprint(s.Do("INFO", "sentinel"))
			return !strings.Contains(text, "status=ok") || !strings.Contains(text, "slaves=1,sentinels=3")
		})
	})
	return g
}

// URL is what the configuration takes: all Sentinels, and one that is not there.
func (g *Group) URL() string {
	user := ""
	if g.password != "" {
		user = url.UserPassword("", g.password).String() + "@"
	}
	hosts := []string{"127.0.0.1:1"}
	for _, s := range g.Sentinels {
		hosts = append(hosts, s.Addr)
	}
	return "redis+sentinel://" + user + strings.Join(hosts, ",") + "/" + group
}

// Master returns the server that the first Sentinel takes for the master.
func (g *Group) Master() *Server {
	g.t.Helper()
	addr := g.master(g.Sentinels[0])
	i := slices.IndexFunc(g.Servers, func(s *Server) bool { return s.Addr == addr })
	if i < 0 {
		g.t.Fatalf("the master is said to be %q", addr)
	}
	return g.Servers[i]
}

func (g *Group) master(sentinel *Server) string {
	v, _ := sentinel.try("SENTINEL", "GET-MASTER-ADDR-BY-NAME", group)
	if pair, ok := v.([]any); ok && len(pair) == 2 {
		return net.JoinHostPort(fmt.Sprint(pair[0]), fmt.Sprint(pair[1]))
	}
	return ""
}

// Failover has the replica promoted though the master is well, and waits until the
// old master is a replica.
func (g *Group) Failover() {
	g.t.Helper()
	old := g.Master()
	testkit.EventuallyWithin(g.t, time.Minute, "a failover begins", func() bool {
		_, err := g.Sentinels[0].try("SENTINEL", "FAILOVER", group)
		return err == nil
	})
	g.Promoted(old, g.Sentinels)
	// The Sentinels would tell it as well, but only after some ten seconds.
	host, port, _ := net.SplitHostPort(g.Master().Addr)
	old.Do("REPLICAOF", host, port)
	g.Follows(old)
}

// Follows waits until a server is a replica, and has all that its master has.
func (g *Group) Follows(s *Server) {
	g.t.Helper()
	testkit.EventuallyWithin(g.t, time.Minute, "a server follows", func() bool { return s.info("INFO", "replication")["master_link_status"] == "up" })
}

// Promoted waits until these Sentinels name another master than old.
func (g *Group) Promoted(old *Server, sentinels []*Server) {
	g.t.Helper()
	testkit.EventuallyWithin(g.t, time.Minute, "a replica is promoted", func() bool {
		return !slices.ContainsFunc(sentinels, func(s *Server) bool { addr := g.master(s); return addr == "" || addr == old.Addr })
	})
}
