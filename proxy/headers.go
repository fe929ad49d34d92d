package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"metergate/proxy/trust"
	"metergate/proxy/upstream"
	"metergate/quota"
)

// Response headers that only the gateway sends. RateLimit and RateLimit-Policy are
// those of draft-ietf-httpapi-ratelimit-headers-11, in the syntax of RFC 9651.
const (
	headerUsage     = "X-Usage"
	headerPolicy    = "Ratelimit-Policy"
	headerRateLimit = "Ratelimit"
	headerLimit     = "X-Ratelimit-Limit"
	headerRemaining = "X-Ratelimit-Remaining"
	headerReset     = "X-Ratelimit-Reset"
	// headerWouldBlock is a list of strings (RFC 9651): the limits that would have refused
	// a request that is only observed. It describes the start of the request, and so is
	// not one of the usageHeaders, which describe its end.
	headerWouldBlock = "X-Usage-Would-Block"
	// headerCost has the units that the request was charged.
	headerCost = "X-Usage-Cost"
	// headerPending has the units that stay held until the body of the response has ended.
	headerPending = "X-Usage-Pending"
)

// headerShouldRetry is not among them: an upstream that speaks to the same SDKs may send it.
const headerShouldRetry = "X-Should-Retry"

// maxRetryWait is the longest Retry-After of a 429, in seconds, that a client is left to
// wait for. SDKs obey the header literally, and would sleep until the end of a month.
const maxRetryWait = 60

