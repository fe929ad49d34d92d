package redisstore

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url, addr, user, password string
		db                        int
		tls                       bool
		cluster, sentinels        []string
		master                    string
	}{
		{url: "redis://h", addr: "h:6379"},
		{url: "redis://u:p@h:7000/3", addr: "h:7000", user: "u", password: "p", db: 3},
		{url: "unix:///run/r.sock?db=2", addr: "/run/r.sock", db: 2},
		{url: "redis+cluster://h:1/", addr: "h:1", cluster: []string{"h:1"}},
		{url: "redis+sentinel://h:1/main/", addr: "h:1", sentinels: []string{"h:1"}, master: "main"},
		{url: "redis+cluster://h:1", addr: "h:1", cluster: []string{"h:1"}},
		{url: "redis+cluster://u:p%40%2F%2C@h1:1,[::1]:2,10.0.0.1:65535", addr: "h1:1", user: "u", password: "p@/,",
			cluster: []string{"h1:1", "[::1]:2", "10.0.0.1:65535"}},
		{url: "rediss+cluster://:p@h1:1,h2:2", addr: "h1:1", password: "p", tls: true, cluster: []string{"h1:1", "h2:2"}},
		{url: "redis+sentinel://h1:1,h2:2/main", addr: "h1:1", sentinels: []string{"h1:1", "h2:2"}, master: "main"},
		{url: "rediss+sentinel://u:p@h1:1/my.main-1/15", addr: "h1:1", user: "u", password: "p", db: 15, tls: true,
			sentinels: []string{"h1:1"}, master: "my.main-1"},
	} {
		got, err := parseURL(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		o := got.options
		if o.Addr != c.addr || o.Username != c.user || o.Password != c.password || o.DB != c.db || (o.TLSConfig != nil) != c.tls {
			t.Errorf("%s: address %q, user %q, password %q, database %d, TLS %v", c.url, o.Addr, o.Username, o.Password, o.DB, o.TLSConfig != nil)
		}
		if diff := cmp.Diff(c.cluster, got.cluster) + cmp.Diff(c.sentinels, got.sentinels) + cmp.Diff(c.master, got.master); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.url, diff)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, url := range []string{
		"", "h:1", "http://h", "redis+cluster", "redis+cluster:h:1", "redis+cluster://", "redis+cluster://:hunter2@",
		"redis+cluster://:hunter2@h1:1,", "redis+cluster://:hunter2@h1,h2:2", "redis+cluster://:hunter2@h1:0", "redis+cluster://:hunter2@h1:65536",
		"redis+cluster://:hunter2@h1:x", "redis+cluster://:hunter2@:1", "redis+cluster://:hunter2@h1:1/0", "redis+cluster://:hunter2@h1:1?protocol=2",
		"redis+cluster://:hunter2@::1:1", "redis+cluster://:hunter2%zz@h1:1", "unix+cluster://:hunter2@h1:1", "redis+ring://:hunter2@h1:1",
		"redis+sentinel://:hunter2@h1:1", "redis+sentinel://:hunter2@h1:1/", "redis+sentinel://:hunter2@h1:1//0", "redis+sentinel://:hunter2@h1:1/main/x",
		"redis+sentinel://:hunter2@h1:1/main/0/1", "redis+sentinel://:hunter2@h1:1/main?x=1", "redis+sentinel://:hunter2@h1:1/main#x",
	} {
		s, err := Open(Options{URL: url})
		if err == nil {
			s.Close()
			t.Errorf("%s: accepted", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: shows the password: %v", url, err)
		}
	}
}

// A certificate is checked against the name that was dialled, unless a node named
// by its address alone is behind a name in the URL.
func TestServerName(t *testing.T) {
	for _, c := range []struct{ addr, first, want string }{
		{"a.example:1", "a.example", "a.example"},
		{"b.example:1", "a.example", "b.example"},
		{"10.0.0.2:1", "a.example", "a.example"},
		{"[::1]:1", "a.example", "a.example"},
		{"10.0.0.2:1", "10.0.0.1", "10.0.0.2"},
		{"b.example:1", "10.0.0.1", "b.example"},
	} {
		if got := serverName(c.addr, c.first); got != c.want {
			t.Errorf("serverName(%q, %q) = %q, want %q", c.addr, c.first, got, c.want)
		}
	}
}
