package browsers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// A peopleSite is an application whose users are known by their email: their tokens need no
// subject, and many may have the same one. Its pages have another origin than the gateway.
type peopleSite struct {
	*gatewaytest.Process
	pages   string
	browser *browsertest.Browser
}

func newPeopleSite(t *testing.T, b *browsertest.Browser) *peopleSite {
	t.Helper()
	text := strings.NewReplacer(
		"algorithms: [HS256]", "algorithms: [HS256], claims: { user: profile.email }",
		"admin: { listen: 127.0.0.1:0 }", "admin: { listen: 127.0.0.1:0, token: "+gatewaytest.AdminToken+" }",
		"plans:\n", "plans:\n  pro: { limits: [{ requests: 5000, per: month }] }\n",
	).Replace(browserYAML)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, text)
	upstream := gatewaytest.StartUpstream(t, "done")
	gateway := gatewaytest.StartFile(t, []string{"STORE=embedded:" + t.TempDir(), "UPSTREAM=" + upstream.URL}, file)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>An application</title><script type="module">
import { createUsageClient } from '%s/usage/client.js';
window.token = new URLSearchParams(location.hash.slice(1)).get('token');
const client = window.client = createUsageClient({ getToken: () => window.token });
window.seen = [];
window.exceeded = 0;
client.subscribe((s) => {
  const text = s ? [s.user, s.plan, s.used, s.limit, s.pending].join(' ') : 'nobody';
  if (seen.at(-1) !== text) seen.push(text);
});
client.addEventListener('usage-exceeded', () => exceeded++);
window.call = (headers) => client.fetch(client.baseUrl + 'api/analyze', { method: 'POST', body: 'x', headers }).then((r) => r.status);
window.streams = () => performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/usage/stream')).length;
</script>`, gateway.URL)
	}))
	t.Cleanup(pages.Close)
	return &peopleSite{gateway.Process, pages.URL, b}
}

// person makes a token. All have the same subject unless claims, as pairs of name and value,
// say something else.
func person(email string, claims ...any) string {
	all := jwt.MapClaims{"sub": "tenant-7", "profile": map[string]any{"email": email}, "exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i < len(claims); i += 2 {
		all[claims[i].(string)] = claims[i+1]
		if claims[i+1] == nil {
			delete(all, claims[i].(string))
		}
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(testkit.Secret))
	if err != nil {
		panic(err) // HMAC takes every key
	}
	return signed
}

// open opens the application with a token, and waits until it shows the usage live.
func (s *peopleSite) open(t *testing.T, token string) *browsertest.Tab {
	t.Helper()
	tab := s.browser.Open(t, s.pages+"/#token="+token, "")
	tab.Want("window.client?.current && client.connection", "live")
	return tab
}

// use makes n calls with a token, which must succeed.
func (s *peopleSite) use(t *testing.T, token string, n int) {
	t.Helper()
	for range n {
		if status := gatewaytest.Post(http.DefaultClient, s.URL+"/api/analyze", token); status != 200 {
			t.Fatal("a call: ", status)
		}
	}
}

func (s *peopleSite) wantStreams(t *testing.T, n string) {
	t.Helper()
	wantStreams(t, s.Process, n)
}

const (
	// numbers is what the page shows.
	numbers = "client.current && [client.current.user, client.current.plan, client.current.used, client.current.limit].join(' ')"
	// everything is all that the page has shown so far.
	everything = "seen.join(', ')"
)

// The numbers of the page are those of the user who is signed in, whatever the subjects of
// tokens are, and whatever other tokens the application uses.
func TestClientShowsItsOwnUser(t *testing.T) { inEachBrowser(t, testClientShowsItsOwnUser) }

func testClientShowsItsOwnUser(t *testing.T, b *browsertest.Browser) {
	s := newPeopleSite(t, b)
	for name, test := range map[string]func(*peopleSite, *testing.T){
		"a token of the caller's own":        (*peopleSite).callersOwnToken,
		"another user signs in":              (*peopleSite).anotherUserSignsIn,
		"sign-out":                           (*peopleSite).signOut,
		"a token that changes with refresh":  (*peopleSite).refreshedTokens,
		"tokens without a subject":           (*peopleSite).tokensWithoutSubject,
		"a plan that a token names":          (*peopleSite).plansOfTokens,
		"a plan that an administrator names": (*peopleSite).planOfAdministrator,
	} {
		t.Run(name, func(t *testing.T) { test(s, t) })
	}
}

// What the caller brought a token for is not taken over.
func (s *peopleSite) callersOwnToken(t *testing.T) {
	ann, bob := person("ann@own.example"), person("bob@own.example")
	s.use(t, ann, 5)
	s.use(t, bob, 99)
	tab, other := s.open(t, ann), s.open(t, ann)
	tab.Want("call({ authorization: 'Bearer "+bob+"' })", "200")
	tab.Want("client.fetch(new Request(client.baseUrl + 'api/analyze', { method: 'POST', headers: { Authorization: 'Bearer "+bob+"' } })).then((r) => r.status)", "429")
	tab.Want("call()", "200")
	for _, tab := range []*browsertest.Tab{tab, other} {
		tab.Want(numbers, "ann@own.example free 6 100")
		tab.Want("[client.current.pending, client.current.refused, exceeded].join()", "0,,0")
		for _, state := range strings.Split(tab.String(everything), ", ") {
			if !strings.HasPrefix(state, "ann@own.example free 5 100 ") && !strings.HasPrefix(state, "ann@own.example free 6 100 ") {
				t.Errorf("the page has shown %q", state)
			}
		}
	}
	tab.Eval("client.close()", nil)
	other.Eval("client.close()", nil)
}

// Another user signs in while another tab of the first user is open, and makes a call at
// once. Their tokens have the same subject.
func (s *peopleSite) anotherUserSignsIn(t *testing.T) {
	ann, bob := person("ann@in.example"), person("bob@in.example")
	s.use(t, ann, 5)
	s.use(t, bob, 50)
	tab, other := s.open(t, ann), s.open(t, ann)
	tab.Want("(window.token = '"+bob+"', call())", "200")
	tab.Want(numbers, "bob@in.example free 51 100")
	tab.Want("client.connection", "live")
	signedIn := false
	for _, state := range strings.Split(tab.String(everything), ", ") {
		switch {
		case state == "nobody":
			signedIn = true
		case !signedIn && strings.HasPrefix(state, "ann@in.example free 5 100 "):
		case signedIn && strings.HasPrefix(state, "bob@in.example free 5"):
		default:
			t.Errorf("signed in: %t, shown: %q", signedIn, state)
		}
	}
	other.Want("client.connection", "live") // the tab that has left may have been the one that streamed
	other.Want(everything, "ann@in.example free 5 100 0")
	s.wantStreams(t, "2")
	other.Eval("client.close()", nil)
	tab.Eval("client.close()", nil)
}

// After a sign-out the page shows nobody's numbers; the other tab is still signed in.
func (s *peopleSite) signOut(t *testing.T) {
	ann := person("ann@out.example")
	s.use(t, ann, 5)
	tab, other := s.open(t, ann), s.open(t, ann)
	tab.Want("(window.token = null, client.refresh())", "null")
	s.use(t, ann, 1)
	other.Want(numbers, "ann@out.example free 6 100")
	tab.Want(everything, "ann@out.example free 5 100 0, nobody")
	// Signed in again, the tab shares the stream of the other one.
	tab.Want("(window.token = '"+person("ann@out.example", "jti", "2")+"', client.refresh().then((s) => s.used))", "6")
	tab.Want("client.connection", "live")
	s.wantStreams(t, "1")
	tab.Eval("client.close()", nil)
	other.Eval("client.close()", nil)
}

// Clerk changes the claim fva with every refresh. Tabs share a stream all the same, and the
// numbers stay.
func (s *peopleSite) refreshedTokens(t *testing.T) {
	token := func(minutes int) string { return person("ann@fva.example", "fva", []int{minutes, -1}) }
	s.use(t, token(0), 5)
	tabs := []*browsertest.Tab{s.open(t, token(0)), s.open(t, token(1))}
	s.wantStreams(t, "1")
	for i, tab := range tabs {
		tab.Want(fmt.Sprintf("(window.token = '%s', client.refresh().then((s) => s.used))", token(2+i)), "5")
	}
	s.use(t, token(4), 1)
	for _, tab := range tabs {
		tab.Want(everything, "ann@fva.example free 5 100 0, ann@fva.example free 6 100 0")
		tab.Want("streams()", "0") // none has ended
	}
	s.wantStreams(t, "1")
	for _, tab := range tabs {
		tab.Eval("client.close()", nil)
	}
}

func (s *peopleSite) tokensWithoutSubject(t *testing.T) {
	ann, bob := person("ann@none.example", "sub", nil), person("bob@none.example", "sub", nil)
	s.use(t, ann, 5)
	s.use(t, bob, 7)
	tabs := []*browsertest.Tab{s.open(t, ann), s.open(t, bob), s.open(t, person("ann@none.example", "sub", nil, "jti", "2"))}
	s.wantStreams(t, "2") // ann's two tabs share one
	tabs[0].Want("call()", "200")
	for i, want := range []string{"ann@none.example free 6 100", "bob@none.example free 7 100", "ann@none.example free 6 100"} {
		tabs[i].Want(numbers, want)
	}
	for _, tab := range tabs {
		tab.Eval("client.close()", nil)
	}
}

// A token that was issued before the user paid has another plan than a later one: each tab
// shows what the gateway allows it.
func (s *peopleSite) plansOfTokens(t *testing.T) {
	free, pro := person("ann@plans.example"), person("ann@plans.example", "plan", "pro")
	s.use(t, free, 5)
	old, paid := s.open(t, free), s.open(t, pro)
	old.Want(numbers, "ann@plans.example free 5 100")
	paid.Want(numbers, "ann@plans.example pro 5 5000")
	paid.Want("call()", "200")
	old.Want(numbers, "ann@plans.example free 6 100")
	paid.Want(numbers, "ann@plans.example pro 6 5000")
	// The old tab gets a new token. Its numbers stay until the gateway has answered.
	old.Want("(window.token = '"+pro+"', client.refresh().then((s) => s.limit))", "5000")
	s.wantStreams(t, "1")
	old.Want("client.connection + seen.includes('nobody')", "livefalse")
	old.Eval("client.close()", nil)
	paid.Eval("client.close()", nil)
}

// All tabs learn about a plan that an administrator gives to a user, and still share a stream.
func (s *peopleSite) planOfAdministrator(t *testing.T) {
	ann := person("ann@admin.example")
	s.use(t, ann, 5)
	tabs := []*browsertest.Tab{s.open(t, ann), s.open(t, ann), s.open(t, ann)}
	gatewaytest.Administer(t, s.Process, "PUT", "/admin/users/ann@admin.example/plan", `{"plan":"pro"}`)
	for _, tab := range tabs {
		tab.Want(numbers, "ann@admin.example pro 5 5000")
	}
	s.wantStreams(t, "1")
	s.use(t, ann, 1)
	for _, tab := range tabs {
		tab.Want(numbers, "ann@admin.example pro 6 5000")
		tab.Want("client.connection + seen.includes('nobody')", "livefalse")
	}
	s.wantStreams(t, "1")
}
