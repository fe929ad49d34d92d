package redisstore

import (
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A target is what a URL says.
type target struct {
	// options has the user, the password, the database and whether TLS is used;
	// its address is that of the first host.
	options *redis.Options
	// cluster has HOST:PORT of some nodes of a Redis Cluster; empty: it is none.
	cluster []string
	// sentinels has HOST:PORT of some Sentinels, and master the name of the master
	// that they watch; empty: there are none.
	sentinels []string
	master    string
}

// errURL does not show the URL, which may hold a password.
var errURL = errors.New("the store's URL is not one of redis://, rediss://, unix://, redis+cluster:// or redis+sentinel:// with known options")

// parseURL reads a URL as Options describes it. net/url refuses a list of hosts
// with ports, so that those are cut by hand, and the rest is a URL of one Redis.
func parseURL(text string) (target, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	base, kind, several := strings.Cut(scheme, "+")
	database := ""
	var t target
	if several {
		authority, path, _ := strings.Cut(rest, "/")
		at := strings.LastIndex(authority, "@") + 1
		hosts := strings.Split(authority[at:], ",")
		for _, h := range hosts {
			host, port, err := net.SplitHostPort(h)
			if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || host == "" || n == 0 {
				return t, errURL
			}
		}
		switch {
		case base != "redis" && base != "rediss" || strings.ContainsAny(path, "?#"):
			return t, errURL
		case kind == "cluster" && path == "":
			t.cluster = hosts
		case kind == "sentinel":
			t.sentinels = hosts
			if t.master, database, _ = strings.Cut(path, "/"); t.master == "" {
				return t, errURL
			}
		default:
			return t, errURL
		}
		text = base + "://" + authority[:at] + hosts[0] + "/" + database
	}
	var err error
	if t.options, err = redis.ParseURL(text); err != nil {
		return t, errURL
	}
	return t, nil
}
