package config

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func (c *checker) routes() {
	if !c.usable("routes") {
		return
	}
	if len(c.cfg.Routes) == 0 {
		c.src.at("routes", "must have at least one route")
	}
	mux := http.NewServeMux()
	var registered []int
	same := map[string]int{} // the route of a pattern
	for i := range c.cfg.Routes {
		r := &c.cfg.Routes[i]
		path := index("routes", i)
		r.Line = c.src.line(path)
		c.routeChoices(path, r)
		if up := path + ".upstream"; c.usable(up, "upstreams") {
			u, ok := c.cfg.Upstreams[r.Upstream]
			if !ok {
				c.src.at(up, "there is no such upstream%s; the upstreams are %s", c.src.got(up), listed(slices.Sorted(maps.Keys(c.cfg.Upstreams))))
			}
			if !c.src.given(path + ".timeout") {
				r.Timeout = u.Timeout
			}
			if !c.src.given(path + ".max_body") {
				r.MaxBody = u.MaxBody
			}
		}
		match := path + ".match"
		if !c.usable(match) {
			continue
		}
		if err := checkPattern(r.Match); err != nil {
			c.src.at(match, "%v%s", err, c.src.got(match))
			continue
		}
		if strip := path + ".strip_prefix"; c.usable(strip) && !beginsWith(r.Match, r.StripPrefix) {
			c.src.at(strip, "must be the beginning of the path that match has, in whole segments without wildcards%s", c.src.got(strip))
		}
		if j, ok := same[r.Match]; ok {
			c.src.at(match, "is the same pattern as %s", c.other(j))
			continue
		}
		if register(mux, r.Match) == nil {
			registered = append(registered, i)
			same[r.Match] = i
			continue
		}
		// The mux says only in prose which one it conflicts with.
		j := slices.IndexFunc(registered, func(j int) bool {
			pair := http.NewServeMux()
			return register(pair, c.cfg.Routes[j].Match) == nil && register(pair, r.Match) != nil
		})
		c.src.at(match, "conflicts with %s: some requests match both, and neither is more specific%s",
			c.other(registered[max(0, j)]), c.src.got(match))
	}
}

// routeChoices sees to what excludes each other in a route.
func (c *checker) routeChoices(path string, r *Route) {
	if r.Public && r.Endpoint != "" {
		c.src.at(path+".auth", "none is only for a route without an endpoint: who is counted needs a token")
	}
	if r.Upgrade && r.Endpoint != "" {
		c.src.at(path+".upgrade", "allow is only for a route without an endpoint: nothing is counted after a change of protocols")
	}
	if r.Observe && r.Endpoint == "" && !c.src.failed[path+".endpoint"] {
		c.src.at(path+".mode", "observe is only for a route with an endpoint: without one nothing is limited")
	}
	user, plan := path+".user_header", path+".plan_header"
	for _, header := range []string{user, plan} {
		if r.Public && c.usable(header) {
			c.src.at(header, "is only for a route with auth: jwt; without a token there is no user")
		}
	}
	if c.usable(user, plan) && r.UserHeader == r.PlanHeader {
		c.src.at(plan, "must be another field than user_header%s", c.src.got(plan))
	}
}

// beginsWith reports whether the path of a pattern begins with the segments of
// prefix, a path without a slash at its end.
func beginsWith(pattern, prefix string) bool {
	segments := strings.Split(pattern[strings.IndexByte(pattern, '/')+1:], "/")
	for i, p := range strings.Split(prefix[1:], "/") {
		if i >= len(segments) || strings.Contains(segments[i], "{") {
			return false
		}
		// As the mux compares them.
		segment, _ := url.PathUnescape(segments[i])
		if literal, _ := url.PathUnescape(p); segment != literal {
			return false
		}
	}
	return true
}

// other names route j in a message.
func (c *checker) other(j int) string {
	match := index("routes", j) + ".match"
	return fmt.Sprintf("%s of %s on line %d", c.src.places[match].text, index("routes", j), c.src.line(match))
}

// register adds a pattern. The mux panics when it is bad or conflicts.
func register(mux *http.ServeMux, pattern string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return nil
}

var (
	methodRule  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // a token of RFC 9110
	patternHost = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
)

