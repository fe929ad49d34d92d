package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a time zone must not depend on what the machine has installed

	"gopkg.in/yaml.v3"

	"metergate/proxy/jwtauth/jwtrules"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	levelType    = reflect.TypeFor[slog.Level]()
	locationType = reflect.TypeFor[*time.Location]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	urlType      = reflect.TypeFor[*url.URL]()
)

// convert sets v from the text of a scalar, by the rules of the tag as or else of
// v's type. Its errors say what the value must be, and do not show it.
func convert(n *yaml.Node, v reflect.Value, tag reflect.StructTag) error {
	var value any
	var err error
	text := n.Value
	switch as := tag.Get("as"); {
	case as == "size":
		value, err = parseSize(text)
	case v.Type() == durationType:
		value, err = parseDuration(text)
	case v.Type() == levelType:
		value, err = parseLevel(text)
	case v.Type() == locationType:
		value, err = parseZone(text)
	case v.Type() == prefixType:
		value, err = parseNetwork(text)
	case v.Type() == urlType:
		value, err = parseTarget(text)
	case v.Kind() == reflect.Bool && tag.Get("oneof") != "":
		no, yes, _ := strings.Cut(tag.Get("oneof"), ", ")
		value, err = text == yes, oneOf(text, no, yes)
	case v.Kind() == reflect.Bool:
		if n.ShortTag() != "!!bool" {
			return errors.New("must be true or false")
		}
		return n.Decode(v.Addr().Interface())
	case v.Kind() == reflect.Float64:
		// To YAML, 1e-1 and .inf are numbers, too.
		number, err := strconv.ParseFloat(text, 64)
		if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" || err != nil || strings.Trim(text, "-.0123456789") != "" {
			return errors.New("must be a number, written in decimal")
		}
		v.SetFloat(number)
		return nil
	case v.Kind() == reflect.Int || v.Kind() == reflect.Int64:
		// To YAML, 0100 is 64.
		number, err := parseDecimal(text, v.Type().Bits())
		if n.ShortTag() != "!!int" || err != nil {
			return errors.New("must be a whole number, written in decimal")
		}
		v.SetInt(number)
		return nil
	default:
		if list, ok := tag.Lookup("oneof"); ok {
			if err := oneOf(text, strings.Split(list, ", ")...); err != nil {
				return err
			}
		}
		v.SetString(text)
		if as == "header" {
			v.SetString(http.CanonicalHeaderKey(text))
		}
		return checkText(text, as)
	}
	if err == nil {
		v.Set(reflect.ValueOf(value))
	}
	return err
}

func oneOf(text string, allowed ...string) error {
	if slices.Contains(allowed, text) {
		return nil
	}
	last := len(allowed) - 1
	return fmt.Errorf("must be %s or %s", strings.Join(allowed[:last], ", "), allowed[last])
}

var (
	nameRule     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	endpointRule = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	prefixRule   = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
	hostRule     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
	schemeRule   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
)

// checkText checks a text by the rules that the tag as names.
func checkText(text, as string) error {
	switch as {
	case "address":
		return checkAddress(text)
	case "algorithm":
		return oneOf(text, jwtrules.Algorithms()...)
	case "claim":
		_, err := jwtrules.ParseClaimPath(text)
		return err
	case "endpoint":
		if !endpointRule.MatchString(text) {
			return errors.New("must have 1 to 64 of a-z, 0-9 and -")
		}
	case "file":
		if text == "" {
			return errors.New("must be the name of a file")
		}
	case "folder":
		if text == "" {
			return errors.New("must be the name of a folder")
		}
	case "header":
		return checkHeader(text)
	case "host":
		return checkHost(text)
	case "jwks":
		if text == "" {
			return nil // none
		}
		return checkJWKS(text)
	case "mediatype":
		if text != "" {
			return jwtrules.CheckType(text)
		}
	case "origin":
		return checkOrigin(text)
	case "path":
		return checkPath(text)
	case "prefix":
		if !prefixRule.MatchString(text) {
			return errors.New("must have 1 to 64 letters, digits and any of _ . : -")
		}
	case "servername":
		if _, err := netip.ParseAddr(text); err != nil && !hostRule.MatchString(text) {
			return errors.New("must be a name or an IP address, without a port")
		}
	case "strip":
		switch {
		case strings.Contains(text, "{"):
			return errors.New("must not have wildcards")
		case strings.HasSuffix(text, "/"):
			return errors.New("must not end with a slash; /api stands for all below /api/ too")
		}
		return checkPath(text)
	case "url":
		if text == "" {
			return nil // off
		}
		_, err := parseHTTP(text)
		return err
	}
	return nil
}

// parseDuration reads what time.ParseDuration does, after a number of days.
func parseDuration(text string) (time.Duration, error) {
	errSyntax := errors.New("must be a duration such as 250ms, 90s, 1h30m or 400d")
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, errors.New("must have a unit: ms, s, m, h or d (90s, 400d)")
	}
	var days int64
	if before, after, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(before, 10, 31)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return 0, errSyntax
		}
		if days = int64(n); after == "" {
			return time.Duration(days) * 24 * time.Hour, nil
		}
		text = after
		if !(text[0] >= '0' && text[0] <= '9') {
			return 0, errSyntax
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > 0 && time.Duration(days)*24*time.Hour > math.MaxInt64-d {
		return 0, errSyntax
	}
	return time.Duration(days)*24*time.Hour + d, nil
}

