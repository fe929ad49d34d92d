package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy"
	"metergate/proxy/apikeys"
	"metergate/proxy/jwtauth"
)

func encode(text []byte) string { return base64.RawURLEncoding.EncodeToString(text) }

// hmacToken signs any header and claims with HS256.
func hmacToken(key []byte, header, claims string) string {
	signed := encode([]byte(header)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// newVerifier returns a verifier of one or more issuers.
func newVerifier(t *testing.T, options ...jwtauth.Options) *jwtauth.Verifier {
	t.Helper()
	var issuers []*jwtauth.Issuer
	for _, o := range options {
		issuer, err := jwtauth.NewIssuer(o)
		if err != nil {
			t.Fatal(err)
		}
		issuers = append(issuers, issuer)
	}
	v, err := jwtauth.NewVerifier(nil, issuers...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// ecJWK returns a public key as a member of a JSON Web Key Set.
func ecJWK(t *testing.T, kid string, key *ecdsa.PrivateKey) string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"EC","kid":%q,"crv":"P-256","x":%q,"y":%q}`, kid, encode(point[1:33]), encode(point[33:]))
}

// appOrigin is an origin from which requests with the cookie may come.
const appOrigin = "https://app.example.com"

// acceptEverywhere has a gateway accept credentials in all places. The keys are a file of API keys.
func acceptEverywhere(t *testing.T, o *proxy.Options, keys string) {
	t.Helper()
	var faults []apikeys.Fault
	var err error
	if o.APIKeys, faults, err = apikeys.Read(strings.NewReader(keys), func(plan string) bool { return o.Plans[plan] != nil }); err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	o.Cookie, o.CookieOrigins, o.QueryParam = "session", []string{appOrigin}, "access_token"
}

// A way is how a request brings a token: the headers, "Name: value", and what follows the path.
type way func(token string) (headers []string, query string)

var tokenWays = map[string]way{
	"in the header": func(token string) ([]string, string) { return []string{"Authorization: Bearer " + token}, "" },
	"in a cookie": func(token string) ([]string, string) {
		return []string{"Cookie: theme=dark; session=" + token, "Origin: " + appOrigin}, ""
	},
	"in the query": func(token string) ([]string, string) { return nil, "?access_token=" + url.QueryEscape(token) },
}

// TestBadTokenAnswers401: whatever is wrong with a token, and wherever it is, the answer is 401,
// nothing reaches an upstream or the store, and nothing is fetched from where the token points.
// That there are other issuers, one of them an attacker, makes no difference.
func TestBadTokenAnswers401(t *testing.T) {
	t.Run("one issuer", func(t *testing.T) { sendBadTokens(t, false) })
	t.Run("several issuers", func(t *testing.T) { sendBadTokens(t, true) })
}

func sendBadTokens(t *testing.T, several bool) {
	began := time.Now()
	issuer, attacker := newECKey(t), newECKey(t)
	set := `{"keys":[` + ecJWK(t, "k", issuer) + `]}`
	var asked, lured atomic.Int64
	keyServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		io.WriteString(w, set)
	}))
	defer keyServer.Close()
	lure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"keys":[`+ecJWK(t, "k", attacker)+`]}`)
	}))
	lure.Config.ConnState = func(net.Conn, http.ConnState) { lured.Add(1) }
	lure.Start()
	defer lure.Close()
	keys := jwtauth.NewKeySet(jwtauth.JWKS, keyServer.URL, slog.New(slog.DiscardHandler))
	if err := keys.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys.Start()
	defer keys.Retire()
	r := newTestGateway(t, setup{change: func(o *proxy.Options) {
		acceptEverywhere(t, o, "[]")
		issuers := []jwtauth.Options{{
			Secret: secret, KeySet: keys, Algorithms: []string{"HS256", "ES256"}, Issuer: "i",
			Type: "at+jwt", UserClaim: "app.user", PlanClaim: "app.plan",
		}}
		if several {
			issuers = append(issuers,
				jwtauth.Options{Name: "attacker", Issuer: "attacker", Algorithms: []string{"ES256"}, PublicKeyPEM: publicPEM(t, attacker), UserClaim: "app.user"},
				jwtauth.Options{Issuer: "another", Algorithms: []string{"HS256"}, Secret: append([]byte("another "), secret...), UserClaim: "app.user"})
		}
		o.Verifier = newVerifier(t, issuers...)
	}})

	exp := fmt.Sprintf(`"exp":%d`, time.Now().Add(time.Hour).Unix())
	const header = `{"alg":"HS256","typ":"at+jwt"}`
	claims := func(more string) string { return `{"iss":"i",` + exp + `,` + more + `}` }
	subject := func(text string) string { return hmacToken(secret, header, claims(`"app":{"user":`+text+`}`)) }
	signed := func(h string) string { return hmacToken(secret, h, claims(`"app":{"user":"u"}`)) }
	ec := func(key *ecdsa.PrivateKey, fields ...any) string {
		token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "i", "app": map[string]string{"user": "u"}, "exp": time.Now().Add(time.Hour).Unix()})
		token.Header["typ"] = "at+jwt"
		for i := 0; i < len(fields); i += 2 {
			token.Header[fields[i].(string)] = fields[i+1]
		}
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	der, err := x509.MarshalPKIXPublicKey(issuer.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := subject(`"u"`)
	unsigned := func(alg string) string {
		return encode([]byte(`{"alg":"`+alg+`","typ":"at+jwt"}`)) + "." + strings.Split(good, ".")[1] + "."
	}

	for _, token := range []string{good, ec(issuer, "kid", "k"), ec(issuer), ec(issuer, "kid", "k", "typ", "application/AT+jwt")} {
		if res := r.do(token, "POST", "/api/analyze", strings.NewReader("text")); res.StatusCode != 200 {
			t.Fatalf("a good token: %s %s", res.Status, res.body)
		}
	}
	for where, bring := range tokenWays {
		headers, query := bring(good)
		if res := r.do("", "HEAD", "/usage/stream"+query, nil, headers...); res.StatusCode != 200 {
			t.Fatalf("a good token %s: %s", where, res.Status)
		}
	}
	sent, calls := len(r.requests()), r.store.calls.Load()

	for name, fields := range map[string][]string{
		"no token":                     {},
		"too long":                     {"Bearer " + hmacToken(secret, header, claims(`"app":{"user":"u"},"x":"`+strings.Repeat("x", 12_400)+`"`))},
		"far too long":                 {"Bearer " + strings.Repeat("A.", 30_000)},
		"an unknown crit":              {"Bearer " + signed(`{"alg":"HS256","typ":"at+jwt","crit":["exp"]}`)},
		"an empty crit":                {"Bearer " + signed(`{"alg":"HS256","typ":"at+jwt","crit":[]}`)},
		"alg twice":                    {"Bearer " + signed(`{"alg":"none","alg":"HS256","typ":"at+jwt"}`)},
		"typ twice":                    {"Bearer " + signed(`{"alg":"HS256","typ":"JWT","typ":"at+jwt"}`)},
		"exp twice":                    {"Bearer " + hmacToken(secret, header, claims(`"exp":1,"app":{"user":"u"}`))},
		"the object twice":             {"Bearer " + hmacToken(secret, header, claims(`"app":{"user":"v"},"app":{"user":"u"}`))},
		"the user twice":               {"Bearer " + hmacToken(secret, header, claims(`"app":{"user":"v","user":"u"}`))},
		"the user twice, once escaped": {"Bearer " + hmacToken(secret, header, claims(`"app":{"user":"v","\u0075ser":"u"}`))},
		"something twice, deep within": {"Bearer " + hmacToken(secret, header, claims(`"app":{"user":"u"},"x":[{"y":{"z":1,"z":2}}]`))},
		"the object in another case":   {"Bearer " + hmacToken(secret, header, claims(`"APP":{"user":"u"}`))},
		"the user in another case":     {"Bearer " + hmacToken(secret, header, claims(`"app":{"User":"u"}`))},
		"exp in another case":          {"Bearer " + hmacToken(secret, header, strings.Replace(claims(`"app":{"user":"u"}`), "exp", "EXP", 1))},
		"no user":                      {"Bearer " + hmacToken(secret, header, claims(`"app":{}`))},
		"only sub":                     {"Bearer " + hmacToken(secret, header, claims(`"sub":"u"`))},
		"an empty user":                {"Bearer " + subject(`""`)},
		"a user of 257 bytes":          {"Bearer " + subject(`"`+strings.Repeat("u", 257)+`"`)},
		"a line break":                 {"Bearer " + subject(`"u\nadmin"`)},
		"a NUL":                        {"Bearer " + subject(`"u\u0000"`)},
		"DEL":                          {"Bearer " + subject(`"u\u007f"`)},
		"a C1 control":                 {"Bearer " + subject(`"u\u0085"`)},
		"a line separator":             {"Bearer " + subject(`"u\u2028"`)},
		"half a surrogate":             {"Bearer " + subject(`"u\ud800"`)},
		"bad UTF-8":                    {"Bearer " + subject("\"u\xff\"")},
		"a number":                     {"Bearer " + subject(`17`)},
		"null":                         {"Bearer " + subject(`null`)},
		"a list":                       {"Bearer " + subject(`["u"]`)},
		"alg none":                     {"Bearer " + unsigned("none")},
		"alg None":                     {"Bearer " + unsigned("None")},
		"alg NONE":                     {"Bearer " + unsigned("NONE")},
		"alg nOnE":                     {"Bearer " + unsigned("nOnE")},
		"alg none, signed":             {"Bearer " + signed(`{"alg":"none","typ":"at+jwt"}`)},
		"no alg":                       {"Bearer " + signed(`{"typ":"at+jwt"}`)},
		"HMAC with the PEM":            {"Bearer " + hmacToken(publicPEM(t, issuer), header, claims(`"app":{"user":"u"}`))},
		"HMAC with the DER":            {"Bearer " + hmacToken(der, header, claims(`"app":{"user":"u"}`))},
		"HMAC with the key set":        {"Bearer " + hmacToken([]byte(set), `{"alg":"HS256","typ":"at+jwt","kid":"k"}`, claims(`"app":{"user":"u"}`))},
		"HMAC with nothing":            {"Bearer " + hmacToken(nil, header, claims(`"app":{"user":"u"}`))},
		"HMAC, called ES256":           {"Bearer " + signed(`{"alg":"ES256","typ":"at+jwt","kid":"k"}`)},
		"an empty kid":                 {"Bearer " + ec(issuer, "kid", "")},
		"a kid that is a path":         {"Bearer " + ec(issuer, "kid", "../../../../dev/null")},
		"a kid that is SQL":            {"Bearer " + ec(issuer, "kid", "k' UNION SELECT 'AA' --")},
		"a kid that is a URL":          {"Bearer " + ec(attacker, "kid", lure.URL)},
		"a kid with a line break":      {"Bearer " + ec(issuer, "kid", "k\n")},
		"a kid that is a list":         {"Bearer " + ec(issuer, "kid", []string{"k"})},
		"a long kid":                   {"Bearer " + ec(issuer, "kid", strings.Repeat("k", 300))},
		"another's key":                {"Bearer " + ec(attacker, "kid", "k")},
		"jku":                          {"Bearer " + ec(attacker, "kid", "k", "jku", lure.URL)},
		"x5u":                          {"Bearer " + ec(attacker, "kid", "k", "x5u", lure.URL)},
		"jku and a kid of its own":     {"Bearer " + ec(attacker, "kid", "z", "jku", lure.URL, "x5u", lure.URL)},
		"exp as a text":                {"Bearer " + hmacToken(secret, header, `{"iss":"i","exp":"4102444800","app":{"user":"u"}}`)},
		"exp in milliseconds":          {"Bearer " + hmacToken(secret, header, `{"iss":"i","exp":4102444800000,"app":{"user":"u"}}`)},
		"no exp":                       {"Bearer " + hmacToken(secret, header, `{"iss":"i","app":{"user":"u"}}`)},
		"exp past":                     {"Bearer " + hmacToken(secret, header, `{"iss":"i","exp":1000000000,"app":{"user":"u"}}`)},
		"nbf as a text":                {"Bearer " + hmacToken(secret, header, claims(`"nbf":"0","app":{"user":"u"}`))},
		"nbf to come":                  {"Bearer " + hmacToken(secret, header, claims(`"nbf":4102444800,"app":{"user":"u"}`))},
		"iat as a text":                {"Bearer " + hmacToken(secret, header, claims(`"iat":"0","app":{"user":"u"}`))},
		"another typ":                  {"Bearer " + signed(`{"alg":"HS256","typ":"JWT"}`)},
		"no typ":                       {"Bearer " + signed(`{"alg":"HS256"}`)},
		"TYP":                          {"Bearer " + signed(`{"alg":"HS256","TYP":"at+jwt"}`)},
		"two good tokens":              {"Bearer " + good, "Bearer " + good},
		"a good token and another":     {"Bearer " + good, "Basic dTpw"},
		"two tokens in one field":      {"Bearer " + good + ", Bearer " + good},
		"a good token and something":   {"Bearer " + good + " x"},
		"a good token in Basic":        {"Basic " + good},
		"a good token, cut":            {"Bearer " + good[:len(good)-1]},
		"a good token and more":        {"Bearer " + good + "A"},
		"a good token, padded":         {"Bearer " + good + "="},
		"another issuer":               {"Bearer " + hmacToken(secret, header, `{"iss":"another",`+exp+`,"app":{"user":"u"}}`)},
		"a stranger":                   {"Bearer " + hmacToken(secret, header, `{"iss":"stranger",`+exp+`,"app":{"user":"u"}}`)},
		"no issuer":                    {"Bearer " + hmacToken(secret, header, `{`+exp+`,"app":{"user":"u"}}`)},
		"two issuers":                  {"Bearer " + hmacToken(secret, header, claims(`"iss":"attacker","app":{"user":"u"}`))},
		"encrypted":                    {"Bearer e30.e30.e30.e30.e30"},
	} {
		for _, target := range []string{"POST /api/analyze", "GET /api/status", "GET /usage", "GET /usage/stream", "POST /usage/track"} {
			method, path, _ := strings.Cut(target, " ")
			headers := make([]string, len(fields))
			for i, f := range fields {
				headers[i] = "Authorization: " + f
			}
			send := func(where string, query string, headers ...string) {
				t.Helper()
				res := r.do("", method, path+query, nil, headers...)
				for res.StatusCode == 503 && strings.Contains(name, "kid") {
					res = r.do("", method, path+query, nil, headers...) // the key server was too slow for this one
				}
				if res.StatusCode != 401 || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer ") ||
					res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("X-Usage") != "" {
					t.Errorf("%s, %s: %s: %s %v %s", name, where, target, res.Status, res.Header, res.body)
				}
			}
			send("in the header", "", headers...)
			bad, isBearer := strings.CutPrefix(strings.Join(fields, ""), "Bearer ")
			if !isBearer || len(fields) > 1 {
				continue
			}
			for where, bring := range tokenWays {
				if headers, query := bring(bad); where != "in the header" {
					send(where, query, headers...)
				}
			}
		}
	}
	if n := len(r.requests()) - sent; n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	if n := r.store.calls.Load() - calls; n != 0 {
		t.Errorf("the store was called %d times", n)
	}
	if n := lured.Load(); n != 0 {
		t.Errorf("%d connections to where the tokens lead", n)
	}
	if res, err := http.Get(lure.URL); err != nil || lured.Load() == 0 {
		t.Errorf("a connection there would not be seen: %v, %v", res, err)
	}
	// One fetch at the start, then at most one in ten seconds, however many kids are unknown.
	if n := asked.Load(); n > 1+1+int64(time.Since(began)/(10*time.Second)) {
		t.Errorf("the key server was asked %d times", n)
	}
}