// setRetryAfter sets the Retry-After of a 429. With 0 it sets no such header, because waiting does
// not help. If the wait is long or useless, it also tells the SDKs of OpenAI and others to report
// the error at once.
func setRetryAfter(h http.Header, seconds int64) {
	if seconds > 0 {
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if seconds == 0 || seconds > maxRetryWait {
		h.Set(headerShouldRetry, "false")
	}
}

// usageHeaders are the headers that setUsageHeaders sets, or leaves out.
var usageHeaders = [...]string{headerUsage, headerPolicy, headerRateLimit, headerLimit, headerRemaining, headerReset}

// headerExpose lists the headers that a script on another origin may read.
const headerExpose = "Access-Control-Expose-Headers"

// exposedHeaders are those that a script on another origin may read.
var exposedHeaders = append([]string{trust.HeaderRequestID, "Retry-After", headerShouldRetry, headerWouldBlock, headerCost, headerPending}, usageHeaders[:]...)

// reportUsage sets the usage headers in h, and records what they say. exceeded is as
// in setUsageHeaders.
func (x *exchange) reportUsage(h http.Header, s *quota.Snapshot, exceeded int) {
	x.record.usage = s
	setUsageHeaders(h, x.route.Endpoint, s, exceeded)
}

// setWouldBlock sets the header that names the limits that would have refused the
// request, for whatever response it gets.
func (x *exchange) setWouldBlock(limits []string) {
	x.record.wouldBlock = limits
	// Names consist of a-z, 0-9 and "-": nothing in them needs quoting.
	x.w.Header().Set(headerWouldBlock, `"`+strings.Join(limits, `", "`)+`"`)
}

// setUsageHeaders replaces the usage headers in h by the state s after a request to
// endpoint. exceeded is the index of the limit that refused the request, -1 for none.
func setUsageHeaders(h http.Header, endpoint string, s *quota.Snapshot, exceeded int) {
	for _, name := range usageHeaders {
		delete(h, name)
	}
	b := headerBlock{text: make([]byte, 0, 256)}
	b.text = appendState(b.text, endpoint, s)
	b.add(headerRateLimit)
	b.text = appendPolicy(b.text, endpoint, s)
	b.add(headerPolicy)

	p := s.Plan
	headline, limited := p.Headline()
	b.text = append(strconv.AppendInt(b.text, s.Total.Used, 10), '/')
	if limited {
		b.text = strconv.AppendInt(b.text, s.Allowance(headline), 10)
	} else {
		b.text = append(b.text, "unlimited"...)
	}
	b.add(headerUsage)

	shown := exceeded
	// Many clients stop at X-RateLimit-Remaining: 0, and a soft limit refuses nobody.
	if shown < 0 && limited && !p.Limits()[headline].Soft {
		shown = headline
	}
	if shown >= 0 {
		limit, count := s.Allowance(shown), s.Limits[shown]
		b.text = strconv.AppendInt(b.text, limit, 10)
		b.add(headerLimit)
		b.text = strconv.AppendInt(b.text, quota.Remaining(count.Used, limit), 10)
		b.add(headerRemaining)
		if count.Window.Renews() {
			b.text = strconv.AppendInt(b.text, count.Window.End.Unix(), 10)
			b.add(headerReset)
		}
	}
	b.setIn(h)
}

// appendState appends the value of the RateLimit header: what is left of each limit that may refuse
// requests to endpoint.
func appendState(b []byte, endpoint string, s *quota.Snapshot) []byte {
	separator := ""
	for i, l := range s.Plan.Limits() {
		if l.Soft || !l.AppliesTo(endpoint) {
			continue
		}
		count := s.Limits[i]
		b = append(append(b, separator...), '"')
		b = append(append(b, l.Name()...), `";r=`...) // a name needs no quoting, see setWouldBlock
		b = strconv.AppendInt(b, quota.Remaining(count.Used, s.Allowance(i)), 10)
		if count.Window.Renews() {
			b = strconv.AppendInt(append(b, ";t="...), count.Window.SecondsLeft(s.At), 10)
		}
		separator = ", "
	}
	return b
}

// appendPolicy appends the value of the RateLimit-Policy header: these limits, and how many requests may
// run at once.
func appendPolicy(b []byte, endpoint string, s *quota.Snapshot) []byte {
	separator := ""
	for i, l := range s.Plan.Limits() {
		if l.Soft || !l.AppliesTo(endpoint) {
			continue
		}
		window := s.Limits[i].Window
		b = append(append(b, separator...), '"')
		b = append(append(b, l.Name()...), `";q=`...)
		b = strconv.AppendInt(b, s.Allowance(i), 10)
		if window.Renews() {
			b = strconv.AppendInt(append(b, ";w="...), window.Seconds(), 10)
		}
		if l.Quantity == quota.Units {
			b = append(b, `;qu="units"`...)
		}
		separator = ", "
	}
	if c := s.Plan.ConcurrencyLimit().Requests; c > 0 {
		b = append(append(b, separator...), `"concurrent";q=`...)
		b = append(strconv.AppendInt(b, c, 10), `;qu="concurrent-requests"`...)
	}
	return b
}

// A headerBlock makes the values of several headers with one allocation for their texts and one for
// their slices.
type headerBlock struct {
	text    []byte // of all values
	headers [len(usageHeaders)]struct {
		name string
		end  int // of its value in text
	}
	n int // headers
}

// add makes what has been appended to the text since the last call the value of a header, whose name is
// in canonical form. An empty value is left out.
func (b *headerBlock) add(name string) {
	if b.n > 0 && b.headers[b.n-1].end == len(b.text) || len(b.text) == 0 {
		return
	}
	b.headers[b.n].name, b.headers[b.n].end = name, len(b.text)
	b.n++
}

// setIn sets the headers in h.
func (b *headerBlock) setIn(h http.Header) {
	text, values, start := string(b.text), make([]string, b.n), 0
	for i, header := range b.headers[:b.n] {
		values[i] = text[start:header.end]
		h[header.name] = values[i : i+1 : i+1] // a value that is added later gets a slice of its own
		start = header.end
	}
}

// removeGatewayHeaders removes, from any section of an upstream's response, the headers
// that only the gateway sends.
func (x *exchange) removeGatewayHeaders(h http.Header) {
	for name := range h {
		if x.isGatewayHeader(name) {
			delete(h, name)
		}
	}
}

// mergeLists returns the values of a header whose members are names, such as Vary: those of the
// gateway, and behind them what an upstream has in addition. It changes neither.
func mergeLists(gateway, upstream []string) []string {
	if len(upstream) == 0 {
		return gateway
	}
	var members []string
	for _, values := range [...][]string{gateway, upstream} {
		for _, list := range values {
			for member := range strings.SplitSeq(list, ",") {
				member = strings.TrimSpace(member)
				isMember := func(m string) bool { return strings.EqualFold(m, member) }
				if member != "" && !slices.ContainsFunc(members, isMember) {
					members = append(members, member)
				}
			}
		}
	}
	return []string{strings.Join(members, ", ")}
}

// askForUnbuffered keeps nginx, in front of the gateway, from holding the events of a stream back,
// unless the upstream has decided about that itself.
func askForUnbuffered(h http.Header) {
	const name = "X-Accel-Buffering"
	if h[name] != nil || len(h["Content-Type"]) == 0 {
		return
	}
	mediaType, _, _ := strings.Cut(h["Content-Type"][0], ";")
	if strings.EqualFold(strings.TrimSpace(mediaType), "text/event-stream") {
		h[name] = []string{"no"}
	}
}

// hopByHopHeaders belong to one connection: RFC 9110 sections 7.6.1, 11.7.1 and 11.7.3.
var hopByHopHeaders = [...]string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info"}

// removeNominated removes the headers that the values of a Connection header list.
func removeNominated(h http.Header, connection []string) {
	for _, list := range connection {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
}

func removeHopByHop(h http.Header) {
	for _, name := range hopByHopHeaders {
		delete(h, name)
	}
}

// cleanSection makes an informational response, or trailers, fit for the client.
// ReverseProxy does that only for the headers of the final response. connection is the
// Connection header of the final response; nil: it has not arrived yet.
func (x *exchange) cleanSection(h http.Header, connection []string) {
	if len(h) == 0 {
		return
	}
	upstream.RepairNames(h) // no error: there is no body whose length could be in doubt
	removeNominated(h, connection)
	removeNominated(h, h["Connection"])
	removeHopByHop(h)
	delete(h, "Content-Length")
	x.removeGatewayHeaders(h)
}

// isGatewayHeader reports whether only the gateway sends a response header of this
// name to the client of x.
func (x *exchange) isGatewayHeader(name string) bool {
	switch {
	case name == trust.HeaderRequestID:
		return true
	case name == x.route.Cost.Header:
		return name != ""
	case name == headerUsage, name == headerWouldBlock, name == headerCost, name == headerPending, strings.HasPrefix(name, "Ratelimit"), strings.HasPrefix(name, "X-Ratelimit-"):
		return x.route.Endpoint != "" // on other routes the upstream may have limits of its own
	}
	return x.g.cors != nil && strings.HasPrefix(name, "Access-Control-")
}

// headerText returns text as the value of a header. A user's id may have characters that
// no header may have; those, and the percent sign, are percent-encoded as UTF-8.
func headerText(text string) string {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '%' {
			return url.PathEscape(text)
		}
	}
	return text
}
