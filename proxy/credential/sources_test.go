package credential

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const key, otherKey = "mg_1", "mg_2"

var everywhere = Sources{APIKeys: true, Cookie: "session", Origins: []string{"https://app.example.com"}, QueryParam: "access_token"}

// newRequest makes a request; headers are "Name: value".
func newRequest(t *testing.T, query string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", "/usage/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.RawQuery = query
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestFindTakesOneCredential(t *testing.T) {
	const bearer, cookie = "Authorization: Bearer " + token, "Cookie: session=" + token
	for name, c := range map[string]struct {
		query   string
		headers []string
		want    Found
		fault   *Error
	}{
		"nothing":                         {"", nil, Found{}, errNoToken},
		"a token":                         {"", []string{bearer}, Found{Text: token}, nil},
		"a key":                           {"", []string{"Authorization: Bearer " + key}, Found{Text: key, IsKey: true}, nil},
		"a key, lower case":               {"", []string{"authorization: bearer " + key}, Found{Text: key, IsKey: true}, nil},
		"X-API-Key":                       {"", []string{"X-API-Key: " + key}, Found{Text: key, IsKey: true}, nil},
		"the same key twice":              {"", []string{"X-API-Key: " + key, "Authorization: Bearer " + key}, Found{Text: key, IsKey: true}, nil},
		"two keys":                        {"", []string{"X-API-Key: " + key, "Authorization: Bearer " + otherKey}, Found{}, errTwoCredentials},
		"a key and a token":               {"", []string{"X-API-Key: " + key, bearer}, Found{}, errTwoCredentials},
		"a key and Basic":                 {"", []string{"X-API-Key: " + key, "Authorization: Basic dTpw"}, Found{Text: key, IsKey: true}, nil},
		"a key and a bad header":          {"", []string{"X-API-Key: " + key, "Authorization: Bearer"}, Found{}, errBadHeader},
		"X-API-Key twice":                 {"", []string{"X-API-Key: " + key, "X-API-Key: " + key}, Found{}, errSeveralKeys},
		"X-API-Key twice, one ours":       {"", []string{"X-API-Key: other", "X-API-Key: " + key}, Found{}, errSeveralKeys},
		"two keys in a header":            {"", []string{"X-API-Key: " + key + ", " + key}, Found{Text: key + ", " + key, IsKey: true}, nil},
		"another's key":                   {"", []string{"X-API-Key: other"}, Found{}, errNoToken},
		"another's key and a token":       {"", []string{"X-API-Key: other", bearer}, Found{Text: token}, nil},
		"a cookie":                        {"", []string{cookie}, Found{Text: token, Place: InCookie}, nil},
		"a cookie among others":           {"", []string{"Cookie: a=1; session=" + token + "; b=2"}, Found{Text: token, Place: InCookie}, nil},
		"a cookie on a second line":       {"", []string{"Cookie: a=1", cookie}, Found{Text: token, Place: InCookie}, nil},
		"a cookie with a space":           {"", []string{"Cookie: session = " + token}, Found{Text: token, Place: InCookie}, nil},
		"a cookie in quotes":              {"", []string{`Cookie: session="` + token + `"`}, Found{Text: token, Place: InCookie}, nil},
		"a cookie in two pairs of quotes": {"", []string{`Cookie: session=""` + token + `""`}, Found{Text: `"` + token + `"`, Place: InCookie}, nil},
		"a cookie with one quote":         {"", []string{`Cookie: session="` + token}, Found{Text: `"` + token, Place: InCookie}, nil},
		"a quote as a cookie":             {"", []string{`Cookie: session="`}, Found{Text: `"`, Place: InCookie}, nil},
		"an empty cookie in quotes":       {"", []string{`Cookie: session=""`}, Found{}, errNoToken},
		"a cookie twice":                  {"", []string{"Cookie: session=" + token + "; session=" + token}, Found{}, errSeveralCookies},
		"a cookie on two lines":           {"", []string{cookie, cookie}, Found{}, errSeveralCookies},
		"a cookie twice, once empty":      {"", []string{"Cookie: session; session=" + token}, Found{}, errSeveralCookies},
		"an empty cookie":                 {"", []string{"Cookie: session="}, Found{}, errNoToken},
		"a cookie without a value":        {"", []string{"Cookie: session"}, Found{}, errNoToken},
		"another's cookie":                {"", []string{"Cookie: Session=" + token + "; session2=" + token}, Found{}, errNoToken},
		"a cookie and a token":            {"", []string{cookie, "Authorization: Bearer a.b.c"}, Found{Text: "a.b.c"}, nil},
		"a cookie and Basic":              {"", []string{cookie, "Authorization: Basic dTpw"}, Found{Text: token, Place: InCookie}, nil},
		"a cookie and a bad header":       {"", []string{cookie, "Authorization: Bearer"}, Found{}, errBadHeader},
		"a cookie and a key":              {"", []string{cookie, "X-API-Key: " + key}, Found{Text: key, IsKey: true}, nil},
		"a key in a cookie":               {"", []string{"Cookie: session=" + key}, Found{Text: key, Place: InCookie}, nil},
		"a parameter":                     {"access_token=" + token, nil, Found{Text: token, Place: InQuery}, nil},
		"a parameter among others":        {"a=1&access_token=" + token + "&b", nil, Found{Text: token, Place: InQuery}, nil},
		"an encoded parameter":            {"access%5Ftoken=e30%2Ee30.c2ln", nil, Found{Text: token[:7] + ".c2ln", Place: InQuery}, nil},
		"a parameter twice":               {"access_token=" + token + "&access_token=" + token, nil, Found{}, errSeveralParameters},
		"a parameter twice, once encoded": {"access_token=" + token + "&%61ccess_token=x", nil, Found{}, errSeveralParameters},
		"a badly encoded parameter":       {"access_token=%zz", nil, Found{}, errBadParameter},
		"an empty parameter":              {"access_token=", nil, Found{}, errNoToken},
		"another's parameter":             {"Access_Token=" + token + "&access_token2=" + token + "&x=access_token", nil, Found{}, errNoToken},
		"a parameter and a token":         {"access_token=" + token, []string{bearer}, Found{}, errHeaderAndQuery},
		"a parameter and a key":           {"access_token=" + token, []string{"X-API-Key: " + key}, Found{}, errHeaderAndQuery},
		"a parameter and a bad header":    {"access_token=" + token, []string{"Authorization: Bearer"}, Found{}, errBadHeader},
		"a parameter and a cookie":        {"access_token=" + token, []string{"Cookie: session=other"}, Found{Text: token, Place: InQuery}, nil},
		"an empty parameter and a cookie": {"access_token=", []string{cookie}, Found{Text: token, Place: InCookie}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := everywhere.Find(newRequest(t, c.query, c.headers...), true)
			if got != c.want || c.fault == nil && err != nil || c.fault != nil && err != error(c.fault) {
				t.Errorf("got %+v and %v, want %+v and %v", got, err, c.want, c.fault)
			}
		})
	}
}

