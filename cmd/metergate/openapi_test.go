package main

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"metergate/internal/testkit"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// An apiDocument is docs/openapi.yaml.
type apiDocument struct {
	*testing.T
	root     map[string]any
	compiler *jsonschema.Compiler
	produced map[string]bool // responses that were seen, by their place
}

func loadAPI(t *testing.T) *apiDocument {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var loaded any
	if err := yaml.Unmarshal(text, &loaded); err != nil {
		t.Fatal(err)
	}
	// As JSON has it, which is what the schemas are about.
	text, err = json.Marshal(loaded)
	if err != nil {
		t.Fatal(err)
	}
	root, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	d := &apiDocument{T: t, root: root.(map[string]any), compiler: jsonschema.NewCompiler(), produced: map[string]bool{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("api.json", d.root); err != nil {
		t.Fatal(err)
	}
	return d
}

// at follows a JSON pointer, and a reference at its end; place is where that leads.
func (d *apiDocument) at(pointer string) (value map[string]any, place string) {
	d.Helper()
	var v any = d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		object, _ := v.(map[string]any)
		v = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	value, _ = v.(map[string]any)
	if ref, ok := value["$ref"].(string); ok && !strings.Contains(pointer, "/schema") {
		return d.at(strings.TrimPrefix(ref, "#"))
	}
	return value, pointer
}

// valid checks a value by the schema at a place.
func (d *apiDocument) valid(what, place string, value any) {
	d.Helper()
	// The place goes into the fragment of a URL.
	schema, err := d.compiler.Compile("api.json#" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(place))
	if err != nil {
		d.Errorf("%s: %v", place, err)
		return
	}
	if err := schema.Validate(value); err != nil {
		d.Errorf("%s is not as %s says: %v", what, place, err)
	}
}

func escapePointer(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }

// check holds a response against the response at a place.
func (d *apiDocument) check(what, place string, res *http.Response, body string) {
	d.Helper()
	documented, place := d.at(place)
	if documented == nil {
		d.Errorf("%s: the status %d is not documented; %s", what, res.StatusCode, body)
		return
	}
	d.produced[place] = true
	headers, _ := documented["headers"].(map[string]any)
	for name := range headers {
		header, at := d.at(place + "/headers/" + escapePointer(name))
		if value := res.Header.Get(name); value != "" {
			d.valid(what+": "+name, at+"/schema", value)
		} else if header["required"] == true {
			d.Errorf("%s: no field %s", what, name)
		}
	}
	contents, _ := documented["content"].(map[string]any)
	if contents == nil {
		if body != "" && place != "/components/responses/Metered" {
			d.Errorf("%s: a body that is not documented: %s", what, body)
		}
		return
	}
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || contents[kind] == nil {
		d.Errorf("%s: the type %q is not documented", what, res.Header.Get("Content-Type"))
		return
	}
	place += "/content/" + escapePointer(kind)
	switch {
	case strings.HasSuffix(kind, "json"):
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			d.Errorf("%s: %v in %s", what, err, body)
			return
		}
		d.valid(what+" "+body, place+"/schema", value)
	case kind == "application/jsonl":
		d.lines(what, body)
	}
}

func (d *apiDocument) lines(what, body string) {
	d.Helper()
	for line := range strings.Lines(body) {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			d.Errorf("%s: %v in %s", what, err, line)
			return
		}
		d.valid(what, "/components/schemas/ListedUser", value)
	}
}

