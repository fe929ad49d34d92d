package proxy

import (
	"bytes"
	"iter"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
)

// Where a request comes from.
//
// A connection shows its peer, and no more. When that is one of the operator's own
// proxies, the client is in X-Forwarded-For, to which each proxy appends the peer
// that it saw:
//
//	X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2     from 10.0.0.1
//
// With 10.0.0.0/8 trusted, 10.0.0.1 is believed that it was asked by 10.0.0.2, and
// that one that it was asked by 203.0.113.9. What is left of the first address that is
// not trusted, that one has written: it may be a lie. So the client is 203.0.113.9.
//
// The upstream gets the whole chain, as from every proxy, and the client alone in
// X-Real-Ip. From a peer that is not trusted it gets nothing of the kind: clients
// could choose the address that they are taken for.

// maxHops bounds what is read of a chain. The nearest count.
const maxHops = 100

// trustedProxies are the networks of the operator's own proxies.
type trustedProxies []netip.Prefix

func (t trustedProxies) contains(a netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

// An origin is where a request comes from.
type origin struct {
	// trusted: the peer is one of the operator's proxies.
	trusted bool
	// client is the address that is believed, empty when there is none, as on a unix
	// socket.
	client string
	// chain is X-Forwarded-For for the upstream; empty: there is none.
	chain string
}

func (t trustedProxies) originOf(r *http.Request) origin {
	peer := addressOf(r.RemoteAddr)
	switch {
	case !peer.IsValid():
		return origin{}
	case !t.contains(peer):
		text := peer.String()
		return origin{client: text, chain: text}
	}
	client, chain := peer, []string{peer.String()} // the nearest first
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
			break // "unknown" and the like: nothing left of it has a witness
		}
		chain = append(chain, hop.String())
		if t.contains(client) {
			client = hop
		}
	}
	slices.Reverse(chain)
	return origin{trusted: true, client: client.String(), chain: strings.Join(chain, ", ")}
}

// fromTheRight yields the elements of a field's lines, the last one first.
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

// addressOf reads an address, with or without a port and, if it is IPv6, brackets.
// The result is not valid when it is none. One address has one form: IPv4 in IPv6 is
// IPv4, and a zone, which says nothing on another machine, is left out.
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

// tell writes what the upstream is told about where the request comes from, in place
// of what the client said. A trusted proxy's word is passed on.
func (o origin) setForwardedHeaders(r *httputil.ProxyRequest) {
	in, out := r.In.Header, r.Out.Header
	removeForwarded(out, o.trusted)
	if o.chain != "" {
		out.Set("X-Forwarded-For", o.chain)
		out.Set("X-Real-Ip", o.client)
	}
	proto, host := "http", r.In.Host
	if r.In.TLS != nil {
		proto = "https"
	}
	if o.trusted {
		if p := strings.ToLower(only(in, "X-Forwarded-Proto")); p == "http" || p == "https" || p == "ws" || p == "wss" {
			proto = p
		}
		if h := only(in, "X-Forwarded-Host"); isHost(h) {
			host = h
		}
	}
	out.Set("X-Forwarded-Proto", proto)
	out.Set("X-Forwarded-Host", host)
}

// only returns the value of a field that has one line, empty otherwise.
func only(h http.Header, name string) string {
	if lines := h[name]; len(lines) == 1 {
		return lines[0]
	}
	return ""
}

// isHost: text has the letters of a name or an address with or without a port.
func isHost(text string) bool {
	const others = ".-_:[]"
	return text != "" && len(text) <= 260 && !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(others, r))
	})
}

// forwardedFields are the fields, besides all that begin with X-Forwarded, from which
// frameworks and content delivery networks learn who the client is and how it came.
var forwardedFields = map[string]bool{
	"forwarded": true, "forwarded-for": true, "x-original-forwarded-for": true,
	"x-real-ip": true, "client-ip": true, "x-client-ip": true, "x-cluster-client-ip": true,
	"x-remote-ip": true, "x-remote-addr": true, "remote-addr": true, "x-envoy-external-address": true,
	"proxy-client-ip": true, "wl-proxy-client-ip": true, "x-originating-ip": true,
	"true-client-ip": true, "cf-connecting-ip": true, "cf-connecting-ipv6": true, "cf-pseudo-ipv4": true,
	"fastly-client-ip": true, "fly-client-ip": true, "do-connecting-ip": true, "x-appengine-user-ip": true,
	"x-azure-clientip": true, "x-azure-socketip": true,
	"front-end-https": true, "https": true, "x-scheme": true, "x-url-scheme": true,
}

// removeForwarded removes these fields. Of a trusted peer it leaves those that it has
// spelt as they are meant; other spellings (see appendPlain) no proxy writes, so a client
// has. Forwarded is left to nobody: it says again what X-Forwarded-For says, and here
// nobody has read it. ReverseProxy has removed it already, in its usual spelling.
func removeForwarded(h http.Header, trusted bool) {
	for name := range h {
		if isForwarded(name) && !(trusted && !strings.ContainsAny(name, "_.")) {
			delete(h, name)
		}
	}
}

// isForwarded does not allocate: it is asked for every field of every request.
func isForwarded(name string) bool {
	var buf [maxPlain]byte
	plain := appendPlain(buf[:0], name)
	rest, ok := bytes.CutPrefix(plain, []byte("x-forwarded"))
	return ok && (len(rest) == 0 || rest[0] == '-') || forwardedFields[string(plain)]
}
