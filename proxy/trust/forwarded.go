package trust

import (
	"iter"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
)

// Where a request comes from.
//
// A connection shows only its peer. If the peer is one of the operator's own proxies, the
// client's address is in X-Forwarded-For: each proxy appends the address of its own peer.
//
//	X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2     from 10.0.0.1
//
// If 10.0.0.0/8 is trusted, the gateway believes 10.0.0.1 that its peer was 10.0.0.2, and
// it believes 10.0.0.2 that its peer was 203.0.113.9. That address is not trusted:
// everything to the left of it may be forged. So the client is 203.0.113.9.
//
// The upstream gets the whole chain, as it would from any proxy, and the client's address
// in X-Real-Ip. Nothing that an untrusted peer says about the chain is forwarded: any
// client could forge its address.

// maxHops limits how many addresses of a chain are read, beginning with the nearest.
const maxHops = 100

// Proxies are the networks of the operator's own proxies. The zero Prefix stands for those who connect to
// a Unix socket: they have no address.
type Proxies []netip.Prefix

func (p Proxies) contains(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(a) })
}

// An Origin is where a request comes from.
type Origin struct {
	// trusted: the peer is one of the operator's proxies.
	trusted bool
	// Client is the client's address, as far as proxies are trusted. It is empty if there is
	// none, as on a unix socket.
	Client string
	// chain is the X-Forwarded-For for the upstream; empty: none is sent.
	chain string
}

// IsTrusted reports whether one of the operator's proxies has sent the request.
func (o Origin) IsTrusted() bool { return o.trusted }

// OriginOf finds out where a request comes from.
func (p Proxies) OriginOf(r *http.Request) Origin {
	peer := addressOf(r.RemoteAddr)
	var client netip.Addr
	var chain []string // nearest first
	switch {
	case !peer.IsValid() && !slices.Contains(p, netip.Prefix{}):
		return Origin{}
	case !peer.IsValid():
	case !p.contains(peer):
		text := peer.String()
		return Origin{Client: text, chain: text}
	default:
		client, chain = peer, []string{peer.String()}
	}
	left := maxHops
	for entry := range fromTheRight(r.Header["X-Forwarded-For"]) {
		if left--; left < 0 {
			break
		}
		if entry == "" {
			continue // a list may have empty elements, RFC 9110 section 5.6.1.2
		}
		hop := addressOf(entry)
		if !hop.IsValid() {
			break // "unknown" and the like: nothing to the left of it can be trusted
		}
		chain = append(chain, hop.String())
		if !client.IsValid() || p.contains(client) {
			client = hop
		}
	}
	slices.Reverse(chain)
	o := Origin{trusted: true, chain: strings.Join(chain, ", ")}
	if client.IsValid() {
		o.Client = client.String()
	}
	return o
}

// fromTheRight yields the elements of a header's lines, the last one first.
func fromTheRight(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range slices.Backward(lines) {
			for comma := len(line); comma >= 0; {
				line = line[:comma]
				comma = strings.LastIndexByte(line, ',')
				if !yield(strings.Trim(line[comma+1:], " \t")) {
					return
				}
			}
		}
	}
}

// addressOf parses an address, with or without a port and, for IPv6, with or without
// brackets. The result is not valid if text is not an address. One address has one form:
// IPv4 in IPv6 becomes IPv4, and a zone, which means nothing on another machine, is left
// out.
func addressOf(text string) netip.Addr {
	var a netip.Addr
	if with, err := netip.ParseAddrPort(text); err == nil {
		a = with.Addr()
	} else if bare, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(bare, "]") {
		if a, _ = netip.ParseAddr(strings.TrimSuffix(bare, "]")); a.Is4() {
			return netip.Addr{}
		}
	} else {
		a, _ = netip.ParseAddr(text)
	}
	return a.WithZone("").Unmap()
}

// SetForwardedHeaders tells the upstream where the request comes from. It passes on what a
// trusted proxy said about it; what a client said is among the UntrustedHeaders.
func (o Origin) SetForwardedHeaders(r *httputil.ProxyRequest) {
	in, out := r.In.Header, r.Out.Header
	if o.chain != "" {
		out.Set("X-Forwarded-For", o.chain)
		out.Set("X-Real-Ip", o.Client)
	}
	proto, host := "http", r.In.Host
	if r.In.TLS != nil {
		proto = "https"
	}
	if o.trusted {
		if said := strings.ToLower(singleValue(in, "X-Forwarded-Proto")); said == "http" || said == "https" || said == "ws" || said == "wss" {
			proto = said
		}
		if h := singleValue(in, "X-Forwarded-Host"); isHost(h) {
			host = h
		}
	}
	out.Set("X-Forwarded-Proto", proto)
	out.Set("X-Forwarded-Host", host)
}

// singleValue returns the value of a header that has one line, and "" otherwise.
func singleValue(h http.Header, name string) string {
	if lines := h[name]; len(lines) == 1 {
		return lines[0]
	}
	return ""
}

// isHost reports whether text consists of characters that a name or an address may have,
// with or without a port.
func isHost(text string) bool {
	const others = ".-_:[]"
	return text != "" && len(text) <= 260 && !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(others, r))
	})
}