// The document says what the running gateway does: for each operation, and each response
// that is described, there is a real one.
func TestOpenAPI(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	d := loadAPI(t)
	on := startAdministered(t, "embedded:"+t.TempDir(), upstream.URL)
	off := startGateway(t, "embedded:"+t.TempDir(), upstream.URL, "JOURNAL="+t.TempDir()) // without admin.token
	down := startAdministered(t, "redis://127.0.0.1:1", upstream.URL)
	user := "Authorization: Bearer " + testkit.Token("u-17", "free")
	const admin = "Authorization: Bearer " + adminToken
	do := func(url, method string, fields []string, body string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(body, "{") {
			req.Header.Set("Content-Type", "application/json")
		}
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			req.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.Header.Get("Content-Type") == "text/event-stream" {
			return res, ""
		}
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(text)
	}
	operations := map[string]bool{}
	// call makes the request of an operation, whose path has the user u-17.
	call := func(p *process, method, path, query string, want int, body string, fields ...string) {
		t.Helper()
		at := "/paths/" + escapePointer(path) + "/" + strings.ToLower(method)
		if operation, _ := d.at(at); operation == nil {
			t.Fatalf("%s %s is not documented", method, path)
		}
		base := p.admin
		if strings.HasPrefix(path, "/usage") {
			base = p.url
		}
		what := fmt.Sprint(method, " ", path, query, " ", want)
		res, text := do(base+strings.ReplaceAll(path, "{user}", "u-17")+query, method, fields, body)
		if res.StatusCode != want {
			t.Errorf("%s: status %d: %s", what, res.StatusCode, text)
		}
		d.check(what, fmt.Sprint(at, "/responses/", res.StatusCode), res, text)
		if res.StatusCode == 200 {
			operations[method+" "+path] = true
		}
	}
	const one = "/admin/users/{user}"
	// Each operation with the example of its body, if it has one.
	paths, _ := d.at("/paths")
	for path, item := range paths {
		for _, method := range []string{"get", "put", "post", "delete"} {
			operation, _ := item.(map[string]any)[method].(map[string]any)
			if operation == nil {
				continue
			}
			body, field := "", user
			at := "/paths/" + escapePointer(path) + "/" + method
			if content, place := d.at(at + "/requestBody/content/application~1json"); content != nil {
				d.valid("the example of a body", place+"/schema", content["example"])
				text, err := json.Marshal(content["example"])
				if err != nil {
					t.Fatal(err)
				}
				body = string(text)
			}
			if strings.HasPrefix(path, "/admin") {
				field = admin
			}
			call(on, strings.ToUpper(method), path, "", 200, body, field)
			if strings.HasPrefix(path, "/admin") {
				call(off, strings.ToUpper(method), path, "", 403, body, field)
				call(on, strings.ToUpper(method), path, "", 401, body)
			}
		}
	}
	administer(t, on, "PUT", "/admin/users/u-17/counts", `{"per":"month","endpoints":{"analyze":98,"image-analysis":1}}`)
	res, body := do(on.url+"/api/analyze", "POST", []string{user}, "")
	d.check("a metered request", "/components/responses/Metered", res, body)
	call(on, "GET", "/usage", "", 200, "", user)
	call(on, "GET", one, "?at=2020", 422, "", admin)
	call(on, "GET", one, "?at=x", 400, "", admin)
	call(on, "GET", one+"/audit", "", 200, "", admin)
	call(on, "GET", "/admin/users", "", 200, "", admin)
	call(on, "GET", "/admin/users", "?format=csv", 200, "", admin)
	call(on, "DELETE", one+"/plan", "", 200, "", admin)
	administer(t, on, "POST", "/admin/users/u-17/reset", "")
	administer(t, on, "PUT", "/admin/users/u-17/counts", `{"per":"month","endpoints":{"analyze":100}}`)
	if res, body = do(on.url+"/api/analyze", "POST", []string{user}, ""); res.StatusCode != 429 {
		t.Errorf("over the limit: %d %s", res.StatusCode, body)
	}
	d.check("a request over the limit", "/components/responses/QuotaExceeded", res, body)
	call(on, "POST", one+"/grants", "", 200, `{"requests":5}`, admin, "Idempotency-Key: k")
	call(on, "POST", one+"/grants", "", 409, `{"requests":6}`, admin, "Idempotency-Key: k")
	call(on, "POST", one+"/grants", "", 413, `{`+strings.Repeat(" ", 64<<10), admin)
	call(on, "POST", one+"/grants", "", 415, "requests=5", admin)
	call(on, "POST", one+"/grants", "", 422, `{"requests":5,"per":"day"}`, admin)
	call(on, "PUT", one+"/plan", "", 422, `{"plan":"gold"}`, admin)
	call(on, "PUT", one+"/counts", "", 422, `{"per":"month","endpoints":{"x":1}}`, admin)
	call(on, "POST", one+"/reset", "", 400, `{"x":1}`, admin)
	call(on, "GET", "/usage", "", 401, "")
	call(on, "GET", "/usage/stream", "", 400, "x", user)
	for _, name := range []string{"client.js", "client.d.ts", "meter.js"} {
		res, _ := do(on.url+"/usage/"+name, "GET", nil, "")
		call(on, "GET", "/usage/"+name, "", 304, "", "If-None-Match: "+res.Header.Get("ETag"))
	}
	for _, path := range []string{"/usage", "/usage/stream"} {
		call(down, "GET", path, "", 503, "", user)
	}
	call(down, "POST", "/usage/track", "", 503, "", user)
	for _, path := range []string{one, one + "/audit", "/admin/users"} {
		call(down, "GET", path, "", 503, "", admin)
	}
	call(down, "POST", one+"/grants", "", 503, `{"requests":5}`, admin)
	for range 20 { // until the address is locked out
		do(down.admin+"/admin/users", "GET", []string{"Authorization: Bearer wrong"}, "")
	}
	call(down, "GET", "/admin/users", "", 429, "", admin)

	for path, item := range paths {
		for method := range item.(map[string]any) {
			if name := strings.ToUpper(method) + " " + path; slices.Contains([]string{"get", "put", "post", "delete"}, method) && !operations[name] {
				t.Errorf("%s has not answered 200", name)
			}
		}
	}
	responses, _ := d.at("/components/responses")
	for name := range responses {
		if !d.produced["/components/responses/"+name] {
			t.Errorf("the response %s was not seen", name)
		}
	}
}

