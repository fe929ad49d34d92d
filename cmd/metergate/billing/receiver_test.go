package billing

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var hour = time.Date(2026, time.November, 29, 14, 0, 0, 0, time.UTC)

// newBill returns a bill of the user u-N.
func newBill(n int) Bill {
	return Bill{User: "u-" + strconv.Itoa(n), Endpoint: "analyze", Hour: hour, Revision: 1, Requests: 12, Units: 40}
}

// A bill has one id, whenever it is sent. The expected one was made with: printf 'metergate\n\nu-1\nanalyze\n2026-11-29T14:00:00Z\n1' | sha256sum
func TestEventIDs(t *testing.T) {
	const want = "mg_e3b32e877bd7583e8f30c4610efd4f1d"
	b := newBill(1)
	if got := b.ID("metergate"); got != want {
		t.Errorf("ID %s, want %s", got, want)
	}
	elsewhere := b
	elsewhere.Hour = b.Hour.In(time.FixedZone("", 3600))
	if elsewhere.ID("metergate") != want {
		t.Error("another time zone changes the id")
	}
	seen := map[string]bool{want: true}
	for name, change := range map[string]func(*Bill){
		"user": func(b *Bill) { b.User = "u-2" }, "org": func(b *Bill) { b.Org = "acme" }, "endpoint": func(b *Bill) { b.Endpoint = "report" },
		"hour": func(b *Bill) { b.Hour = b.Hour.Add(time.Hour) }, "revision": func(b *Bill) { b.Revision++ },
	} {
		changed := b
		change(&changed)
		if id := changed.ID("metergate"); seen[id] {
			t.Errorf("another %s does not change the id", name)
		}
	}
	if b.ID("metergate-eu") == want {
		t.Error("another source does not change the id")
	}
}

// What each receiver gets: the method, the path, the token and the body.
func TestRequestsOfReceivers(t *testing.T) {
	b := newBill(1)
	b.Org = "acme"
	id := b.ID("metergate")
	event := `{"specversion":"1.0","id":"` + id + `","source":"metergate","type":"metergate.usage","subject":"u-1","time":"2026-11-29T14:00:00Z",` +
		`"datacontenttype":"application/json","data":{"user":"u-1","org":"acme","endpoint":"analyze","requests":12,"units":40,"revision":1}}`
	for to, want := range map[string][]string{
		"openmeter":   {"/api/v1/events", "application/cloudevents-batch+json", "[" + event + "]"},
		"cloudevents": {"", "application/cloudevents-batch+json", "[" + event + "]"},
		"lago": {"/api/v1/events/batch", "application/json", `{"events":[{"transaction_id":"` + id + `","external_subscription_id":"u-1","code":"analyze",` +
			`"timestamp":1795960800,"properties":{"user":"u-1","org":"acme","endpoint":"analyze","requests":12,"units":40,"revision":1}}]}`},
		"stripe": {"/v1/billing/meter_events", "application/x-www-form-urlencoded",
			"event_name=analyze&identifier=" + id + "&payload%5Bstripe_customer_id%5D=u-1&payload%5Bvalue%5D=12&timestamp=1795960800"},
	} {
		t.Run(to, func(t *testing.T) {
			var got []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = []string{r.URL.Path, r.Header.Get("Content-Type"), string(body)}
				if token := r.Header.Get("Authorization"); r.Method != "POST" || token != "Bearer secret" {
					t.Errorf("%s with Authorization %q", r.Method, token)
				}
			}))
			defer server.Close()
			if want[0] == "" {
				want[0] = "/"
			}
			s := newSender(t, Options{To: to, URL: server.URL, Token: "secret"})
			if r := s.Send(t.Context(), list(b), &notebook{}, nil); !r.Complete() || r.Events != 1 || r.Requests != 12 || r.Units != 40 || r.Users != 1 {
				t.Errorf("report %+v", r)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is shown in a dry run is what is sent.
func TestShowIsWhatIsSent(t *testing.T) {
	for _, to := range []string{"openmeter", "cloudevents", "lago", "stripe"} {
		s, err := New(Options{To: to, Source: "eu", ByOrg: true, Units: true, Codes: map[string]string{"analyze": "calls", "report": NotBilled},
			Customers: map[string]string{"acme": "cus_1", "globex": NotBilled}})
		if err != nil {
			t.Fatal(err)
		}
		b := newBill(1)
		b.Org = "acme"
		report, unpaid, stranger := b, b, b
		report.Endpoint, unpaid.Org, stranger.Org = "report", "globex", "initech"
		var out strings.Builder
		r, err := s.Show(&out, list(b, report, unpaid, stranger))
		if err != nil || r.Events != 1 || r.NotBilled != 2 || r.Refused != 1 || !strings.Contains(strings.Join(r.Faults, "\n"), `there is no customer for "initech"`) {
			t.Errorf("%s: error %v, report %+v", to, err, r)
		}
		var shown map[string]any
		if err := json.Unmarshal([]byte(out.String()), &shown); err != nil {
			t.Fatalf("%s: %v: %s", to, err, out.String())
		}
		for _, part := range []string{b.ID("eu"), "cus_1", "calls", "40"} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%s: no %q in %s", to, part, out.String())
			}
		}
	}
}