// parseDecimal reads a number that can be written in this way only.
func parseDecimal(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 10, bits)
	if err == nil && text != strconv.FormatInt(n, 10) {
		err = strconv.ErrSyntax
	}
	return n, err
}

// parseSize reads a number of bytes.
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGiB")
	unit, ok := map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[text[len(digits):]]
	n, err := parseDecimal(strings.TrimSpace(digits), 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errors.New("must be a number of bytes in decimal, or one with KB, MB, GB, KiB, MiB or GiB")
	}
	return n * unit, nil
}

func parseLevel(text string) (slog.Level, error) {
	// slog's own parser accepts INFO+2 too, which no manual of ours explains.
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return levels[text], oneOf(text, "debug", "info", "warn", "error")
}

func parseZone(text string) (*time.Location, error) {
	if text == "Local" {
		return nil, errors.New("must not be Local, which differs between machines; name the zone, such as Europe/Berlin")
	}
	loc, err := time.LoadLocation(text)
	if err != nil {
		return nil, errors.New("must be UTC or the name of an IANA time zone, such as Europe/Berlin")
	}
	return loc, nil
}

// parseNetwork reads a network, or an address as a network of its own.
func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
		if a.Zone() != "" {
			return p, errors.New("must not have a zone (%...)")
		}
	}
	switch {
	case err != nil:
		return p, errors.New("must be a network such as 10.0.0.0/8 or 2001:db8::/32, or an IP address")
	case p.Addr().Is4In6():
		return p, errors.New("must be written as IPv4, such as 10.0.0.0/8")
	case p.Bits() == 0:
		return p, errors.New("must not be everybody: they could all choose the address that they are taken for; list the networks of your proxies")
	case p != p.Masked():
		return p, fmt.Errorf("must be %s if the network is meant, or without its / and what follows if the address is", p.Masked())
	}
	return p, nil
}

func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("must be HOST:PORT or :PORT")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostRule.MatchString(host) {
		return errors.New("must be HOST:PORT with a name or an IP address as its HOST")
	}
	if !isPort(port) {
		return errors.New("must be HOST:PORT with a number of 0 to 65535 as its PORT")
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && text == strconv.FormatUint(n, 10)
}

// checkHost checks what is sent as the Host of a request.
func checkHost(text string) error {
	if text == HostTarget || text == HostClient {
		return nil
	}
	host, port := text, "1"
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, ']') {
		host, port = text[:i], text[i+1:]
	} else if meant := suggest(text, []string{HostTarget, HostClient}); meant != "" {
		return fmt.Errorf("did you mean %s? A host with a name like that must be written with its port", meant)
	}
	good := hostRule.MatchString(host)
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		ip, err := netip.ParseAddr(host[1 : len(host)-1])
		good = err == nil && ip.Is6() && ip.Zone() == ""
	}
	switch {
	case !good || strings.Trim(port, "0123456789") != "":
		return errors.New("must be target, client, or a name or IP address with or without a port, such as api.internal:8080; IPv6 in brackets")
	case !isPort(port) || port == "0":
		return errors.New("must have a port of 1 to 65535, or none")
	}
	return nil
}

var headerRule = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// takenFields mean something to HTTP, to proxies or to the gateway itself.
var takenFields = []string{
	// Of one connection: RFC 9110, section 7.6.1.
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"Proxy-Authenticate", "Proxy-Authorization", "Authorization", "Cookie", "Expect", "Forwarded", "Host", "Via",
	"X-Request-Id", "X-Real-Ip", "Traceparent", "Tracestate",
}

func checkHeader(text string) error {
	// An underscore would be allowed. But CGI, WSGI and their kin take X_User for
	// X-User, and others drop such fields.
	if !headerRule.MatchString(text) {
		return errors.New("must be the name of a header field, 1 to 64 letters, digits and -, such as X-User")
	}
	name := http.CanonicalHeaderKey(text)
	if slices.Contains(takenFields, name) || strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "X-Forwarded-") {
		return errors.New("must not be a field that has a meaning of its own; take another one, such as X-User")
	}
	return nil
}

// checkOrigin: browsers send scheme://host[:port] and nothing more.
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
	if !hostRule.MatchString(host) {
		return err
	}
	return nil
}

// parseHTTP reads an absolute http or https URL. Errors do not show it: it may
// hold a password.
func parseHTTP(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("must be a URL such as https://example.com/path")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must be a URL that begins with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("must be a URL with a host, such as http://127.0.0.1:9000")
	case u.Port() != "" && (!isPort(u.Port()) || u.Port() == "0"):
		return nil, errors.New("must be a URL with a port of 1 to 65535")
	}
	return u, nil
}

// checkJWKS checks where keys come from: who can change them on the way can sign.
func checkJWKS(text string) error {
	u, err := parseHTTP(text)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch here := u.Hostname() == "localhost" || err == nil && ip.IsLoopback(); {
	case u.Scheme == "http" && !here:
		return errors.New("must be https; http is only for this machine (localhost, 127.0.0.1, [::1])")
	case u.User != nil:
		return errors.New("must not have a user or a password")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("must not have a fragment (#)")
	}
	return nil
}

func parseTarget(text string) (*url.URL, error) {
	u, err := parseHTTP(text)
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