// The examples of responses are valid.
func TestOpenAPIExamples(t *testing.T) {
	d, n := loadAPI(t), 0
	var walk func(place string, v any)
	walk = func(place string, v any) {
		object, ok := v.(map[string]any)
		if !ok {
			return
		}
		if example, ok := object["example"]; ok && object["schema"] != nil {
			n++
			d.valid("the example", place+"/schema", example)
			if strings.HasSuffix(place, "jsonl") {
				d.lines("the example", example.(string))
			}
		}
		for name, inner := range object {
			walk(place+"/"+escapePointer(name), inner)
		}
	}
	walk("", map[string]any{"paths": d.root["paths"], "components": d.root["components"]})
	if n < 8 {
		t.Errorf("only %d examples", n)
	}
}

// What the gateway has routes for is in the document, and nothing else is.
func TestOpenAPIRoutes(t *testing.T) {
	want := map[string]bool{}
	for file, pattern := range map[string]string{
		"../../proxy/usage.go":       `Pattern: "([A-Z]+ /usage[^"]*)"`,
		"../../proxy/admin/admin.go": `mux\.Handle(?:Func)?\("([A-Z]+ /[^"]+)"`,
		"../../proxy/admin/users.go": `"(GET|PUT|POST|DELETE)": +\(\*call\)\.`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) != "users.go" {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
				want[m[1]] = true
			}
			continue
		}
		for line := range strings.Lines(string(text)) {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(line, -1) {
				path := "/admin/users"
				if name := regexp.MustCompile(`^\t\t"([a-z]*)": `).FindStringSubmatch(line); name != nil {
					path = strings.TrimSuffix("/admin/users/{user}/"+name[1], "/")
				}
				want[m[1]+" "+path] = true
			}
		}
	}
	paths, _ := loadAPI(t).at("/paths")
	got := map[string]bool{}
	for path, item := range paths {
		for method := range item.(map[string]any) {
			if method != "servers" && method != "parameters" {
				got[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for route := range want {
		if !got[route] {
			t.Errorf("%s is not in the document", route)
		}
	}
	for route := range got {
		if !want[route] {
			t.Errorf("%s is in the document, and no route", route)
		}
	}
	if len(want) < 19 {
		t.Errorf("only %d routes", len(want))
	}
}
