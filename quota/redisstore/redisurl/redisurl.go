// Package redisurl reads the URL of a Redis, a Redis Cluster or a group of Sentinels.
// The configuration checks URLs with it, and the Redis client connects by what it
// returns, so that both follow one set of rules:
//
//	redis://[USER:PASSWORD@]HOST[:PORT][/DB]                        one Redis
//	unix://[USER:PASSWORD@]/PATH[?db=DB]                            one Redis on a Unix socket
//	redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT             some nodes of a Redis Cluster
//	redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DB]  some Sentinels, and the name of the master
//
// The schemes rediss, rediss+cluster and rediss+sentinel are the same over TLS. There are
// no other options: what the connection needs is the client's business.
//
// The package imports no other package of the project.
package redisurl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Forms lists the forms of a URL for an error message.
const Forms = "redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/NAME"

// ErrScheme reports a URL with an unknown scheme, or without one. A caller that accepts
// other schemes as well can replace it with a message that names them before Forms.
var ErrScheme = errors.New("must be " + Forms)

// A Location says where a Redis is and how to log in to it.
type Location struct {
	// Unix is the path of a Unix socket. If it is set, Hosts is empty.
	Unix string
	// Hosts has HOST:PORT of one Redis, of some nodes of a cluster, or of some Sentinels.
	// An IPv6 address is in brackets. The port is always there: 6379 if a single Redis
	// was given without one.
	Hosts []string
	// Cluster says that Hosts are nodes of a Redis Cluster.
	Cluster bool
	// Master is the name under which the Sentinels in Hosts know the master. It is empty
	// if Hosts are not Sentinels.
	Master string
	// Username and Password log in to Redis; empty: without.
	Username, Password string
	// Database is the number of a database, 0 by default and always 0 in a cluster.
	Database int
	// TLS says that connections are encrypted.
	TLS bool
}

// The rules for the parts of a URL.
var (
	hostRule     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
	masterRule   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	databaseRule = regexp.MustCompile(`^[0-9]{0,9}$`)
)

// Texts that several errors share.
const (
	errEncode      = "special characters of a password must be encoded (%23 for #, %2F for /, %40 for @)"
	errSlashes     = "must go on with // after %s:"
	exampleCluster = "://10.0.0.1:6379,10.0.0.2:6379"
	exampleMaster  = "://10.0.0.1:26379,10.0.0.2:26379/main"
)

var (
	errFragment = errors.New("must not have a fragment; write a # of a password as %23")
	errOptions  = errors.New("must not have options; write a ? of a password as %3F")
)

// Parse reads a URL. An error says what the URL must be, to be put after the name of the
// setting, and shows no part of the URL, which may hold a password.
func Parse(text string) (Location, error) {
	scheme, _, _ := strings.Cut(text, ":")
	switch scheme {
	case "redis", "rediss":
		return parseSingle(scheme, text)
	case "unix":
		return parseSocket(text)
	case "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel":
		return parseHosts(scheme, text)
	}
	return Location{}, ErrScheme
}

// parseSingle reads the URL of one Redis on the network.
func parseSingle(scheme, text string) (Location, error) {
	authority, _, _ := strings.Cut(strings.TrimPrefix(text, scheme+"://"), "/")
	if strings.Contains(authority[strings.LastIndex(authority, "@")+1:], ",") {
		return Location{}, fmt.Errorf("must have one host; several nodes of a Redis Cluster are written as %[1]s+cluster%[2]s, Sentinels as %[1]s+sentinel%[3]s", scheme, exampleCluster, exampleMaster)
	}
	u, err := parsePlain(scheme, text, strings.Contains(text, "?"))
	if err != nil {
		return Location{}, err
	}
	_, ipErr := netip.ParseAddr(u.Hostname())
	port, database := u.Port(), strings.Trim(u.Path, "/")
	if port == "" {
		port = "6379"
	}
	switch {
	case u.Hostname() == "":
		return Location{}, fmt.Errorf("must have a host, such as %s://127.0.0.1:6379", scheme)
	case ipErr != nil && !hostRule.MatchString(u.Hostname()):
		return Location{}, errors.New("must have a host that is a name or an IP address, IPv6 in brackets")
	case !validPort(port):
		return Location{}, errors.New("must have a port of 1 to 65535")
	case !databaseRule.MatchString(database):
		return Location{}, fmt.Errorf("must have nothing but the number of a database after the host, such as %s://127.0.0.1:6379/0", scheme)
	}
	l := newLocation(u, database)
	l.Hosts = []string{net.JoinHostPort(u.Hostname(), port)}
	l.TLS = scheme == "rediss"
	return l, nil
}

