package config

import (
	"strings"
	"testing"
)

// TestRedisURL: what is wrong with the URL of a Redis is said in words, and shows
// nothing of it.
func TestRedisURL(t *testing.T) {
	for _, good := range []string{
		"redis://h", "redis://:p@h:6379/3", "rediss://[::1]:1", "unix:///run/redis.sock", "unix://:p@/run/redis.sock?db=3", "redis://h/999999999",
		"redis+cluster://h:1", "redis+cluster://u:p%40%2F@h1:1,[::1]:65535,10.0.0.1:2", "rediss+cluster://:p@a-b.example:1,h:2/",
		"redis+sentinel://h1:1,h2:2/main", "rediss+sentinel://u:p@h1:1/my_main.1-a/15",
	} {
		if fault := redisFault(good); fault != "" {
			t.Errorf("%s: %s", good, fault)
		}
	}
	const (
		single   = "redis://:hunter2@"
		cluster  = "redis+cluster://:hunter2@"
		sentinel = "redis+sentinel://:hunter2@"
	)
	for bad, want := range map[string]string{
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
		"redis+ring://h:1":                           "must be embedded:DIR",
		"unix+cluster://h:1":                         "must be embedded:DIR",
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
	} {
		got := redisFault(bad)
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", bad, got, want)
		}
		if strings.Contains(got, "hunter") {
			t.Errorf("%s: shows the password: %s", bad, got)
		}
	}
}
