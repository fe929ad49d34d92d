package credential

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"metergate/proxy/apikeys"
)

// Sources say where requests may bring a credential, in addition to a token in the Authorization
// header. The zero value: nowhere.
type Sources struct {
	// APIKeys: the Authorization header may have an API key in place of a token, and so may
	// X-API-Key.
	APIKeys bool
	// Cookie is the name of the cookie that may have a token; empty: none. Origins are those that
	// requests with the cookie may come from, see CheckOrigin.
	Cookie  string
	Origins []string
	// QueryParam is the parameter of the query that may have a token, on the routes for which the
	// caller says so; empty: none.
	QueryParam string
}

// A Place is where in a request its credential is.
type Place int

// The places.
const (
	InHeader Place = iota
	InQuery
	InCookie
)

// Found is a credential of a request. Nobody has judged it yet.
type Found struct {
	Text  string
	IsKey bool // it is an API key and not a token
	Place Place
}

// Faults of the request.
var (
	errSeveralKeys       = &Error{"invalid_request", "there must be one X-API-Key header, not several"}
	errTwoCredentials    = &Error{"invalid_request", "the Authorization and X-API-Key headers must not have different keys or tokens"}
	errSeveralParameters = &Error{"invalid_request", "the query must have one token, not several"}
	errBadParameter      = &Error{"invalid_request", "the token in the query is not URL-encoded correctly"}
	errHeaderAndQuery    = &Error{"invalid_request", "there must be a token in the header or in the query, not in both"}
	errSeveralCookies    = &Error{"invalid_request", "there must be one cookie with the token, not several"}
)

// apiKeyHeader may have an API key.
const apiKeyHeader = "X-Api-Key"

// Find returns the credential of a request. inQuery says that it may be in the query. What a
// program has put into a header or the query wins over a cookie, which browsers send by themselves.
// Otherwise a request with two credentials is refused: the upstream might believe the other one.
// Errors are *Error.
func (s *Sources) Find(r *http.Request, inQuery bool) (Found, error) {
	token, err := BearerToken(r.Header)
	found := Found{Text: token}
	if s.APIKeys {
		found, err = addKey(found, err, r.Header)
	}
	if s.QueryParam != "" && inQuery {
		found, err = s.addParameter(found, err, r.URL.RawQuery)
	}
	if s.Cookie != "" && err == errNoToken {
		return s.findCookie(r.Header)
	}
	return found, err
}

// addKey adds what X-API-Key has to what the Authorization header has. A value that is no key of
// the gateway is the upstream's business.
func addKey(found Found, err error, h http.Header) (Found, error) {
	found.IsKey = apikeys.IsKey(found.Text)
	values := h[apiKeyHeader]
	if !slices.ContainsFunc(values, apikeys.IsKey) {
		return found, err
	}
	switch {
	case len(values) > 1:
		return Found{}, errSeveralKeys
	case err == nil && found.Text != values[0]:
		return Found{}, errTwoCredentials
	case err != nil && err != errNoToken:
		return Found{}, err
	}
	return Found{Text: values[0], IsKey: true}, nil
}

func (s *Sources) addParameter(found Found, err error, query string) (Found, error) {
	token, n, wellFormed := parameter(query, s.QueryParam)
	switch {
	case n == 0 || err != nil && err != errNoToken:
		return found, err
	case err == nil:
		return Found{}, errHeaderAndQuery
	case n > 1:
		return Found{}, errSeveralParameters
	case !wellFormed:
		return Found{}, errBadParameter
	case token == "":
		return Found{}, errNoToken
	}
	return Found{Text: token, Place: InQuery}, nil
}

func (s *Sources) findCookie(h http.Header) (found Found, err error) {
	n := 0
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if name, value, _ := strings.Cut(pair, "="); strings.Trim(name, " \t") == s.Cookie {
				n++
				found = Found{Text: unquoted(strings.Trim(value, " \t")), Place: InCookie}
			}
		}
	}
	switch {
	case n > 1:
		return Found{}, errSeveralCookies
	case found.Text == "":
		return Found{}, errNoToken
	}
	return found, nil
}