// An address without a path gets the receiver's path.
func TestAddresses(t *testing.T) {
	for _, c := range []struct{ to, url, want string }{
		{"stripe", "", "https://api.stripe.com/v1/billing/meter_events"},
		{"lago", "", "https://api.getlago.com/api/v1/events/batch"},
		{"lago", "https://lago.example.com/", "https://lago.example.com/api/v1/events/batch"},
		{"openmeter", "http://om:8888", "http://om:8888/api/v1/events"},
		{"openmeter", "https://us.api.konghq.com/v3/openmeter/events", "https://us.api.konghq.com/v3/openmeter/events"},
		{"cloudevents", "https://example.com", "https://example.com"},
		{"cloudevents", "https://example.com/in?key=1", "https://example.com/in?key=1"},
		{"openmeter", "", "-url is needed: the address of openmeter"},
		{"cloudevents", "", "-url is needed: the address of cloudevents"},
		{"cloudevents", "example.com", "-url: must be a URL like"},
		{"cloudevents", "ftp://example.com", "-url: must be a URL like"},
		{"cloudevents", "https://u:p@example.com", "-url: must be a URL like"},
	} {
		s, err := New(Options{To: c.to, URL: c.url, Token: "t", Source: "s"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckAddress(); err != nil && !strings.HasPrefix(err.Error(), c.want) || err == nil && s.url != c.want {
			t.Errorf("%s %q: %q, error %v; want %s", c.to, c.url, s.url, err, c.want)
		}
	}
	for _, to := range []string{"stripe", "lago"} {
		s, _ := New(Options{To: to})
		if err := s.CheckAddress(); err == nil || !strings.Contains(err.Error(), "needs a token") {
			t.Errorf("%s without a token: %v", to, err)
		}
	}
	if _, err := New(Options{To: "orb"}); err == nil || err.Error() != `-to must be openmeter, stripe, lago or cloudevents, got "orb"` {
		t.Error(err)
	}
}

// How long a receiver wants to be left alone.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		header map[string]string
		want   time.Duration
	}{
		{nil, 0},
		{map[string]string{"Retry-After": "7"}, 7 * time.Second},
		{map[string]string{"Retry-After": "-7"}, 0},
		{map[string]string{"Retry-After": "soon"}, 0},
		{map[string]string{"Retry-After": "99999999999999999999"}, 0},
		{map[string]string{"Retry-After": "Sun, 29 Nov 2026 14:00:30 GMT"}, 30 * time.Second},
		{map[string]string{"Retry-After": "Sun, 29 Nov 2026 13:00:30 GMT"}, 0},
		{map[string]string{"X-RateLimit-Reset": "3", "X-RateLimit-Remaining": "0"}, 3 * time.Second},
		{map[string]string{"X-RateLimit-Reset": "3", "X-RateLimit-Remaining": "9"}, 0},
	} {
		h := http.Header{}
		for name, value := range c.header {
			h.Set(name, value)
		}
		if got := retryAfter(h, hour); got != c.want {
			t.Errorf("%v: %v, want %v", c.header, got, c.want)
		}
	}
}
