package issuers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

const tokensPage = "../../../../docs/tokens.md"

// recipes returns the YAML of each recipe on the page, by its heading.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(tokensPage)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "\n## Recipes for the usual issuers\n")
	if !found {
		t.Fatal("the page has no recipes")
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	byHeading := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)\n### ([^\n]+)\n\n```yaml\n(.*?)```").FindAllStringSubmatch(rest, -1) {
		byHeading[m[1]] = m[2]
	}
	return byHeading
}

// A recipe is what the vendor's pages say about its tokens. Each token lacks only its times.
type recipe struct {
	header string // of the tokens, with a kid K
	claims string // of a good token, as a member of each vendor's pages looks
	user   string
	org    string
	others []change
}

// A change replaces a part of the claims. plan is what the token then has; empty: it is refused.
type change struct{ from, to, plan string }

// vendors has the tokens of each recipe. The sources are the pages that docs/tokens.md names.
var vendors = map[string]recipe{
	"Auth0": {
		header: `{"alg":"RS256","typ":"JWT","kid":"K"}`,
		claims: `{"https://example.com/plan":"pro","iss":"https://TENANT.auth0.com/","sub":"auth0|6553da60a54af58e29493993","aud":["https://api.example.com","https://TENANT.auth0.com/userinfo"],"azp":"my_client_id","scope":"openid profile","org_id":"org_123"}`,
		user:   "auth0|6553da60a54af58e29493993", org: "org_123",
		others: []change{
			{`"https://example.com/plan":"pro"`, `"https://example.com/plan":null`, "free"},
			{`"https://api.example.com"`, `"https://other.example.com"`, ""},
			{`https://TENANT.auth0.com/","sub"`, `https://TENANT.auth0.com","sub"`, ""},
		},
	},
	"Amazon Cognito": {
		header: `{"kid":"K","alg":"RS256"}`,
		claims: `{"sub":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","cognito:groups":["testers","customers","customers-pro"],"iss":"https://cognito-idp.REGION.amazonaws.com/POOL","version":2,"client_id":"CLIENT","event_id":"e","token_use":"access","scope":"aws.cognito.signin.user.admin","auth_time":1712605372,"jti":"j","username":"my-test-user"}`,
		user:   "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
		others: []change{
			{`["testers","customers","customers-pro"]`, `["customers"]`, "free"},
			{`"cognito:groups":["testers","customers","customers-pro"],`, "", "free"},
			{`"client_id":"CLIENT"`, `"client_id":"OTHER"`, ""},
			{`"client_id":"CLIENT","event_id":"e","token_use":"access"`, `"aud":"CLIENT","token_use":"id"`, ""},
		},
	},
	"Microsoft Entra": {
		header: `{"typ":"JWT","alg":"RS256","kid":"K"}`,
		claims: `{"aud":"API-CLIENT-ID","iss":"https://login.microsoftonline.com/TENANT/v2.0","aio":"x","azp":"web","azpacr":"0","name":"Abe Lincoln","oid":"690222be-ff1a-4d56-abd1-7e4f7d38e474","preferred_username":"abeli@example.com","rh":"I","roles":["Plan.Pro"],"scp":"openid analyze","sub":"HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ","tid":"TENANT","uti":"u","ver":"2.0"}`,
		user:   "690222be-ff1a-4d56-abd1-7e4f7d38e474",
		others: []change{
			{`"roles":["Plan.Pro"],`, "", "free"},
			{`"API-CLIENT-ID"`, `"00000003-0000-0000"`, ""},
			{`"scp":"openid analyze"`, `"scp":"User.Read"`, ""},
			{`TENANT/v2.0`, `OTHER/v2.0`, ""},
		},
	},
	"Firebase": {
		header: `{"alg":"RS256","kid":"K","typ":"JWT"}`,
		claims: `{"plan":"pro","iss":"https://securetoken.google.com/PROJECT","aud":"PROJECT","auth_time":1712605372,"user_id":"uid1","sub":"uid1","email":"a@example.com","email_verified":true,"firebase":{"identities":{"email":["a@example.com"]},"sign_in_provider":"password"}}`,
		user:   "uid1",
		others: []change{
			{`"plan":"pro",`, "", "free"},
			{`"sign_in_provider":"password"`, `"sign_in_provider":"anonymous"`, ""},
			{`"aud":"PROJECT"`, `"aud":"OTHER"`, ""},
		},
	},
	"Supabase": {
		header: `{"alg":"ES256","kid":"K","typ":"JWT"}`,
		claims: `{"iss":"https://PROJECT.supabase.co/auth/v1","aud":"authenticated","sub":"123e4567-e89b-12d3-a456-426614174000","role":"authenticated","aal":"aal1","session_id":"s","email":"a@example.com","phone":"","is_anonymous":false,"amr":[{"method":"password","timestamp":1640991600}],"app_metadata":{"provider":"email","providers":["email"],"plan":"pro"},"user_metadata":{"plan":"enterprise"}}`,
		user:   "123e4567-e89b-12d3-a456-426614174000",
		others: []change{
			{`,"plan":"pro"},"user_metadata"`, `},"user_metadata"`, "free"},
			{`"is_anonymous":false`, `"is_anonymous":true`, ""},
			{`"role":"authenticated"`, `"role":"service_role"`, ""},
		},
	},
	"Clerk": {
		header: `{"alg":"RS256","cat":"c","kid":"K","typ":"JWT"}`,
		claims: `{"azp":"https://app.example.com","fea":"o:dashboard","fva":[7,-1],"iss":"https://clerk.example.com","jti":"j","o":{"id":"org_123","rol":"admin","slg":"acme"},"pla":"o:team","sid":"sess_123","sts":"active","sub":"user_123","v":2}`,
		user:   "user_123", org: "org_123",
		others: []change{
			{`"pla":"o:team"`, `"pla":"u:pro"`, "pro"},
			{`"pla":"o:team"`, `"pla":"u:free"`, "free"},
			{`https://app.example.com`, `https://evil.example.com`, ""},
			{`"azp":"https://app.example.com",`, "", ""},
		},
	},
	"Keycloak": {
		header: `{"alg":"RS256","typ":"JWT","kid":"K"}`,
		claims: `{"jti":"j","iss":"https://HOST/realms/REALM","aud":["analysis","account"],"sub":"f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e","typ":"Bearer","azp":"web","sid":"s","acr":"1","allowed-origins":["https://app.example.com"],"realm_access":{"roles":["default-roles-realm","offline_access","plan-pro"]},"resource_access":{"account":{"roles":["view-profile"]}},"scope":"openid email profile","email_verified":true,"preferred_username":"ada"}`,
		user:   "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
		others: []change{
			{`,"plan-pro"`, "", "free"},
			{`"aud":["analysis","account"]`, `"aud":"account"`, ""},
			{`"azp":"web"`, `"azp":"other"`, ""},
			{`"typ":"Bearer"`, `"typ":"ID"`, ""},
		},
	},
}