// TestTokenBeforeFirstKeysAnswers503: a token that cannot be checked yet is not bad.
// Neither the upstream nor the store is called.
func TestTokenBeforeFirstKeysAnswers503(t *testing.T) {
	keys := jwtauth.NewKeySet(jwtauth.JWKS, "http://127.0.0.1:1/keys", slog.New(slog.DiscardHandler))
	if err := keys.Fetch(t.Context()); err == nil {
		t.Fatal("keys were fetched from an address where nothing listens")
	}
	r := newTestGateway(t, setup{change: func(o *proxy.Options) {
		var err error
		if o.Verifier, err = jwtauth.New(jwtauth.Options{KeySet: keys, Algorithms: []string{"ES256"}}); err != nil {
			t.Fatal(err)
		}
	}})
	undecided := encode([]byte(`{"alg":"ES256","kid":"k"}`)) + ".e30.AAAA"
	for _, target := range []string{"POST /api/analyze", "GET /api/status", "GET /usage", "GET /usage/stream"} {
		method, path, _ := strings.Cut(target, " ")
		res := r.do(undecided, method, path, nil)
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || res.Header.Get("WWW-Authenticate") != "" ||
			!strings.Contains(res.body, `"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"`) {
			t.Errorf("%s: %s %v %s", target, res.Status, res.Header, res.body)
		}
	}
	if res := r.do("", "GET", "/api/health", nil); res.StatusCode != 200 {
		t.Errorf("a public route: %s", res.Status)
	}
	if sent, calls := len(r.requests()), r.store.calls.Load(); sent != 1 || calls != 0 {
		t.Errorf("%d requests reached the upstream, want only the one to /api/health; the store was called %d times", sent, calls)
	}
}

// TestStreamEndsWhenTokenIsRefused: a stream ends when its token is no longer good, even
// if by the gateway's clock it has not expired.
func TestStreamEndsWhenTokenIsRefused(t *testing.T) {
	var ahead atomic.Int64 // of the verifier's clock
	r := newTestGateway(t, setup{change: func(o *proxy.Options) {
		var err error
		o.Verifier, err = jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"},
			Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
	}})
	s := r.stream(token("u", ""))
	s.usage()
	ahead.Store(int64(2 * time.Hour))
	long := hmacToken(secret, `{"alg":"HS256"}`, fmt.Sprintf(`{"sub":"u","exp":%d}`, time.Now().Add(9*time.Hour).Unix()))
	if res := r.do(long, "POST", "/api/analyze", strings.NewReader("text")); res.StatusCode != 200 {
		t.Fatalf("%s %s", res.Status, res.body)
	}
	if e, ok := s.next(); !ok || e.name != "end" || e.data != `{"reason":"reload"}` {
		t.Errorf("%+v, want the end", e)
	}
}