// checkPattern says why a pattern can be no route's. What the mux would accept
// but no request could ever reach is an error too: the gateway routes only
// canonical paths.
func checkPattern(pattern string) error {
	rest := pattern
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		if err := checkMethod(pattern[:i]); err != nil {
			return err
		}
		rest = strings.TrimLeft(pattern[i:], " \t")
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return errors.New(`must contain a path, such as "GET /api/items"`)
	}
	host, path := rest[:slash], rest[slash:]
	if host != "" && (!patternHost.MatchString(host) || len(host) > 253) {
		return errors.New("must have a host in lower case, without a port and a dot at its end, or none: what is before the first / of the path is a host")
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		if strings.Contains(s, "{") || s == "" && last {
			continue
		}
		if err := checkSegment(s); err != nil {
			return err
		}
	}
	if first, _ := url.PathUnescape(segments[0]); first == "usage" {
		return errors.New("/usage and all below belongs to the gateway")
	}
	if err := register(http.NewServeMux(), pattern); err != nil {
		message := err.Error() // parsing "...": at offset 5: bad wildcard ...
		return fmt.Errorf("is not a pattern of http.ServeMux:%s", message[strings.LastIndex(message, ": ")+1:])
	}
	return nil
}

func checkMethod(method string) error {
	switch upper := strings.ToUpper(method); {
	case !methodRule.MatchString(method):
		return errors.New(`must begin with a method such as GET, or with a host or path: "GET /api/items"`)
	case method != upper && slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, upper):
		return fmt.Errorf("must have its method in upper case, %s: methods are case-sensitive", upper)
	case upper == http.MethodConnect || upper == http.MethodTrace:
		return fmt.Errorf("%s cannot be routed", upper)
	}
	return nil
}

// checkSegment checks a literal segment of a path.
func checkSegment(s string) error {
	literal, err := url.PathUnescape(s)
	// A Java server cuts a segment off there, and so finds /../ in /..;x/.
	beforeSemicolon, _, _ := strings.Cut(literal, ";")
	switch {
	case err != nil:
		return errors.New("must have two hexadecimal digits after each % of its path; % itself is %25")
	case isDots(literal):
		return errors.New("must have a path without //, /./ and /../: no request could reach it")
	case isDots(beforeSemicolon):
		return errors.New("must have a path without dot segments and empty ones before a ; (/..;x/): no request could reach it")
	case !utf8.ValidString(literal):
		return errors.New("must have a path in UTF-8, also in its escapes (ö is %C3%B6): no request could reach it")
	case strings.ContainsAny(literal, `/\`):
		return errors.New(`must have a path without \ and encoded slashes (%2F): no request could reach it`)
	case strings.ContainsFunc(literal, unicode.IsControl):
		return errors.New("must have a path without control characters: no request could reach it")
	case strings.ContainsAny(s, "?# \t"):
		return errors.New("must have a path without a query, a fragment and blanks (write a blank as %20)")
	}
	return nil
}

func isDots(segment string) bool { return segment == "" || segment == "." || segment == ".." }

// checkPath checks a path that is used as it stands: like a route's, without
// wildcards, and in the form that the gateway gives the paths of requests.
func checkPath(text string) error {
	if !strings.HasPrefix(text, "/") {
		return errors.New("must begin with a slash")
	}
	segments := strings.Split(text[1:], "/")
	for i, s := range segments {
		if s == "" && i == len(segments)-1 {
			continue
		}
		if err := checkSegment(s); err != nil {
			return err
		}
	}
	if !isCanonical(text) {
		return errors.New("must have escapes where they are needed and only there, in upper case (ö as %C3%B6, ~ as it is)")
	}
	return nil
}

// isCanonical reports whether a path with good escapes stands as RFC 3986, section
// 6.2.2, has it.
func isCanonical(path string) bool {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			if !unreserved(path[i]) && strings.IndexByte("/!$&'()*+,;=:@[]", path[i]) < 0 {
				return false
			}
			continue
		}
		escape := path[i+1 : i+3]
		c, _ := strconv.ParseUint(escape, 16, 8)
		if escape != strings.ToUpper(escape) || unreserved(byte(c)) {
			return false
		}
		i += 2
	}
	return true
}

// unreserved are the characters of RFC 3986, section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