// published serves the keys of a recipe in the vendor's form.
func published(t *testing.T, key *issuer, ec *ecdsa.PrivateKey, form string) string {
	t.Helper()
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"keys":[%s,{"kid":"E","kty":"EC","crv":"P-256","use":"sig","x":%q,"y":%q}]}`,
		rsaJWK(key.rsa.N.Bytes(), `"kid":"K","use":"sig","x5t":"K","x5c":[`+fmt.Sprintf("%q", base64.StdEncoding.EncodeToString(key.certificate(t)))+`],`), encode(string(point[1:33])), encode(string(point[33:])))
	if form == "x509_url" {
		data, err := json.Marshal(map[string]string{"K": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.certificate(t)}))})
		if err != nil {
			t.Fatal(err)
		}
		text = string(data)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }))
	t.Cleanup(server.Close)
	return server.URL
}

var keysURL = regexp.MustCompile(`(jwks_url|x509_url): \S+`)

// Each recipe of docs/tokens.md, as it stands there, accepts the vendor's tokens, knows user, plan
// and organisation, and refuses what is not for this API. Only the keys are ours.
func TestRecipesOfTokensPage(t *testing.T) {
	found := recipes(t)
	if want, got := slices.Sorted(maps.Keys(vendors)), slices.Sorted(maps.Keys(found)); !slices.Equal(want, got) {
		t.Fatalf("the page has recipes for %q, want %q", got, want)
	}
	key := newIssuer(t, func(*issuer) []string { return nil })
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signEC := func(message []byte) []byte {
		hash := sha256.Sum256(message)
		r, s, err := ecdsa.Sign(rand.Reader, ec, hash[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	upstream := gatewaytest.StartUpstream(t, "ok")
	for name, v := range vendors {
		t.Run(name, func(t *testing.T) {
			form := keysURL.FindStringSubmatch(found[name])
			if form == nil {
				t.Fatalf("the recipe has no URL of keys:\n%s", found[name])
			}
			url := published(t, key, ec, form[1])
			text := gatewaytest.ReloadYAML(upstream.URL, 100)
			before, rest, _ := strings.Cut(text, "auth: ")
			_, after, _ := strings.Cut(rest, "\n")
			text = before + keysURL.ReplaceAllString(found[name], "$1: "+url) + strings.Replace(after, "plans:", "plans:\n  pro: { limits: [] }", 1)
			g := gatewaytest.StartWith(t, text)
			testkit.EventuallyWithin(t, time.Minute, "the gateway is ready", func() bool {
				status, _ := gatewaytest.Get(g.Admin+"/readyz", "")
				return status == 200
			})
			sign := key.signRSA
			header := v.header
			if strings.Contains(header, "ES256") {
				sign, header = signEC, strings.Replace(header, `"K"`, `"E"`, 1)
			}
			token := signToken(header, v.claims, sign)
			wantUsage(t, g.URL, token, "pro")
			_, body := gatewaytest.Get(g.URL+"/usage", token)
			var usage struct{ User, Org string }
			if err := json.Unmarshal([]byte(body), &usage); err != nil || usage.User != v.user || usage.Org != v.org {
				t.Errorf("the user is %q of %q, want %q of %q: %v", usage.User, usage.Org, v.user, v.org, err)
			}
			for _, c := range v.others {
				if !strings.Contains(v.claims, c.from) {
					t.Fatalf("the claims do not have %s", c.from)
				}
				t.Logf("with %q for %q", c.to, c.from)
				wantUsage(t, g.URL, signToken(header, strings.Replace(v.claims, c.from, c.to, 1), sign), c.plan)
			}
		})
	}
}
