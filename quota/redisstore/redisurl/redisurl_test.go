package redisurl

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

func TestParse(t *testing.T) {
	for url, want := range map[string]Location{
		"redis://h":                      {Hosts: []string{"h:6379"}},
		"redis://h:":                     {Hosts: []string{"h:6379"}},
		"redis://u:p@h:7000/3":           {Hosts: []string{"h:7000"}, Username: "u", Password: "p", Database: 3},
		"redis://:p%40%2F%23@h:6379/3/":  {Hosts: []string{"h:6379"}, Password: "p@/#", Database: 3},
		"redis://h/999999999":            {Hosts: []string{"h:6379"}, Database: 999999999},
		"rediss://[::1]:1":               {Hosts: []string{"[::1]:1"}, TLS: true},
		"redis://[::1]":                  {Hosts: []string{"[::1]:6379"}},
		"unix:///run/redis.sock":         {Unix: "/run/redis.sock"},
		"unix:///run/r.sock?db=2":        {Unix: "/run/r.sock", Database: 2},
		"unix://:p@/run/redis.sock?db=3": {Unix: "/run/redis.sock", Password: "p", Database: 3},
		"redis+cluster://h:1":            {Hosts: []string{"h:1"}, Cluster: true},
		"redis+cluster://h:1/":           {Hosts: []string{"h:1"}, Cluster: true},
		"redis+cluster://u:p%40%2F%2C@h1:1,[::1]:65535,10.0.0.1:2": {
			Hosts: []string{"h1:1", "[::1]:65535", "10.0.0.1:2"}, Cluster: true, Username: "u", Password: "p@/,"},
		"rediss+cluster://:p@a-b.example:1,h:2/": {Hosts: []string{"a-b.example:1", "h:2"}, Cluster: true, Password: "p", TLS: true},
		"redis+sentinel://h1:1,h2:2/main":        {Hosts: []string{"h1:1", "h2:2"}, Master: "main"},
		"redis+sentinel://h:1/main/":             {Hosts: []string{"h:1"}, Master: "main"},
		"rediss+sentinel://u:p@h1:1/my_main.1-a/15": {
			Hosts: []string{"h1:1"}, Master: "my_main.1-a", Username: "u", Password: "p", Database: 15, TLS: true},
	} {
		got, err := Parse(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", url, diff)
		}
	}
}