// unquoted returns the value of a cookie without the pair of quotes that it may be in (RFC 6265,
// section 4.1.1).
func unquoted(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// parameter returns the value of a parameter of a query, how often the query has it, and whether
// its value is URL-encoded correctly.
func parameter(query, name string) (value string, n int, wellFormed bool) {
	for pair := range strings.SplitSeq(query, "&") {
		if isParameter(pair, name) {
			n++
			_, raw, _ := strings.Cut(pair, "=")
			var err error
			value, err = url.QueryUnescape(raw)
			wellFormed = err == nil
		}
	}
	return value, n, wellFormed
}

func isParameter(pair, name string) bool {
	raw, _, _ := strings.Cut(pair, "=")
	decoded, err := url.QueryUnescape(raw)
	return err == nil && decoded == name
}

// HasParameter reports whether a query has the parameter that may have a token.
func (s *Sources) HasParameter(query string) bool {
	if s.QueryParam == "" || query == "" {
		return false
	}
	_, n, _ := parameter(query, s.QueryParam)
	return n > 0
}

// RemoveParameter returns a query without the parameter that may have a token. Everything else
// stays as it is.
func (s *Sources) RemoveParameter(query string) string {
	if !s.HasParameter(query) {
		return query
	}
	pairs := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool { return isParameter(pair, s.QueryParam) })
	return strings.Join(pairs, "&")
}

// RemoveKey removes X-API-Key and Authorization from a request's headers if they have a key of the
// gateway.
func (s *Sources) RemoveKey(h http.Header) {
	if !s.APIKeys {
		return
	}
	if slices.ContainsFunc(h[apiKeyHeader], apikeys.IsKey) {
		delete(h, apiKeyHeader)
	}
	if token, err := BearerToken(h); err == nil && apikeys.IsKey(token) {
		delete(h, "Authorization")
	}
}

// RemoveCookie removes the cookie that may have a token from a request's headers, and no other one.
func (s *Sources) RemoveCookie(h http.Header) {
	if s.Cookie == "" {
		return
	}
	var lines []string
	for _, line := range h["Cookie"] {
		pairs := slices.DeleteFunc(strings.Split(line, ";"), func(pair string) bool {
			name, _, _ := strings.Cut(pair, "=")
			return strings.Trim(name, " \t") == s.Cookie
		})
		if line = strings.TrimLeft(strings.Join(pairs, ";"), " \t"); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = lines
}

// RemoveFromReferer removes the parameter that may have a token from the address of the page that
// a request comes from.
func (s *Sources) RemoveFromReferer(h http.Header) {
	if s.QueryParam == "" {
		return
	}
	for i, referer := range h["Referer"] {
		address, query, found := strings.Cut(referer, "?")
		if rest := s.RemoveParameter(query); found && rest != query {
			h["Referer"][i] = strings.TrimSuffix(address+"?"+rest, "?")
		}
	}
}

// A CrossSiteError says that a request brings its token in the cookie, and that another site may
// have made the browser send it.
type CrossSiteError struct {
	// From is what the browser says of where the request comes from, for the log.
	From string
}

func (e *CrossSiteError) Error() string {
	return "a request with the cookie must come from one of auth.cookie.origins: " + e.From
}

// CheckOrigin checks that a request with the cookie comes from one of the origins. Browsers send
// cookies whoever makes them send a request, and say truthfully which origin that is. Errors are
// *CrossSiteError.
func (s *Sources) CheckOrigin(h http.Header) error {
	origins := h["Origin"]
	switch site := h.Get("Sec-Fetch-Site"); {
	case len(origins) == 1 && slices.Contains(s.Origins, origins[0]):
		return nil
	case len(origins) > 0:
		return &CrossSiteError{"its Origin is " + strings.Join(origins, ", ")}
	case site == "same-origin":
		return nil
	case site != "":
		return &CrossSiteError{"it has no Origin, and its Sec-Fetch-Site is " + site}
	}
	return &CrossSiteError{"it has neither Origin nor Sec-Fetch-Site"}
}
