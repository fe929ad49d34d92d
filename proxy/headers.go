package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"metergate/quota"
)

// The fields that say what is left. RateLimit and RateLimit-Policy are those of
// draft-ietf-httpapi-ratelimit-headers-11, in the syntax of RFC 9651.
const (
	fieldRequestID = "X-Request-Id"
	fieldUsage     = "X-Usage"
	fieldPolicy    = "Ratelimit-Policy"
	fieldRateLimit = "Ratelimit"
	fieldLimit     = "X-Ratelimit-Limit"
	fieldRemaining = "X-Ratelimit-Remaining"
	fieldReset     = "X-Ratelimit-Reset"
	// fieldWouldBlock is a list of strings (RFC 9651): what would have refused a request
	// that is observed. It is about the request's start, and so not among usageFields, which
	// are about its end.
	fieldWouldBlock = "X-Usage-Would-Block"
)

// usageFields are what setUsageFields sets, or leaves out.
var usageFields = []string{fieldUsage, fieldPolicy, fieldRateLimit, fieldLimit, fieldRemaining, fieldReset}

// exposedFields are those that a script on another origin may read.
var exposedFields = append([]string{fieldRequestID, "Retry-After", fieldWouldBlock}, usageFields...)

// tellUsage sets the fields and remembers what they say.
func (x *exchange) tellUsage(h http.Header, s *quota.Snapshot, hit int) {
	x.told = s
	setUsageFields(h, x.route.Endpoint, s, hit)
}

// tellObserved sets the field that names what would have refused the request, for
// whatever answer it gets.
func (x *exchange) tellObserved(names []string) {
	x.wouldBlock = names
	// Names are made of a-z, 0-9 and "-": nothing in them needs quoting.
	x.w.Header().Set(fieldWouldBlock, `"`+strings.Join(names, `", "`)+`"`)
}

// setUsageFields replaces the fields in h by the state s after a request to
// endpoint. hit is the index of the limit that refused it, -1 for none.
func setUsageFields(h http.Header, endpoint string, s *quota.Snapshot, hit int) {
	clearUsageFields(h)
	p := s.Plan
	var policy, state []byte
	for i, l := range p.Limits() {
		if !l.AppliesTo(endpoint) {
			continue
		}
		if len(policy) > 0 {
			policy, state = append(policy, ", "...), append(state, ", "...)
		}
		// Names are made of a-z, 0-9 and "-": nothing in them needs quoting.
		count, limit, name := s.Limits[i], s.Allowance(i), l.Name()
		policy = append(append(append(policy, '"'), name...), `";q=`...)
		policy = strconv.AppendInt(policy, limit, 10)
		policy = strconv.AppendInt(append(policy, ";w="...), count.Window.Seconds(), 10)
		state = append(append(append(state, '"'), name...), `";r=`...)
		state = strconv.AppendInt(state, quota.Remaining(count.Used, limit), 10)
		state = strconv.AppendInt(append(state, ";t="...), count.Window.SecondsLeft(s.At), 10)
	}
	if len(policy) > 0 {
		h.Set(fieldPolicy, string(policy))
		h.Set(fieldRateLimit, string(state))
	}

	used := strconv.FormatInt(s.Total.Used, 10)
	headline, limited := p.Headline()
	if limited {
		h.Set(fieldUsage, used+"/"+strconv.FormatInt(s.Allowance(headline), 10))
	} else {
		h.Set(fieldUsage, used+"/unlimited")
	}
	if hit < 0 {
		if !limited {
			return
		}
		hit = headline
	}
	limit, count := s.Allowance(hit), s.Limits[hit]
	h.Set(fieldLimit, strconv.FormatInt(limit, 10))
	h.Set(fieldRemaining, strconv.FormatInt(quota.Remaining(count.Used, limit), 10))
	h.Set(fieldReset, strconv.FormatInt(count.Window.End.Unix(), 10))
}

// disown removes from what an upstream sent, in whatever section of a response, the
// fields that only the gateway sends.
func (x *exchange) disown(h http.Header) {
	for name := range h {
		if x.owns(name) {
			delete(h, name)
		}
	}
}

func (x *exchange) owns(field string) bool {
	switch {
	case field == fieldRequestID:
		return true
	case field == fieldUsage, field == fieldWouldBlock, strings.HasPrefix(field, "Ratelimit"), strings.HasPrefix(field, "X-Ratelimit-"):
		return x.route.Endpoint != "" // others say what the upstream likes
	}
	return x.g.cors != nil && strings.HasPrefix(field, "Access-Control-")
}

func clearUsageFields(h http.Header) {
	for _, name := range usageFields {
		h.Del(name)
	}
}

// fieldText is text as a field's value: a user's id can have characters that none may
// have, which are then percent-encoded as UTF-8, and so is the percent sign.
func fieldText(text string) string {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '%' {
			return url.PathEscape(text)
		}
	}
	return text
}