// TestParseAgreesWithGoRedis compares the URLs of a single Redis with the client's own
// reading of them, which users may know.
func TestParseAgreesWithGoRedis(t *testing.T) {
	for _, url := range []string{
		"redis://h", "redis://h:", "redis://h:7000/3", "redis://u:p%40@h/0", "redis://u@h", "rediss://:p@[::1]:1/15", "redis://[::1]/1/",
		"unix:///run/r.sock", "unix://u:p%2F@/run/r.sock?db=2", "unix:///run/a%20b.sock",
	} {
		want, err := redis.ParseURL(url)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		got, err := Parse(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		addr := got.Unix
		if want.Network == "tcp" {
			addr = strings.Join(got.Hosts, ",")
		}
		if addr != want.Addr || got.Username != want.Username || got.Password != want.Password || got.Database != want.DB || got.TLS != (want.TLSConfig != nil) {
			t.Errorf("%s: %+v, but go-redis reads address %q, user %q, password %q, database %d, TLS %v",
				url, got, want.Addr, want.Username, want.Password, want.DB, want.TLSConfig != nil)
		}
	}
}

const (
	single   = "redis://:hunter2@"
	cluster  = "redis+cluster://:hunter2@"
	sentinel = "redis+sentinel://:hunter2@"
)

// badURLs are URLs with a part of the error about each. The password is hunter2, whole or in
// part.
var badURLs = map[string]string{
	single + "h1:1,h2:2":                         "must have one host; several nodes of a Redis Cluster are written as redis+cluster://10.0.0.1:6379,10.0.0.2:6379, Sentinels as redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/main",
	single + "h1,h2":                             "must have one host",
	single + "h1,h2:2/0":                         "must have one host",
	single + "h1:1,":                             "must have one host",
	"rediss://h1:1,h2:2":                         "rediss+cluster://10.0.0.1:6379",
	"rediss://[::1]:1,[::2]:1":                   "must have one host",
	single + "h;1":                               "must have a host that is a name or an IP address",
	single + "h:1/0?pool_size=5&foo=1":           "must not have options; write a ? of a password as %3F",
	single + "h:1/0?db=1":                        "must not have options",
	single + "h?":                                "must not have options",
	"rediss://h?hunter2=1":                       "must not have options",
	"redis://:hunter?2@h:1":                      "write a ? of a password as %3F",
	"redis://:hunter#2@h:1":                      "must not have a fragment",
	single + "h/0#":                              "must not have a fragment",
	single + "h/1000000000":                      "must have nothing but the number of a database",
	"unix:///run/redis.sock#hunter2":             "must not have a fragment",
	"unix:///run/redis.sock?":                    "must have no option but the number of a database, such as unix:///run/redis/redis.sock?db=1",
	"unix:///run/redis.sock?db=":                 "must have no option but",
	"unix:///run/redis.sock?db=-1":               "must have no option but",
	"unix:///run/redis.sock?db=1&hunter2=2":      "must have no option but",
	"unix:///run/redis.sock?hunter2=2":           "must have no option but",
	"redis+cluster":                              "must go on with // after redis+cluster:",
	"redis+ring://h:1":                           "must be redis://HOST:PORT, rediss://",
	"unix+cluster://h:1":                         "must be redis://HOST:PORT, rediss://",
	"redis+cluster:h:1":                          "must go on with // after redis+cluster:",
	"redis+sentinel:/h:1/main":                   "must go on with // after redis+sentinel:",
	"redis+cluster://":                           "must have hosts, such as redis+cluster://10.0.0.1:6379,",
	"rediss+sentinel:///main":                    "must have hosts, such as rediss+sentinel://10.0.0.1:26379,10.0.0.2:26379/main",
	cluster + "h1:1,":                            "host 2 of 2 is empty",
	cluster + ",h1:1":                            "host 1 of 2 is empty",
	cluster + "h1,h2:2,h3:3":                     "host 1 of 3 has no port",
	cluster + "h1:1,[::1]":                       "host 2 of 2 has no port",
	cluster + "::1:1":                            "host 1 of 1 must be a name or an IP address, IPv6 in brackets",
	cluster + ":1":                               "host 1 of 1 must be a name or an IP address",
	cluster + "h 1:1":                            "host 1 of 1 must be a name or an IP address",
	cluster + "h1:1,h2:":                         "host 2 of 2 must have a port of 1 to 65535",
	cluster + "h1:0":                             "host 1 of 1 must have a port of 1 to 65535",
	cluster + "h1:65536":                         "host 1 of 1 must have a port of 1 to 65535",
	cluster + "h1:port":                          "host 1 of 1 must have a port of 1 to 65535",
	cluster + "h1:1/0":                           "must end after the hosts",
	cluster + "h1:1/main":                        "a cluster has no name and no databases",
	cluster + "h1:1?protocol=2":                  "must not have options",
	cluster + "h1:1#x":                           "must not have a fragment",
	"redis+cluster://:hunter/2@h1:1":             "special characters of a password must be encoded",
	"redis+cluster://:hunter2%@h1:1":             "special characters of a password must be encoded",
	"redis+sentinel://:hunter#2@h1:1/main":       "must not have a fragment",
	"redis+sentinel://:hunter?2@h1:1/main":       "write a ? of a password as %3F",
	sentinel + "h1:1":                            "must have the name of the master after the hosts",
	sentinel + "h1:1/":                           "must have the name of the master after the hosts",
	sentinel + "h1:1//0":                         "must have the name of the master after the hosts",
	sentinel + "h1:1/a b":                        "must have a name of 1 to 64 letters",
	sentinel + "h1:1/main/db":                    "the number of a database after the name",
	sentinel + "h1:1/main/0/1":                   "the number of a database after the name",
	sentinel + "h1:1/main/" + "0123456789":       "the number of a database after the name",
	sentinel + "h1:1/main?db=0":                  "must not have options",
	sentinel + "h1:1,h2/main":                    "host 2 of 2 has no port; write HOST:PORT for each, such as redis+sentinel://10.0.0.1:26379,",
	sentinel + "h1:1/" + strings.Repeat("x", 65): "must have a name of 1 to 64 letters",
	"":             ErrScheme.Error(),
	"h:1":          ErrScheme.Error(),
	"http://h":     ErrScheme.Error(),
	"redis:h:1":    "must go on with // after redis:",
	"redis:///0":   "must have a host, such as redis://127.0.0.1:6379",
	single + "h:0": "must have a port of 1 to 65535",
	single + "h:x": "the port must be a number",
	"unix://h/s":   "must be unix:///PATH with three slashes, such as unix:///run/redis/redis.sock",
	"unix:///":     "must be unix:///PATH with three slashes",
}

// TestParseRefuses checks that an error says what is wrong, and that it shows nothing of the
// URL.
func TestParseRefuses(t *testing.T) {
	for bad, want := range badURLs {
		got, err := Parse(bad)
		if err == nil {
			t.Errorf("%s: accepted", bad)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, want %q", bad, err, want)
		}
		if strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: shows the password: %v", bad, err)
		}
		if diff := cmp.Diff(Location{}, got); diff != "" {
			t.Errorf("%s: returned a location with the error: %s", bad, diff)
		}
	}
}