// parseSocket reads the URL of one Redis on a Unix socket.
func parseSocket(text string) (Location, error) {
	u, err := parsePlain("unix", text, false)
	if err != nil {
		return Location{}, err
	}
	if u.Host != "" || strings.Trim(u.Path, "/") == "" {
		return Location{}, errors.New("must be unix:///PATH with three slashes, such as unix:///run/redis/redis.sock")
	}
	_, query, hasQuery := strings.Cut(text, "?")
	database, isDatabase := strings.CutPrefix(query, "db=")
	if hasQuery && (!isDatabase || database == "" || !databaseRule.MatchString(database)) {
		return Location{}, errors.New("must have no option but the number of a database, such as unix:///run/redis/redis.sock?db=1")
	}
	l := newLocation(u, database)
	l.Unix = u.Path
	return l, nil
}

// parsePlain reads a URL with at most one host, which net/url can read.
func parsePlain(scheme, text string, hasOptions bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "#"):
		return nil, errFragment
	case hasOptions:
		return nil, errOptions
	case err != nil: // the error of net/url shows the URL
		return nil, errors.New("is not a URL; the port must be a number, and " + errEncode)
	case u.Opaque != "" || !strings.HasPrefix(text, scheme+"://"):
		return nil, fmt.Errorf(errSlashes, scheme)
	}
	return u, nil
}

// parseHosts reads the URL of a cluster or of Sentinels. net/url refuses a list of hosts
// with ports, so it only reads the user and the password.
func parseHosts(scheme, text string) (Location, error) {
	rest, hasSlashes := strings.CutPrefix(text, scheme+"://")
	authority, path, _ := strings.Cut(rest, "/")
	user, list := "", authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, list = authority[:at+1], authority[at+1:]
	}
	cluster := strings.HasSuffix(scheme, "+cluster")
	example := scheme + exampleMaster
	if cluster {
		example = scheme + exampleCluster
	}
	u, err := url.Parse("redis://" + user + "h")
	switch {
	case !hasSlashes:
		return Location{}, fmt.Errorf(errSlashes, scheme)
	case strings.Contains(rest, "#"):
		return Location{}, errFragment
	case strings.Contains(rest, "?"):
		return Location{}, errOptions
	case err != nil || strings.Contains(path, "@"):
		return Location{}, errors.New("is not a URL; " + errEncode)
	case list == "":
		return Location{}, errors.New("must have hosts, such as " + example)
	}
	hosts := strings.Split(list, ",")
	for i, h := range hosts {
		if fault := checkHost(h); fault != "" {
			return Location{}, fmt.Errorf("host %d of %d %s; write HOST:PORT for each, such as %s", i+1, len(hosts), fault, example)
		}
	}
	master, database, _ := strings.Cut(path, "/")
	switch {
	case cluster && path != "":
		return Location{}, errors.New("must end after the hosts, such as " + example + "; a cluster has no name and no databases")
	case cluster:
	case master == "":
		return Location{}, errors.New("must have the name of the master after the hosts, as the Sentinels know it, such as " + example)
	case !masterRule.MatchString(master):
		return Location{}, errors.New("must have a name of 1 to 64 letters, digits, _ . and - after the hosts, such as " + example)
	case !databaseRule.MatchString(database):
		return Location{}, errors.New("must have nothing but the number of a database after the name, such as " + example + "/0")
	}
	l := newLocation(u, database)
	l.Hosts, l.Cluster, l.Master = hosts, cluster, master
	l.TLS = strings.HasPrefix(scheme, "rediss+")
	return l, nil
}

// checkHost says what is wrong with one HOST:PORT of a list; empty: nothing.
func checkHost(text string) (fault string) {
	host, port, err := net.SplitHostPort(text)
	_, ipErr := netip.ParseAddr(host)
	switch {
	case text == "":
		return "is empty"
	case !strings.Contains(text, ":") || strings.HasSuffix(text, "]"):
		return "has no port"
	case err != nil || ipErr != nil && !hostRule.MatchString(host):
		return "must be a name or an IP address, IPv6 in brackets, with a port"
	case !validPort(port):
		return "must have a port of 1 to 65535"
	}
	return ""
}

// validPort reports whether text is a port that can be dialled, in its only spelling.
func validPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 && text == strconv.FormatUint(n, 10)
}

// newLocation returns what a URL says of the login, and a database that databaseRule has
// let through.
func newLocation(u *url.URL, database string) Location {
	l := Location{Username: u.User.Username()}
	l.Password, _ = u.User.Password()
	l.Database, _ = strconv.Atoi(database) // 0 if it is empty
	return l
}
