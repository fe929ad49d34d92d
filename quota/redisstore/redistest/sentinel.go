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

// A SentinelGroup is a master and a replica, watched by three Sentinels.
type SentinelGroup struct {
	// Servers are the master as it was at the start, and its replica.
	Servers []*Server
	// Sentinels are servers too: they can be paused and killed.
	Sentinels []*Server

	t        testing.TB
	password string
}

// groupName is the name of the master, as the Sentinels know it.
const groupName = "main"

// StartSentinel starts a SentinelGroup, and returns when the Sentinels know all servers. The
// password is that of the two servers, empty: none; the Sentinels have none. Where no
// redis-server is installed, it does what Start does.
func StartSentinel(t testing.TB, password string) *SentinelGroup {
	t.Helper()
	return startSentinel(t, nil, password)
}

// StartTLSSentinel is StartSentinel for servers and Sentinels with TLS.
func StartTLSSentinel(t testing.TB, a *Authority, password string) *SentinelGroup {
	t.Helper()
	return startSentinel(t, a, password)
}

func startSentinel(t testing.TB, a *Authority, password string) *SentinelGroup {
	t.Helper()
	g := &SentinelGroup{t: t, password: password}
	args := []string{"--repl-diskless-sync-delay", "0"}
	auth := ""
	if password != "" {
		args = append(args, "--requirepass", password, "--masterauth", password)
		auth = fmt.Sprintf("sentinel auth-pass %s %q\n", groupName, password)
	}
	master := (&Server{t: t, authority: a, args: args, password: password}).launch(testkit.FreeAddress)
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := (&Server{t: t, authority: a, args: append(slices.Clone(args), "--replicaof", host, port), password: password}).launch(testkit.FreeAddress)
	g.Servers = []*Server{master, replica}
	g.AwaitReplica(replica)
	for range 3 {
		g.Sentinels = append(g.Sentinels, (&Server{t: t, authority: a, conf: fmt.Sprintf(
			"sentinel monitor %[1]s %[2]s %[3]s 2\n%[4]s"+
				"sentinel down-after-milliseconds %[1]s 1500\nsentinel failover-timeout %[1]s 2000\n",
			groupName, host, port, auth)}).launch(testkit.FreeAddress))
	}
	testkit.EventuallyWithin(t, time.Minute, "the Sentinels know all servers", func() bool {
		return !slices.ContainsFunc(g.Sentinels, func(s *Server) bool {
			text := fmt.Sprint(s.Do("INFO", "sentinel"))
			return !strings.Contains(text, "status=ok") || !strings.Contains(text, "slaves=1,sentinels=3")
		})
	})
	return g
}

// URL returns the URL of the group, as the configuration takes it: all Sentinels, and an address
// where no Sentinel is.
func (g *SentinelGroup) URL() string {
	user := ""
	if g.password != "" {
		user = url.UserPassword("", g.password).String() + "@"
	}
	hosts := []string{"127.0.0.1:1"}
	for _, s := range g.Sentinels {
		hosts = append(hosts, s.Addr)
	}
	return g.Servers[0].scheme() + "+sentinel://" + user + strings.Join(hosts, ",") + "/" + groupName
}

// Master returns the server that is the master according to the first Sentinel.
func (g *SentinelGroup) Master() *Server {
	g.t.Helper()
	addr := g.masterOf(g.Sentinels[0])
	i := slices.IndexFunc(g.Servers, func(s *Server) bool { return s.Addr == addr })
	if i < 0 {
		g.t.Fatalf("the Sentinel names %q as the master, which is none of the servers", addr)
	}
	return g.Servers[i]
}

// masterOf returns the address of the master according to a Sentinel; empty: unknown.
func (g *SentinelGroup) masterOf(sentinel *Server) string {
	v, _ := sentinel.try("SENTINEL", "GET-MASTER-ADDR-BY-NAME", groupName)
	if pair, ok := v.([]any); ok && len(pair) == 2 {
		return net.JoinHostPort(fmt.Sprint(pair[0]), fmt.Sprint(pair[1]))
	}
	return ""
}

// Failover has the replica promoted although the master is well, and waits until the old master
// is a replica.
func (g *SentinelGroup) Failover() {
	g.t.Helper()
	old := g.Master()
	testkit.EventuallyWithin(g.t, time.Minute, "a failover begins", func() bool {
		_, err := g.Sentinels[0].try("SENTINEL", "FAILOVER", groupName)
		return err == nil
	})
	g.AwaitPromotion(old, g.Sentinels)
	// The Sentinels would tell it too, but only after about ten seconds.
	host, port, _ := net.SplitHostPort(g.Master().Addr)
	old.Do("REPLICAOF", host, port)
	g.AwaitReplica(old)
}

// AwaitReplica waits until a server is a replica, and has all that its master has.
func (g *SentinelGroup) AwaitReplica(s *Server) {
	g.t.Helper()
	testkit.EventuallyWithin(g.t, time.Minute, "a server is a replica", func() bool { return s.info("INFO", "replication")["master_link_status"] == "up" })
}

// AwaitPromotion waits until all these Sentinels name a master other than old.
func (g *SentinelGroup) AwaitPromotion(old *Server, sentinels []*Server) {
	g.t.Helper()
	testkit.EventuallyWithin(g.t, time.Minute, "a replica is promoted", func() bool {
		return !slices.ContainsFunc(sentinels, func(s *Server) bool { addr := g.masterOf(s); return addr == "" || addr == old.Addr })
	})
}
