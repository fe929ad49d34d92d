package browsers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"
	"github.com/golang-jwt/jwt/v5"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// recipes returns the JavaScript of the section Recipes in docs/frontend.md by its headings.
func recipes(t *testing.T, url string) map[string]string {
	t.Helper()
	_, section, found := strings.Cut(string(testkit.ReadFile(t, "docs/frontend.md")), "\n## Recipes\n")
	if !found {
		t.Fatal("docs/frontend.md has no section Recipes")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	byHeading := map[string]string{}
	for part := range strings.SplitSeq(section, "\n### ") {
		heading, text, _ := strings.Cut(part, "\n")
		if block := codeBlock.FindStringSubmatch(text); block != nil {
			byHeading[heading] = strings.ReplaceAll(block[2], "https://gateway.example.com", url)
		}
	}
	return byHeading
}

// The recipes of docs/frontend.md work with the libraries that they are for: calls have the token, also
// after it has been refused, and the client sees what they used.
func TestRecipesWork(t *testing.T) {
	modules := browsertest.NodeModules(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"answered"},"finish_reason":"stop"}]}`)
	}))
	t.Cleanup(upstream.Close)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, strings.Replace(browserYAML, "routes:\n", "routes:\n  - { match: \"POST /v1/chat/completions\", endpoint: chat, upstream: analysis }\n", 1))
	p := gatewaytest.StartFile(t, []string{"STORE=embedded:" + t.TempDir(), "UPSTREAM=" + upstream.URL}, file).Process

	codes := recipes(t, p.URL)
	for heading, use := range map[string]string{
		"OpenAI SDK":     `(await recipe.openai.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'Hello' }] })).choices[0].message.content`,
		"axios":          `(await recipe.api.post('/api/analyze', { text: 'Hello' })).data.choices[0].message.content`,
		"ky":             `(await recipe.api.post('api/analyze', { json: { text: 'Hello' } }).json()).choices[0].message.content`,
		"TanStack Query": `JSON.parse(await recipe.queries.fetchQuery({ queryKey: ['analyze'], queryFn: () => recipe.analyze('Hello') })).choices[0].message.content`,
	} {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			code := codes[heading]
			if code == "" {
				t.Fatal("docs/frontend.md has no such recipe")
			}
			dir := t.TempDir()
			for name, target := range map[string]string{
				"@metergate/client":    filepath.Join(testkit.ModuleRoot(t), "proxy/browser"),
				"openai":               filepath.Join(modules, "openai7"),
				"axios":                filepath.Join(modules, "axios"),
				"ky":                   filepath.Join(modules, "ky"),
				"@tanstack/query-core": filepath.Join(modules, "@tanstack/query-core"),
			} {
				link := filepath.Join(dir, "node_modules", name)
				if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, link); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(dir, "package.json"), `{ "type": "module" }`)
			// The token that the page has at first has expired.
			user := "recipe " + heading
			expired := testkit.SignedToken(jwt.MapClaims{"sub": user, "plan": "free", "exp": time.Now().Add(-time.Hour).Unix()})
			write(t, filepath.Join(dir, "session.js"), fmt.Sprintf(`let token = %q;
export const getToken = ({ refresh }) => { if (refresh) token = %q; return token; };`, expired, testkit.Token(user, "free")))
			plain := api.Transform(code, api.TransformOptions{Loader: api.LoaderTS})
			write(t, filepath.Join(dir, "recipe.js"), string(plain.Code))
			write(t, filepath.Join(dir, "use.js"), fmt.Sprintf(`import * as recipe from './recipe.js';
const answers = [%[1]s, %[1]s];
const usage = await recipe.client.refresh();
console.log(JSON.stringify({ answers, user: usage.user, used: usage.used }));
process.exit();`, use))
			cmd := exec.Command("node", "use.js")
			cmd.Dir, cmd.Stderr = dir, os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var got struct {
				Answers []string
				User    string
				Used    int
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			want := "[answered answered] recipe " + heading
			if s := fmt.Sprint(got.Answers, " ", got.User); s != want || got.Used != 2 {
				t.Errorf("%s, %d used, want %s, 2 used", s, got.Used, want)
			}
		})
	}
}
