package bench

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A peer is another proxy, which is measured where it is installed. It writes no access log, uses one
// thread where that can be set, and keeps its connections to the upstream. The table of
// docs/performance.md says what each one does and does not do.
type peer struct {
	name, program string
	// needs is a file that must exist as well, and install is how it is installed.
	needs, install string
	config         string // a template in testdata, executed with a peerConfig; empty: the environment is enough
	args           func(c peerConfig, file string) []string
	// meters says that it has a limit for each user, and successesOnly that it counts 2xx only.
	meters, successesOnly, redis bool
	verifies                     bool // tokens, with their expiry
}

// peerConfig is what the configuration of a peer is made of.
type peerConfig struct {
	Dir, Testdata        string // a folder of its own; this package's testdata
	Address, Host, Port  string // where it listens
	Upstream             string // HOST:PORT
	RedisHost, RedisPort string
	Reserve, Settle      string // the SHA-1 of the minimal pair's scripts
	Limit                int    // how many requests a user has
	Secret               string // that tokens are signed with
}

const luaName = "nginx, Lua, minimal pair"

var peers = []peer{
	{name: "nginx", program: "nginx", install: "apt-get install nginx-light", config: "nginx.conf", args: nginxArgs},
	{name: "HAProxy", program: "haproxy", install: "apt-get install haproxy", config: "haproxy.cfg", args: haproxyArgs},
	{name: "Caddy", program: "caddy", install: "apt-get install caddy", config: "Caddyfile",
		args: func(_ peerConfig, file string) []string {
			return []string{"run", "--config", file, "--adapter", "caddyfile"}
		}},
	{name: "HAProxy, stick-table", program: "haproxy", install: "apt-get install haproxy", config: "haproxy-stick.cfg", args: haproxyArgs, meters: true, verifies: true},
	{name: "express-rate-limit, Redis", program: "node", needs: "testdata/express/node_modules/express-rate-limit",
		install: "npm ci --prefix cmd/metergate/bench/testdata/express",
		args:    func(c peerConfig, _ string) []string { return []string{filepath.Join(c.Testdata, "express/server.js")} },
		meters:  true, verifies: true, redis: true},
	{name: luaName, program: "nginx", needs: "/usr/share/lua/5.1/nginx/redis.lua",
		install: "apt-get install nginx-light libnginx-mod-http-lua lua-nginx-redis", config: "nginx-lua.conf", args: nginxArgs,
		meters: true, successesOnly: true, redis: true},
}

func nginxArgs(c peerConfig, file string) []string {
	return []string{"-p", c.Dir, "-e", "stderr", "-c", file}
}

func haproxyArgs(_ peerConfig, file string) []string { return []string{"-db", "-f", file} }

// missing says how to install what a peer needs; empty: it is installed.
func (p peer) missing() string {
	_, err := exec.LookPath(p.program)
	if err == nil && p.needs != "" {
		_, err = os.Stat(p.needs)
	}
	if err == nil {
		return ""
	}
	return p.install
}

// startPeers runs the peers that are installed. It fails the benchmark if one that is to meter, or to
// verify tokens, does not.
func startPeers(b *testing.B, upstream string) []*server {
	b.Helper()
	var running []*server
	for _, p := range peers {
		if install := p.missing(); install != "" {
			fmt.Printf("%s is left out, because it is not installed: %s\n", p.name, install)
			continue
		}
		if p.meters {
			s := p.start(b, upstream, 3)
			checkMeters(b, s, p.successesOnly)
			if p.verifies {
				checkVerifies(b, s)
			}
		}
		running = append(running, p.start(b, upstream, noLimit))
	}
	return running
}

// start runs a peer, with a Redis of its own if it needs one.
func (p peer) start(t testing.TB, upstream string, limit int) *server {
	t.Helper()
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	c := peerConfig{Testdata: testdata, Upstream: hostOf(upstream), Limit: limit, Secret: testkit.Secret}
	var store *server
	if p.redis {
		redis := redistest.Start(t)
		store = processOf(t, redis)
		c.RedisHost, c.RedisPort, _ = net.SplitHostPort(redis.Addr)
		for source, sum := range map[string]*string{reserveSource: &c.Reserve, settleSource: &c.Settle} {
			redis.Do("SCRIPT", "LOAD", source)
			hash := sha1.Sum([]byte(source))
			*sum = hex.EncodeToString(hash[:])
		}
	}
	s := startServer(t, p.name, func(address string) *exec.Cmd {
		c := c
		c.Dir, c.Address = t.TempDir(), address
		c.Host, c.Port, _ = net.SplitHostPort(address)
		cmd := exec.Command(p.program, p.args(c, c.write(t, p.config))...)
		cmd.Env = append(os.Environ(), "HOME="+c.Dir, "XDG_DATA_HOME="+c.Dir, "XDG_CONFIG_HOME="+c.Dir, "NODE_ENV=production",
			"ADDRESS="+address, "UPSTREAM="+upstream, "REDIS=redis://"+net.JoinHostPort(c.RedisHost, c.RedisPort), fmt.Sprint("LIMIT=", limit), "SECRET="+c.Secret)
		return cmd
	})
	s.redis = store
	return s
}

// write makes the configuration from its template, and returns the file.
func (c peerConfig) write(t testing.TB, name string) string {
	t.Helper()
	if name == "" {
		return ""
	}
	var text strings.Builder
	if err := template.Must(template.ParseFiles(filepath.Join(c.Testdata, name))).Execute(&text, c); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.Dir, "config")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
