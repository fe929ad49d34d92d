package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/proxy/credential"
	"metergate/proxy/trust"
	"metergate/quota"
)

// fieldValue matches a valid header value: printable ASCII with no blanks around it.
var fieldValue = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)

// FuzzUsageAndIdentityHeaders: whatever the user, the plan and the counts are, all
// headers have valid values, and say the same when they are parsed again.
func FuzzUsageAndIdentityHeaders(f *testing.F) {
	f.Add("u-17", "free", int64(100), int64(20), int64(43), int64(7), byte(4), int64(1_800_000_000), int8(-1))
	f.Add("a\r\nX-Admin: 1", "p\r\n\r\nbody", int64(0), int64(1e12), int64(0), int64(1e12), byte(0), int64(0), int8(0))
	f.Add("日本 100%", "größte", int64(1), int64(1), int64(1e15), int64(0), byte(5), int64(253_402_300_799), int8(1))
	f.Add("\x00\x7f\xff\xfe", `"quoted\`, int64(5), int64(5), int64(4), int64(6), byte(2), int64(951_782_399), int8(-1))
	f.Add("50%41", "100%", int64(5), int64(5), int64(4), int64(6), byte(1), int64(7), int8(-1))
	f.Add(" ", "", int64(5), int64(5), int64(4), int64(6), byte(3), int64(1), int8(-1))
	f.Add("u-17", "prepaid", int64(5), int64(5), int64(4), int64(6), byte(6), int64(1_800_000_000), int8(0))
	f.Fuzz(func(t *testing.T, user, plan string, all, images, used, usedImages int64, per byte, unix int64, hit int8) {
		x, s := fuzzExchange(t, user, plan, all, images, used, usedImages, per, unix)

		// The headers that the client gets.
		h := http.Header{}
		limits := x.plan.Limits()
		setUsageHeaders(h, "image-analysis", &s, max(-1, min(int(hit), len(limits)-1)))
		for name, values := range h {
			if len(values) != 1 || !fieldValue.MatchString(values[0]) {
				t.Fatalf("%s: %q", name, values)
			}
		}
		policy, state := parseList(t, h.Get("RateLimit-Policy")), parseList(t, h.Get("RateLimit"))
		if len(policy) != len(limits) || len(state) != len(limits) {
			t.Fatalf("%d limits: %v, %v", len(limits), policy, state)
		}
		for i, l := range limits {
			w := s.Limits[i].Window
			left := max(0, l.Amount-s.Limits[i].Used)
			seconds := (w.End.Sub(s.At) + time.Second - 1) / time.Second
			want := listItem{l.Name(), map[string]int64{"q": l.Amount, "w": int64(w.End.Sub(w.Start).Seconds())}}
			if l.Period == quota.Ever {
				delete(want.params, "w")
			}
			if fmt.Sprint(policy[i]) != fmt.Sprint(want) {
				t.Fatalf("RateLimit-Policy %d: %v, want %v", i, policy[i], want)
			}
			want = listItem{l.Name(), map[string]int64{"r": left, "t": int64(seconds)}}
			if l.Period == quota.Ever {
				delete(want.params, "t")
			}
			if fmt.Sprint(state[i]) != fmt.Sprint(want) {
				t.Fatalf("RateLimit %d: %v, want %v", i, state[i], want)
			}
		}
		if want := fmt.Sprintf("%d/%d", s.Total.Used, limits[0].Amount); h.Get("X-Usage") != want {
			t.Fatalf("X-Usage: %q, want %s", h.Get("X-Usage"), want)
		}
		shown := limits[max(0, min(int(hit), len(limits)-1))]
		if h.Get("X-RateLimit-Limit") != strconv.FormatInt(shown.Amount, 10) {
			t.Fatalf("X-RateLimit-Limit: %q, want that of %s", h.Get("X-RateLimit-Limit"), shown.Name())
		}
		var wire bytes.Buffer
		(&http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: http.NoBody}).Write(&wire)
		if res, err := http.ReadResponse(bufio.NewReader(&wire), nil); err != nil || len(res.Header) != len(h)+1 { // Content-Length
			t.Fatalf("read again: %v, error %v", res, err)
		}

		// The headers that the upstream gets.
		in, _ := http.NewRequest("GET", "http://api.example/", nil)
		in.RemoteAddr = "192.0.2.1:1"
		out := in.Clone(t.Context())
		x.origin = trust.Proxies(nil).OriginOf(in)
		(&forwarding{exchange: x}).rewriteRequest(&httputil.ProxyRequest{In: in, Out: out})
		wire.Reset()
		if err := out.Write(&wire); err != nil {
			t.Fatal(err)
		}
		read := bufio.NewReader(&wire)
		got, err := http.ReadRequest(read)
		if err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(read); len(rest) > 0 {
			t.Fatalf("a request is followed by %q", rest)
		}
		const want = "[User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Plan X-Real-Ip X-Request-Id X-User]"
		if names := slices.Sorted(maps.Keys(got.Header)); fmt.Sprint(names) != want {
			t.Fatalf("the upstream got %v", got.Header)
		}
		for name, want := range map[string]string{"X-User": user, "X-Plan": plan} {
			value := got.Header.Get(name)
			if want != "" && !fieldValue.MatchString(value) {
				t.Fatalf("%s: %q", name, value)
			}
			if decoded, err := url.PathUnescape(value); err != nil || decoded != want {
				t.Fatalf("%s: %q says %q, want %q, error %v", name, value, decoded, want, err)
			}
		}
	})
}

// fuzzExchange returns an exchange of a user with two limits, and a state of these.
func fuzzExchange(t *testing.T, user, plan string, all, images, used, usedImages int64, per byte, unix int64) (*exchange, quota.Snapshot) {
	kind := quota.Minute + quota.Period(per)%(quota.Ever-quota.Minute+1)
	within := func(n, bound int64) int64 { return int64(uint64(n) % uint64(bound)) }
	p, err := quota.NewPlan(quota.PlanOptions{
		Name: plan,
		Limits: []quota.Limit{
			{Amount: within(all, quota.MaxAmount+1), Period: kind},
			{Amount: within(images, quota.MaxAmount+1), Period: kind, Endpoint: "image-analysis"},
		},
		Endpoints: []string{"analyze", "image-analysis"},
		WarnAt:    80,
	})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(within(unix, 253_402_300_800), 0).UTC() // to the year 9999
	window := quota.NewCalendar(time.UTC).WindowAt(kind, at)
	counts := make([]quota.Count, len(p.Counters()))
	for i := range counts {
		counts[i] = quota.Count{Window: window, Used: within(used, 1e15)}
	}
	counts[1].Used = within(usedImages, 1e15)
	return &exchange{
		g:     &Gateway{upgradeURL: "https://example.com/?u=" + user, untrusted: trust.NewUntrustedHeaders(nil, nil)},
		user:  credential.Identity{User: user},
		plan:  p,
		id:    quota.NewID(),
		route: &route{Route: Route{UserHeader: "X-User", PlanHeader: "X-Plan"}},
	}, p.NewSnapshot(at, counts)
}

// A listItem is a member of a list in a structured field: a string with integer
// parameters, which is all that the RateLimit headers have.
type listItem struct {
	name   string
	params map[string]int64
}

var (
	// RFC 9651, sections 3.3.3, 3.1.2 and 3.3.1.
	listString = regexp.MustCompile(`^"((?:[ !#-\[\]-~]|\\["\\])*)"`)
	listParam  = regexp.MustCompile(`^; *([a-z*][a-z0-9_.*-]*)=(-?[0-9]{1,15})`)
	listComma  = regexp.MustCompile(`^[ \t]*,[ \t]*`)
)

func parseList(t *testing.T, s string) (items []listItem) {
	t.Helper()
	whole := s
	cut := func(r *regexp.Regexp) []string {
		m := r.FindStringSubmatch(s)
		if m != nil {
			s = s[len(m[0]):]
		}
		return m
	}
	for {
		m := cut(listString)
		if m == nil {
			t.Fatalf("%q is not a list of strings: at %q", whole, s)
		}
		item := listItem{strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[1]), map[string]int64{}}
		for m = cut(listParam); m != nil; m = cut(listParam) {
			item.params[m[1]], _ = strconv.ParseInt(m[2], 10, 64)
		}
		items = append(items, item)
		if s == "" {
			return items
		}
		if cut(listComma) == nil {
			t.Fatalf("%q is not a list of strings: at %q", whole, s)
		}
	}
}
