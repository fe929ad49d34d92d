package trust

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// FuzzForwarded: whatever a trusted proxy sends, the upstream gets a list of addresses
// that ends with the peer, bounded, and the client is the last of them that is not
// trusted, or else the first.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "203.0.113.9", "6.6.6.6, 203.0.113.9\n10.0.0.2", "unknown, [2001:db8::1]:80, fe80::1%eth0, ::ffff:10.0.0.2", ",,\n,", "\"a\", 1.2.3.4:5"} {
		f.Add("10.0.0.1:1", s)
		f.Add("[2001:db8::1]:1", s)
	}
	trusted := Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	f.Fuzz(func(t *testing.T, peer, lines string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": strings.Split(lines, "\n")}}
		o := trusted.OriginOf(r)
		if o.chain == "" {
			if o != (Origin{}) || addressOf(peer).IsValid() {
				t.Fatalf("%+v without a chain", o)
			}
			return
		}
		chain := strings.Split(o.chain, ", ")
		if len(chain) > maxHops+1 {
			t.Fatalf("%d hops", len(chain))
		}
		want := chain[0]
		for i := len(chain) - 1; i >= 0; i-- {
			a, err := netip.ParseAddr(chain[i])
			if err != nil || a.String() != chain[i] || a.Zone() != "" || a.Is4In6() {
				t.Fatalf("%q in %q", chain[i], o.chain)
			}
			if !trusted.contains(a) {
				want = chain[i]
				break
			}
		}
		last := netip.MustParseAddr(chain[len(chain)-1])
		if last != addressOf(peer) || o.trusted != trusted.contains(last) || !o.trusted && len(chain) > 1 || o.Client != want {
			t.Fatalf("from %q with %q: %+v, want the client %s", peer, lines, o, want)
		}
	})
}
