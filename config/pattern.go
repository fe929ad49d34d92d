package config

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"metergate/proxy/urlpath"
)

var methodRule = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // a token of RFC 9110

// checkPattern says why a route cannot have a pattern. A pattern that http.ServeMux
// accepts is refused when no request can ever match it.
func checkPattern(pattern string) error {
	rest := pattern
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		if err := checkMethod(pattern[:i]); err != nil {
			return err
		}
		rest = strings.TrimLeft(pattern[i:], " \t")
	}
	if !strings.Contains(rest, "/") {
		return errors.New(`must contain a path, such as "GET /api/items"`)
	}
	_, host, path := urlpath.SplitPattern(pattern)
	if host != "" && (!urlpath.IsHostName(host) || host != strings.ToLower(host)) {
		return errors.New("must have a host in lower case without a port or a final dot, or no host; everything before the first / of the path is the host")
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
	if urlpath.DecodeSegment(segments[0]) == "usage" {
		return errors.New("must not be /usage or below it; these paths belong to the gateway")
	}
	if err := urlpath.RegisterPattern(http.NewServeMux(), pattern); err != nil {
		message := err.Error() // parsing "...": at offset 5: bad wildcard ...
		return fmt.Errorf("must be a pattern of http.ServeMux:%s", message[strings.LastIndex(message, ": ")+1:])
	}
	return nil
}

func checkMethod(method string) error {
	switch upper := strings.ToUpper(method); {
	case !methodRule.MatchString(method):
		return errors.New(`must begin with a method such as GET, a host or a path: "GET /api/items"`)
	case method != upper && slices.Contains(usualMethods, upper):
		return fmt.Errorf("must have its method in upper case, %s: methods are case-sensitive", upper)
	case upper == http.MethodConnect || upper == http.MethodTrace:
		return fmt.Errorf("must have another method: %s cannot be routed", upper)
	}
	return nil
}

// Warnings names what is valid and probably not meant: a pattern whose method is close to a
// usual one, such as POSTT, one whose first segment was taken for a host, such as "POST
// api/items", a cost that no user of a plan can pay, short tokens of the admin API, shared
// limits that can apply to nobody, claims that no plan uses, and a collector's port for gRPC.
func (c *Config) Warnings() (warnings []string) {
	warn := func(i int, format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("routes[%d].match (line %d): %s", i, c.Routes[i].Line, fmt.Sprintf(format, args...)))
	}
	for i, r := range c.Routes {
		method, host, path := urlpath.SplitPattern(r.Match)
		if method != "" && !slices.Contains(usualMethods, method) {
			if meant := suggest(method, lowerCase(usualMethods)); meant != "" {
				warn(i, "the method %s is unusual; did you mean %s?", method, strings.ToUpper(meant))
			}
		}
		if host != "" && host != "localhost" && !strings.Contains(host, ".") {
			warn(i, "matches only requests to the host %q; did you mean %q?", host, strings.TrimSpace(method+" /"+host+path))
		}
	}
	warnings = append(warnings, c.costWarnings()...)
	for _, token := range []struct {
		key   string
		value Secret
	}{{"admin.token", c.Admin.Token}, {"admin.viewer_token", c.Admin.ViewerToken}} {
		if n := len(token.value); n > 0 && n < safeTokenBytes {
			warnings = append(warnings, fmt.Sprintf("%s: has %d bytes, and may be guessed; make one that cannot with: openssl rand -hex 32", token.key, n))
		}
	}
	return slices.Concat(warnings, c.claimWarnings(), c.authWarnings(), c.tracingWarnings(), c.socketWarnings())
}

// claimWarnings names claims that no plan uses, and limits that need a claim which is not named.
func (c *Config) claimWarnings() (warnings []string) {
	shares, anchors := false, false
	for _, name := range slices.Sorted(maps.Keys(c.Plans)) {
		p := c.Plans[name]
		shares, anchors = shares || len(p.Shared) > 0, anchors || p.Anchor == "claim"
		if len(p.Shared) > 0 && !c.Auth.HasOrganisations() {
			warnings = append(warnings, fmt.Sprintf("plans.%s.shared: applies to nobody, because auth.jwt.claims.org does not say which claim names a user's organisation", name))
		}
	}
	for i, jwt := range c.Auth.JWT {
		if jwt.Claims.Org != "" && !shares {
			warnings = append(warnings, c.Auth.PathOf(i)+".claims.org: the members of an organisation share nothing, because no plan has shared limits; "+
				"each user just has counts of their own in each organisation")
		}
		if jwt.Claims.Anchor != "" && !anchors {
			warnings = append(warnings, c.Auth.PathOf(i)+".claims.anchor: is not read, because no plan has anchor: claim; add that to the plans whose months begin on the day in the token")
		}
	}
	return warnings
}

var usualMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func lowerCase(words []string) []string {
	lower := make([]string, len(words))
	for i, word := range words {
		lower[i] = strings.ToLower(word)
	}
	return lower
}

// checkSegment checks a literal segment of a path.
func checkSegment(s string) error {
	if _, err := url.PathUnescape(s); err != nil {
		return errors.New("must have two hexadecimal digits after each % of its path; write a % itself as %25")
	}
	if err := urlpath.CheckSegment(s); err != nil {
		return fmt.Errorf("must be a path that the gateway accepts in requests: %w", err)
	}
	if strings.ContainsAny(s, "?# \t") {
		return errors.New("must have a path without a query, a fragment or blanks (write a space as %20)")
	}
	return nil
}

// checkPath checks a path without wildcards that is used as it stands. It must have the
// form that the gateway gives to the paths of requests.
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
	if canonical, _ := urlpath.Canonicalize(text); canonical != text {
		return errors.New("must have escapes where they are needed and only there, in upper case (ö as %C3%B6, ~ as it is)")
	}
	return nil
}
