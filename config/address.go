package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/net/publicsuffix"
)

// A ListenAddress is what a listener listens on.
type ListenAddress struct {
	Network string      // one of the constants
	Address string      // HOST:PORT, the path of a socket, or the name of one of systemd's; empty: its only one
	Mode    fs.FileMode // the permissions of a Unix socket
}

// The networks of a ListenAddress.
const (
	ListenTCP     = "tcp"
	ListenUnix    = "unix"
	ListenSystemd = "systemd"
)

// defaultSocketMode lets the user and the group of the gateway connect to its Unix socket.
const defaultSocketMode = 0o660

var (
	socketNameRule = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,255}$`)
	socketModeRule = regexp.MustCompile(`^mode=0[67][0-7]{2}$`)
)

// ParseListen reads the value of listen or admin.listen.
func ParseListen(text string) (ListenAddress, error) {
	if name, ok := strings.CutPrefix(text, "systemd:"); ok || text == ListenSystemd {
		if ok && !socketNameRule.MatchString(name) {
			return ListenAddress{}, errors.New("must be systemd, or systemd:NAME with the FileDescriptorName of a socket unit")
		}
		return ListenAddress{Network: ListenSystemd, Address: strings.TrimPrefix(name, ListenSystemd)}, nil
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return parseUnixListen(path)
	}
	return ListenAddress{Network: ListenTCP, Address: text}, checkAddress(text)
}

func parseUnixListen(path string) (ListenAddress, error) {
	path, query, found := strings.Cut(path, "?")
	a := ListenAddress{ListenUnix, path, defaultSocketMode}
	if err := checkSocketPath(path, "unix:/run/metergate/metergate.sock"); err != nil {
		return a, err
	}
	switch {
	case found && !socketModeRule.MatchString(query):
		return a, errors.New("must have nothing behind the path, or ?mode= with the permissions of the socket, such as ?mode=0660; its owner must be able to read and write")
	case found:
		mode, _ := strconv.ParseUint(strings.TrimPrefix(query, "mode="), 8, 16)
		a.Mode = fs.FileMode(mode)
	}
	return a, nil
}

func checkSocketPath(path, example string) error {
	most := len(syscall.RawSockaddrUnix{}.Path) - 1
	switch {
	case !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("must be unix: and the absolute path of a socket, such as %s", example)
	case len(path) > most:
		return fmt.Errorf("must have a path of at most %d bytes, which is what the system allows for a socket, and has %d", most, len(path))
	}
	return nil
}

// checkAddress checks an address of TCP.
func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("must be HOST:PORT or :PORT")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostRule.MatchString(host) {
		return errors.New("must be HOST:PORT with a name or an IP address as the HOST")
	}
	if !isPort(port) {
		return errors.New("must be HOST:PORT with a number of 0 to 65535 as the PORT")
	}
	return nil
}

// isPort reports whether text is a number of 0 to 65535 in its only spelling.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && text == strconv.FormatUint(n, 10)
}

// checkHost checks the Host header of requests to an upstream.
func checkHost(text string) error {
	if text == HostTarget || text == HostClient {
		return nil
	}
	host, port := text, "1"
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, ']') {
		host, port = text[:i], text[i+1:]
	} else if meant := suggest(text, []string{HostTarget, HostClient}); meant != "" {
		return fmt.Errorf("did you mean %s? Write a host of that name with its port", meant)
	}
	good := hostRule.MatchString(host)
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		ip, err := netip.ParseAddr(host[1 : len(host)-1])
		good = err == nil && ip.Is6() && ip.Zone() == ""
	}
	switch {
	case !good || strings.Trim(port, "0123456789") != "":
		return errors.New("must be target, client, or a name or IP address with or without a port, such as api.internal:8080; write IPv6 in brackets")
	case !isPort(port) || port == "0":
		return errors.New("must have a port of 1 to 65535, or none")
	}
	return nil
}

// checkOrigin checks an origin as browsers send it: scheme://host[:port] and nothing after it.
func checkOrigin(text string) error {
	if text == "*" {
		return nil
	}
	err := errors.New(`must be "*" or an origin such as https://app.example.com or http://localhost:5173, with nothing after it`)
	scheme, host, found := strings.Cut(text, "://")
	if !found || !schemeRule.MatchString(scheme) {
		return err
	}
	u := url.URL{Host: host}
	if port := u.Port(); port != "" && !isPort(port) || strings.HasSuffix(host, ":") {
		return err
	}
	if u.Port() != "" {
		host = strings.TrimSuffix(host, ":"+u.Port())
	}
	if bare, ok := strings.CutPrefix(host, "["); ok {
		if _, ipErr := netip.ParseAddr(strings.TrimSuffix(bare, "]")); ipErr != nil || !strings.HasSuffix(bare, "]") {
			return err
		}
		return nil
	}
	if strings.Contains(host, "*") {
		return checkWildcard(scheme, host)
	}
	if !hostRule.MatchString(host) {
		return err
	}
	return nil
}