// Each place is looked at only if it is configured, and the query only where the route says so.
func TestFindLooksOnlyWhereItShould(t *testing.T) {
	r := newRequest(t, "access_token="+token, "X-API-Key: "+key, "Cookie: session="+token)
	for name, c := range map[string]struct {
		sources Sources
		inQuery bool
		want    Found
		fault   error
	}{
		"nowhere":                 {Sources{}, true, Found{}, errNoToken},
		"X-API-Key":               {Sources{APIKeys: true}, true, Found{Text: key, IsKey: true}, nil},
		"a cookie":                {Sources{Cookie: "session"}, true, Found{Text: token, Place: InCookie}, nil},
		"the query":               {Sources{QueryParam: "access_token"}, true, Found{Text: token, Place: InQuery}, nil},
		"the query, not a stream": {Sources{QueryParam: "access_token"}, false, Found{}, errNoToken},
	} {
		got, err := c.sources.Find(r, c.inQuery)
		if got != c.want || err != c.fault {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
	}
	// Without API keys, one in the Authorization header is a bad token.
	if got, err := new(Sources).Find(newRequest(t, "", "Authorization: Bearer "+key), true); err != nil || got.IsKey {
		t.Error(got, err)
	}
}

func TestRemoveLeavesEverythingElse(t *testing.T) {
	for query, want := range map[string]string{
		"":                                 "",
		"a=1&b=2":                          "a=1&b=2",
		"access_token=x":                   "",
		"b=2&access_token=x&a=1":           "b=2&a=1",
		"access_token=x&b=%zz;c&&a=%2f":    "b=%zz;c&&a=%2f",
		"%61ccess_token=x&access_token&a=": "a=",
		"access_token2=x&x=access_token":   "access_token2=x&x=access_token",
	} {
		if got := everywhere.RemoveParameter(query); got != want {
			t.Errorf("%s became %s, want %s", query, got, want)
		}
	}
	for name, c := range map[string]struct{ headers, want []string }{
		"only the cookie":      {[]string{"session=x"}, nil},
		"first":                {[]string{"session=x; a=1; b=\"2\""}, []string{"a=1; b=\"2\""}},
		"in the middle":        {[]string{"a=1;session=x; b=2"}, []string{"a=1; b=2"}},
		"last, twice":          {[]string{"a=1; session=x;session=y"}, []string{"a=1"}},
		"on several lines":     {[]string{"a=1", "session = x", "session=y; b=2"}, []string{"a=1", "b=2"}},
		"another one":          {[]string{"Session=x; session2=y"}, []string{"Session=x; session2=y"}},
		"no cookie at all":     {nil, nil},
		"the name as a value":  {[]string{"a=session=x"}, []string{"a=session=x"}},
		"without its value":    {[]string{"session; a=1"}, []string{"a=1"}},
		"with tabs around it":  {[]string{"a=1;\tsession\t=x"}, []string{"a=1"}},
		"something unreadable": {[]string{"=;; ,session"}, []string{"=;; ,session"}},
	} {
		h := http.Header{}
		for _, line := range c.headers {
			h.Add("Cookie", line)
		}
		everywhere.RemoveCookie(h)
		if diff := cmp.Diff(h["Cookie"], c.want); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, c := range [][2][]string{{{key}, nil}, {{"other"}, {"other"}}, {{"other", key}, nil}} {
		h := http.Header{"X-Api-Key": c[0]}
		everywhere.RemoveKey(h)
		if diff := cmp.Diff(h["X-Api-Key"], c[1]); diff != "" {
			t.Error(diff)
		}
	}
	for referer, want := range map[string]string{
		"https://app.example.com/ws?access_token=x":     "https://app.example.com/ws",
		"https://app.example.com/ws?a=1&access_token=x": "https://app.example.com/ws?a=1",
		"https://app.example.com/?a=1":                  "https://app.example.com/?a=1",
		"https://app.example.com/":                      "https://app.example.com/",
	} {
		h := http.Header{"Referer": {referer}}
		everywhere.RemoveFromReferer(h)
		if h.Get("Referer") != want {
			t.Errorf("%s became %s", referer, h.Get("Referer"))
		}
	}
}

func TestCheckOriginKeepsOtherSitesOut(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		allowed bool
	}{
		"an allowed origin":               {[]string{"Origin: https://app.example.com"}, true},
		"an allowed origin, cross-site":   {[]string{"Origin: https://app.example.com", "Sec-Fetch-Site: cross-site"}, true},
		"same origin, without Origin":     {[]string{"Sec-Fetch-Site: same-origin"}, true},
		"another origin":                  {[]string{"Origin: https://evil.example"}, false},
		"another origin, as same":         {[]string{"Origin: https://evil.example", "Sec-Fetch-Site: same-origin"}, false},
		"another scheme":                  {[]string{"Origin: http://app.example.com"}, false},
		"another port":                    {[]string{"Origin: https://app.example.com:8443"}, false},
		"a longer name":                   {[]string{"Origin: https://app.example.com.evil.example"}, false},
		"null":                            {[]string{"Origin: null"}, false},
		"an empty Origin":                 {[]string{"Origin: ", "Sec-Fetch-Site: same-origin"}, false},
		"two origins":                     {[]string{"Origin: https://app.example.com", "Origin: https://app.example.com"}, false},
		"a list of origins":               {[]string{"Origin: https://app.example.com, https://evil.example"}, false},
		"same site, without Origin":       {[]string{"Sec-Fetch-Site: same-site"}, false},
		"cross-site, without Origin":      {[]string{"Sec-Fetch-Site: cross-site"}, false},
		"from the address bar":            {[]string{"Sec-Fetch-Site: none"}, false},
		"nothing":                         {nil, false},
		"a Referer from an allowed page":  {[]string{"Referer: https://app.example.com/"}, false},
		"another case of Sec-Fetch-Site":  {[]string{"Sec-Fetch-Site: Same-Origin"}, false},
		"Sec-Fetch-Site twice, once good": {[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := everywhere.CheckOrigin(newRequest(t, "", c.headers...).Header)
			var crossSite *CrossSiteError
			if (err == nil) != c.allowed || err != nil && !errors.As(err, &crossSite) {
				t.Error(err)
			}
		})
	}
}

// FuzzFind checks that there is never a credential that the upstream would still get, and that
// what is removed was all of it.
func FuzzFind(f *testing.F) {
	f.Add("access_token=x&a=1", "session=y; b=2", "mg_1", "Bearer x")
	f.Add("%61ccess_token=%78", "a; session =\"y\"", "other", "")
	f.Fuzz(func(t *testing.T, query, cookie, apiKey, authorization string) {
		r := newRequest(t, query)
		r.Header = http.Header{"Cookie": {cookie}, "X-Api-Key": {apiKey}}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		found, err := everywhere.Find(r, true)
		var fault *Error
		if (err == nil) != (found.Text != "") || err != nil && !errors.As(err, &fault) {
			t.Fatalf("%+v, %v", found, err)
		}
		r.URL.RawQuery = everywhere.RemoveParameter(query)
		everywhere.RemoveCookie(r.Header)
		everywhere.RemoveKey(r.Header)
		delete(r.Header, "Authorization")
		if found, err := everywhere.Find(r, true); err != errNoToken {
			t.Fatalf("still there: %+v, %v", found, err)
		}
	})
}
