package documents

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// startModel is an OpenAI-compatible server. It answers from the testdata of proxy/reported, and says
// that each call took 2,001 tokens.
func startModel(t *testing.T) *httptest.Server {
	t.Helper()
	file := func(name string) string {
		text := string(testkit.ReadFile(t, "proxy/reported/testdata/"+name))
		return strings.NewReplacer(`"total_tokens":29`, `"total_tokens":2001`, `"total_tokens": 29`, `"total_tokens": 2001`).Replace(text)
	}
	plain, stream, without := file("openai-chat.json"), file("openai-chat-stream.txt"), file("openai-chat-stream-without-usage.txt")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Model         string
			Stream        bool
			StreamOptions struct {
				IncludeUsage bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Model == "" || r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "" {
			http.Error(w, fmt.Sprintf("%s %s: %v %v", r.Method, r.URL, r.Header, err), 400)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if asked.Stream {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		}
		switch {
		case !asked.Stream:
			io.WriteString(w, plain)
		case asked.StreamOptions.IncludeUsage:
			io.WriteString(w, stream)
		default:
			io.WriteString(w, without)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// startLLMGateway starts a gateway with the configuration of docs/llm.md.
func startLLMGateway(t *testing.T) *gatewaytest.Reloadable {
	t.Helper()
	return startWithExample(t, startModel(t), codeBlocks(t, "docs/llm.md", "yaml")[0])
}

// startWithExample starts a gateway with the example configuration and the keys of another one in
// place of its own.
func startWithExample(t *testing.T, models *httptest.Server, keys string) *gatewaytest.Reloadable {
	t.Helper()
	var whole, part map[string]yaml.Node
	err := yaml.Unmarshal(testkit.ReadFile(t, "gateway.yaml"), &whole)
	if err == nil {
		err = yaml.Unmarshal([]byte(keys), &part)
	}
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(whole, part)
	text, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	testkit.WriteFile(t, file, strings.Replace(string(text), "timeout: 250ms", "timeout: 20s", 1)) // on a busy machine
	return gatewaytest.StartFile(t, append(environment(dir), "LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0",
		"MODELS_URL="+models.URL, "REDIS_URL=embedded:"+t.TempDir(), "JOURNAL="+t.TempDir()), file)
}

// wantUnits compares what a user has used, once a client has read the whole answer.
func wantUnits(t *testing.T, gateway *gatewaytest.Reloadable, user string, want int64) {
	t.Helper()
	if got := gatewaytest.Usage(t, gateway.Process, testkit.Token(user, "")); got.Used != want || got.InFlight != 0 {
		t.Errorf("%s has used %d units and holds %d; want %d and 0", user, got.Used, got.InFlight, want)
	}
}

// The example for JavaScript works with OpenAI's SDK, and each stream is charged what it reports.
func TestLLMPageWorksWithSDK(t *testing.T) {
	node := findProgram(t, "node")
	gateway := startLLMGateway(t)
	example := codeBlocks(t, "docs/llm.md", "js")[0]
	example = strings.ReplaceAll(example, "https://gateway.example.com", gateway.URL)
	for _, sdk := range []string{"openai4", "openai5", "openai6", "openai7"} {
		t.Run(sdk, func(t *testing.T) {
			dir := t.TempDir()
			installed := filepath.Join(testkit.ModuleRoot(t), ".ci/npm/node_modules", sdk)
			if _, err := os.Stat(installed); err != nil {
				if os.Getenv(redistest.RequireEnv) != "" {
					t.Fatal(err)
				}
				t.Skip("run .ci/install for the npm packages: ", err)
			}
			err := os.Mkdir(filepath.Join(dir, "node_modules"), 0o700)
			if err == nil {
				err = os.Symlink(installed, filepath.Join(dir, "node_modules/openai"))
			}
			if err != nil {
				t.Fatal(err)
			}
			run := func(user, example string) {
				t.Helper()
				testkit.WriteFile(t, filepath.Join(dir, "example.mjs"), example)
				cmd := exec.Command(node, "example.mjs")
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "TOKEN="+testkit.Token(user, "pro"))
				out, err := cmd.CombinedOutput()
				if want := `Grüße from the 🐟, said "usage": {"total_tokens": 9}.`; string(out) != want || err != nil {
					t.Errorf("error %v, the example prints\n%s\nwant\n%s", err, out, want)
				}
			}
			withToken := strings.Replace(example, "apiKey: token", "apiKey: process.env.TOKEN", 1)
			// The SDK may end before it has read the end of the body, with which the cost is counted.
			charged := func(user string, units int64) {
				t.Helper()
				testkit.Eventually(t, fmt.Sprintf("%s is charged %d units", user, units), func() bool {
					got := gatewaytest.Usage(t, gateway.Process, testkit.Token(user, ""))
					return got.Used == units && got.InFlight == 0
				})
			}
			run(sdk, withToken)
			charged(sdk, 3)
			run(sdk+"-without", strings.Replace(withToken, "  stream_options: { include_usage: true },\n", "", 1))
			charged(sdk+"-without", 8)
		})
	}
}

// The command that asks for trailers prints the final cost.
func TestLLMPageShowsFinalCost(t *testing.T) {
	gateway := startLLMGateway(t)
	command := strings.ReplaceAll(codeBlocks(t, "docs/llm.md", "sh")[0], "http://127.0.0.1:8080", gateway.URL)
	cmd := exec.Command("bash", "-ec", command)
	cmd.Env = append(os.Environ(), "TOKEN="+testkit.Token("u", "pro"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(out), "\r\n\r\n")
	if !strings.Contains(head, "\r\nX-Usage-Cost: 1\r\n") || !strings.Contains(rest, `"total_tokens": 2001`) || !strings.HasSuffix(strings.TrimSpace(rest), "\nX-Usage-Cost: 3") {
		t.Errorf("the command prints\n%s", out)
	}
	wantUnits(t, gateway, "u", 3)
}

// Each path of the page's table charges what the recorded answers of its API report.
func TestLLMPagePathsCharge(t *testing.T) {
	answers := map[string]map[string]int64{ // by path: the files in proxy/reported/testdata, and what they report
		"usage.total_tokens":            {"openai-chat.json": 29, "openai-chat-stream.txt": 29, "openai-chat-stream-tools.txt": 52, "openai-responses.json": 48},
		"response.usage.total_tokens":   {"openai-responses-stream.txt": 48},
		"usage.output_tokens":           {"anthropic-messages.json": 15, "anthropic-messages-stream.txt": 15},
		"usageMetadata.totalTokenCount": {"gemini.json": 9, "gemini-array.json": 9, "gemini-stream.txt": 9},
		"eval_count":                    {"ollama-chat.ndjson": 282},
	}
	types := map[string]string{".json": "application/json", ".txt": "text/event-stream", ".ndjson": "application/x-ndjson"}
	models := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		w.Header().Set("Content-Type", types[filepath.Ext(name)])
		w.Write(testkit.ReadFile(t, "proxy/reported/testdata/"+name))
	}))
	t.Cleanup(models.Close)
	keys := "plans: { free: { limits: [{ units: 1000000, per: month }] } }\n" +
		"upstreams: { models: { targets: [{ url: \"${MODELS_URL}\" }] } }\nroutes:\n"
	for path := range answers {
		keys += fmt.Sprintf("  - { match: \"POST /%s/{file}\", endpoint: chat, upstream: models, cost: { max: 1000, from: \"json %s\" } }\n", path, path)
	}
	gateway := startWithExample(t, models, keys)
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| .* \\| `([a-zA-Z_.]+)` \\| (?:input|output)").FindAllStringSubmatch(markdownPages(t)["docs/llm.md"].text, -1) {
		documented[m[1]] = true
		if answers[m[1]] == nil {
			t.Errorf("docs/llm.md has the path %s, and this test no answer for it", m[1])
		}
	}
	for path, files := range answers {
		if !documented[path] {
			t.Errorf("docs/llm.md does not have the path %s", path)
		}
		for file, want := range files {
			url := gateway.URL + "/" + path + "/" + file
			if status := gatewaytest.Post(http.DefaultClient, url, testkit.Token(file, "free")); status != 200 {
				t.Errorf("%s: status %d", url, status)
			}
			wantUnits(t, gateway, file, want)
		}
	}
}

// OpenAI's SDK for Python is not installed here. The example is Python all the same.
func TestLLMPageHasPython(t *testing.T) {
	cmd := exec.Command(findProgram(t, "python3"), "-c", "import ast, sys; ast.parse(sys.stdin.read())")
	cmd.Stdin = strings.NewReader(codeBlocks(t, "docs/llm.md", "python")[0])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