// checkWildcard checks the scheme and the host of an origin with a *. Anybody can have a name below
// a public suffix, such as com, co.uk or vercel.app.
func checkWildcard(scheme, host string) error {
	parent, ok := strings.CutPrefix(strings.ToLower(host), "*.")
	if !ok || !hostRule.MatchString(parent) || !strings.EqualFold(scheme, "https") && !strings.EqualFold(scheme, "http") {
		return errors.New("may have one *, for the whole first label of an http or https name, such as https://*.example.app")
	}
	labels := strings.Split(parent, ".")
	last := labels[len(labels)-1]
	switch suffix, _ := publicsuffix.PublicSuffix(parent); {
	case slices.Contains(labels, ""), strings.Trim(last, "0123456789") == "":
		return errors.New("must have a name behind the *, such as https://*.example.app")
	case suffix == parent:
		return fmt.Errorf("must not allow every name below %s, where others have names as well; write a name of your own behind the *, such as https://*.example.app", parent)
	}
	return nil
}

var httpScheme = regexp.MustCompile(`^(?i:https?)://`)

// parseHTTP reads an absolute http or https URL. Errors do not show the URL, which may hold a
// password.
func parseHTTP(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil && httpScheme.MatchString(text):
		return nil, errors.New("must be a URL such as https://example.com/path")
	case err != nil, u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must be a URL that begins with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("must be a URL with a host, such as http://127.0.0.1:9000")
	case u.Port() != "" && (!isPort(u.Port()) || u.Port() == "0"):
		return nil, errors.New("must be a URL with a port of 1 to 65535")
	}
	return u, nil
}

// checkPrivate checks a URL that must be https: that of a key set, since anybody who can change the
// keys on their way can sign tokens, or that of a webhook, which gets the ids of users.
func checkPrivate(text string) error {
	u, err := parseHTTP(text)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch local := u.Hostname() == "localhost" || err == nil && ip.IsLoopback(); {
	case u.Scheme == "http" && !local:
		return errors.New("must be https; http is only for this machine (localhost, 127.0.0.1, [::1])")
	case u.User != nil:
		return errors.New("must not have a user or a password")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("must not have a fragment (#)")
	}
	return nil
}

// checkCollector checks the URL of a collector of spans.
func checkCollector(text string) error {
	u, err := parseHTTP(text)
	switch {
	case err != nil:
		return err
	case u.User != nil:
		return errors.New("must not have a user or a password; give the collector's token in tracing.headers")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return errors.New("must not have a query (?) or a fragment (#)")
	}
	return nil
}

// parseTarget reads the URL of a target.
func parseTarget(text string) (*url.URL, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if strings.ContainsAny(path, "?#") {
			return nil, errors.New("must not have anything behind the path of the socket, and no ? or # in it")
		}
		if rest, ok := strings.CutPrefix(path, "///"); ok { // unix:///run/api.sock
			path = "/" + rest
		} else if strings.HasPrefix(path, "//") {
			return nil, errors.New("must have one slash before the path of the socket: unix:" + path[1:])
		}
		return &url.URL{Scheme: "unix", Path: path, OmitHost: true}, checkSocketPath(path, "unix:/run/api.sock")
	}
	web, h2c := strings.CutPrefix(text, "h2c://")
	if h2c {
		text = "http://" + web
	} else if !httpScheme.MatchString(text) {
		return nil, errors.New("must be a URL that begins with http://, https:// or h2c://, or unix: and the path of a socket")
	}
	u, err := parseHTTP(text)
	if h2c && err == nil {
		u.Scheme = "h2c"
	}
	switch {
	case err != nil:
		return nil, err
	case u.User != nil:
		return nil, errors.New("must not have a user or a password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return nil, errors.New("must not have a query (?) or a fragment (#)")
	}
	return u, nil
}
