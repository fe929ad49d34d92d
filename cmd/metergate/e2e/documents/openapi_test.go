package documents

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy"
	"metergate/proxy/admin"
	"metergate/proxy/browser"
	"metergate/quota/testkit"
)

// An apiDocument is docs/openapi.yaml, and what a test has seen of it.
type apiDocument struct {
	*testing.T
	doc      *openapi3.T
	answered map[string]bool // operations that have answered 200, such as "GET /usage"
	produced map[string]bool // names of components.responses that were seen
}

func loadAPI(t *testing.T) *apiDocument {
	t.Helper()
	return parseAPI(t, testkit.ReadFile(t, "docs/openapi.yaml"))
}

func parseAPI(t *testing.T, text []byte) *apiDocument {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	// These bodies are described as strings.
	for _, kind := range []string{"image/svg+xml", "text/html", "text/javascript", "text/event-stream", "text/csv", "application/jsonl", "application/octet-stream"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.PlainBodyDecoder)
	}
	return &apiDocument{T: t, doc: doc, answered: map[string]bool{}, produced: map[string]bool{}}
}

// operations calls f for each operation of the document: path by path, and what sets
// something before what deletes it.
func (d *apiDocument) operations(f func(method, path string, operation *openapi3.Operation)) {
	for _, path := range slices.Sorted(maps.Keys(d.doc.Paths.Map())) {
		operations := d.doc.Paths.Value(path).Operations()
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			if operation := operations[method]; operation != nil {
				f(method, path, operation)
				delete(operations, method)
			}
		}
		for method := range operations {
			d.Errorf("this test does not know the method of %s %s", method, path)
		}
	}
}

// A reply is a response that has been read. Of a stream only the header is read.
type reply struct {
	*http.Response
	body string
}

// checkReply validates the request and the response of an operation; path is that of
// the document.
func (d *apiDocument) checkReply(method, path string, res reply) {
	d.Helper()
	item := d.doc.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		d.Fatalf("%s %s is not documented", method, path)
	}
	d.check(&routers.Route{Spec: d.doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)}, res)
	if res.StatusCode == http.StatusOK {
		d.answered[method+" "+path] = true
	}
}

// checkComponent validates a response of a path that is not in the document, by the
// name that components.responses has for such responses.
func (d *apiDocument) checkComponent(name string, res reply) {
	d.Helper()
	described := &openapi3.ResponseRef{Ref: responsePrefix + name, Value: d.doc.Components.Responses[name].Value}
	operation := &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(res.StatusCode, described))}
	d.check(&routers.Route{Spec: d.doc, Operation: operation}, res)
}

const responsePrefix = "#/components/responses/"

func (d *apiDocument) check(route *routers.Route, res reply) {
	d.Helper()
	what := fmt.Sprint(res.Request.Method, " ", res.Request.URL, " ", res.StatusCode)
	described := route.Operation.Responses.Status(res.StatusCode)
	if described == nil {
		d.Errorf("%s: the status is not documented; %s", what, res.body)
		return
	}
	name, isComponent := strings.CutPrefix(described.Ref, responsePrefix)
	if isComponent {
		d.produced[name] = true
	}
	if len(described.Value.Content) == 0 && res.body != "" && name != "Metered" {
		d.Errorf("%s: a body that is not documented: %s", what, res.body)
	}
	status := res.StatusCode
	if status == http.StatusNotModified {
		// The library validates no response with this status. Give it the same
		// description under another one.
		status = http.StatusOK
		operation := &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(status, described))}
		route = &routers.Route{Spec: d.doc, Operation: operation}
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: res.Request, Route: route},
		Status:                 status, Header: res.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(d.Context(), input.SetBodyBytes([]byte(res.body))); err != nil {
		d.Errorf("%s: %v", what, err)
	}
	if res.Header.Get("Content-Type") == "application/jsonl" {
		d.checkLines(res.Request.URL.Path, res.body)
	}
}

// checkLines validates the lines of a list of users or bills.
func (d *apiDocument) checkLines(path, lines string) {
	d.Helper()
	schema := "ListedUser"
	if strings.HasPrefix(path, "/admin/bills") {
		schema = "BillLine"
	}
	for line := range strings.Lines(lines) {
		var entry any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			d.Errorf("%v in %s", err, line)
			return
		}
		if err := d.doc.Components.Schemas[schema].Value.VisitJSON(entry, openapi3.EnableJSONSchema2020()); err != nil {
			d.Errorf("a line of %s: %v", path, err)
		}
	}
}

// gateways are those that the operations of the document are tried on.
type gateways struct {
	on    *gatewaytest.Process // with an admin API
	plain *gatewaytest.Process // with an admin API, and nothing that is off by default
	off   *gatewaytest.Process // without
	two   *gatewaytest.Process // with an admin API, and with another target, 10.0.0.1:9000
	down  *gatewaytest.Process // with an admin API, and a Redis that is not there
}

// An apiRequest is a request to an operation, and the status that it must get. The
// user in its path is u-17, and the organisation acme.
type apiRequest struct {
	gateway             *gatewaytest.Process
	method, path, query string
	status              int
	body                string
	headers             []string // "Name: value"
}

func (d *apiDocument) send(r apiRequest) reply {
	d.Helper()
	url := r.gateway.Admin
	if strings.HasPrefix(r.path, "/usage") || strings.HasPrefix(r.path, "/api") {
		url = r.gateway.URL
	}
	url += strings.NewReplacer("/console/{file}", "/console/icon.svg", "{user}", "u-17", "{org}", "acme", "{file}", "client.js", "{profile}", "heap", "{upstream}", "analysis").Replace(r.path) + r.query
	req, err := http.NewRequest(r.method, url, strings.NewReader(r.body))
	if err != nil {
		d.Fatal(err)
	}
	if strings.HasPrefix(r.body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range r.headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Type") == "text/event-stream" {
		return reply{res, ""}
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.Fatal(err)
	}
	return reply{res, string(text)}
}

// try sends a request, and checks its status and that the response is documented.
func (d *apiDocument) try(r apiRequest) {
	d.Helper()
	res := d.send(r)
	if res.StatusCode != r.status {
		d.Errorf("%s %s%s: status %d, want %d: %s", r.method, r.path, r.query, res.StatusCode, r.status, res.body)
	}
	d.checkReply(r.method, r.path, res)
}

// The document describes the running gateway: for each operation and each response in
// the document there is a real one.
func TestOpenAPIDescribesGateway(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "hold" {
			arrived <- struct{}{}
			<-goOn
		}
	}))
	defer upstream.Close()
	d := loadAPI(t)
	g := gateways{
		on:    gatewaytest.StartWithOrganisationsAndAnchors(t, "embedded:"+t.TempDir(), upstream.URL),
		plain: gatewaytest.StartWithAdminAPI(t, "embedded:"+t.TempDir(), upstream.URL),
		off:   gatewaytest.StartGateway(t, "embedded:"+t.TempDir(), upstream.URL, "JOURNAL="+t.TempDir()),
		two:   startWithTwoTargets(t, upstream.URL),
		down:  gatewaytest.StartWithHistory(t, "redis://127.0.0.1:1", upstream.URL),
	}
	// The example of a grant is for a limit of these plans: a shared one, and one of each member.
	gatewaytest.Administer(t, g.on, "PUT", "/admin/orgs/acme/plan", `{"plan":"team"}`)
	gatewaytest.Administer(t, g.on, "PUT", "/admin/orgs/acme/members/u-17/plan", `{"plan":"free"}`)
	d.operations(func(method, path string, operation *openapi3.Operation) {
		d.tryExample(g, method, path, operation)
	})
	d.tryMetered(g.on)
	d.tryCrowded(g.on, arrived, goOn)
	for _, r := range moreRequests(g, upstream.URL) {
		d.try(r)
	}
	const drain = "/admin/upstreams/{upstream}/drain"
	other := strings.Replace(drain, "{upstream}", "other", 1)
	d.checkReply("POST", drain, d.send(apiRequest{g.two, "POST", other, "", 404, `{"url":"http://10.0.0.1:9000"}`, []string{adminHeader}}))
	d.tryFiles(g.on)
	d.tryWrongTokens(g.down)
	d.tryCookie(upstream.URL)

	d.operations(func(method, path string, _ *openapi3.Operation) {
		if !d.answered[method+" "+path] {
			t.Errorf("%s %s has not answered 200", method, path)
		}
	})
	for name := range d.doc.Components.Responses {
		if !d.produced[name] {
			t.Errorf("the response %s was not seen", name)
		}
	}
}

const adminHeader = "Authorization: Bearer " + gatewaytest.AdminToken

func userHeader() string { return "Authorization: Bearer " + testkit.Token("u-17", "free") }

// tryExample sends the example of an operation's body, or no body. The admin API must
// refuse it where it is off, and without a token, and serve viewers what the document says.
func (d *apiDocument) tryExample(g gateways, method, path string, operation *openapi3.Operation) {
	d.Helper()
	body, headers := "", []string(nil)
	if operation.RequestBody != nil {
		for kind, content := range operation.RequestBody.Value.Content {
			headers = []string{"Content-Type: " + kind}
			if lines, ok := content.Example.(string); ok {
				body = lines
				continue
			}
			text, err := json.Marshal(content.Example)
			if err != nil {
				d.Fatal(err)
			}
			body = string(text)
		}
	}
	with := func(token string) []string { return append([]string{token}, headers...) }
	if !strings.HasPrefix(path, "/admin") && !strings.HasPrefix(path, "/debug") {
		d.try(apiRequest{g.on, method, path, "", 200, body, with(userHeader())})
		return
	}
	on := g.on
	if strings.HasPrefix(path, "/admin/upstreams") {
		on = g.two
	}
	d.try(apiRequest{on, method, path, "", 200, body, with(adminHeader)})
	d.try(apiRequest{g.off, method, path, "", 403, body, with(adminHeader)})
	d.try(apiRequest{g.on, method, path, "", 401, body, headers})
	forViewers := 403
	if slices.ContainsFunc(*operation.Security, func(s openapi3.SecurityRequirement) bool { return s["viewerToken"] != nil }) {
		forViewers = 200
	}
	d.try(apiRequest{g.on, method, path, "", forViewers, body, with("Authorization: Bearer " + gatewaytest.ViewerToken)})
}

func startWithTwoTargets(t *testing.T, upstream string) *gatewaytest.Process {
	t.Helper()
	text := strings.Replace(gatewaytest.BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+gatewaytest.AdminToken+`" }`, 1)
	text = strings.Replace(text, `{ url: "${UPSTREAM}" }`, `{ url: "${UPSTREAM}" }, { url: "http://10.0.0.1:9000" }`, 1)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, text)
	return gatewaytest.StartFile(t, []string{"STORE=embedded:data", "UPSTREAM=" + upstream, "LEVEL=info"}, file).Process
}

// tryMetered sends a request that is counted, and one over the limit.
func (d *apiDocument) tryMetered(g *gatewaytest.Process) {
	d.Helper()
	request := apiRequest{gateway: g, method: "POST", path: "/api/analyze", headers: []string{userHeader()}}
	gatewaytest.Administer(d.T, g, "PUT", "/admin/users/u-17/counts", `{"per":"month","endpoints":{"analyze":98,"image-analysis":1}}`)
	d.checkComponent("Metered", d.send(request))
	for _, r := range []apiRequest{
		{g, "GET", "/usage", "", 200, "", []string{userHeader()}},
		{g, "GET", onlyUser, "?at=2020", 422, "", []string{adminHeader}},
		{g, "GET", onlyUser, "?at=x", 400, "", []string{adminHeader}},
		{g, "GET", onlyUser + "/audit", "", 200, "", []string{adminHeader}},
		{g, "GET", "/admin/users", "", 200, "", []string{adminHeader}},
		{g, "GET", "/admin/orgs/{org}/members", "", 200, "", []string{adminHeader}},
		{g, "GET", "/admin/users", "?format=csv", 200, "", []string{adminHeader}},
		{g, "GET", "/admin/search/users", "?q=U-1&sort=used&limit=1", 200, "", []string{adminHeader}},
		{g, "GET", "/admin/search/users", "", 200, "", []string{adminHeader, "Accept: text/event-stream"}},
		{g, "GET", "/admin/search/users", "?state=full", 400, "", []string{adminHeader}},
		{g, "GET", "/admin/search/users", "?plan=gold", 422, "", []string{adminHeader}},
		{g, "GET", "/admin/plans/check", "?set=free/month=1", 200, "", []string{adminHeader}},
		{g, "GET", "/admin/plans/check", "?set=free", 400, "", []string{adminHeader}},
		{g, "GET", "/admin/plans/check", "?set=free/decade=1", 422, "", []string{adminHeader}},
		{g, "DELETE", onlyUser + "/plan", "", 200, "", []string{adminHeader}},
	} {
		d.try(r)
	}
	gatewaytest.Administer(d.T, g, "POST", "/admin/users/u-17/reset", "")
	gatewaytest.Administer(d.T, g, "PUT", "/admin/users/u-17/counts", `{"per":"month","endpoints":{"analyze":100}}`)
	res := d.send(request)
	if res.StatusCode != 429 {
		d.Errorf("over the limit: status %d, want 429: %s", res.StatusCode, res.body)
	}
	d.checkComponent("QuotaExceeded", res)
	request.headers = []string{"Authorization: Bearer " + testkit.Token("u-2", "prepaid")}
	for _, component := range []string{"Metered", "Metered", "QuotaExceeded"} {
		d.checkComponent(component, d.send(request))
	}
	request.headers = []string{"Authorization: Bearer " + testkit.Token("u-0", "nothing")}
	d.checkComponent("NotInPlan", d.send(request))
}

// tryCrowded sends a request while another one of the user holds the only place.
func (d *apiDocument) tryCrowded(g *gatewaytest.Process, arrived, goOn chan struct{}) {
	d.Helper()
	request := apiRequest{gateway: g, method: "POST", path: "/api/analyze", headers: []string{"Authorization: Bearer " + testkit.Token("u-1", "single")}}
	holding := request
	holding.query = "?hold"
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.send(holding)
	}()
	testkit.Receive(d.T, "the first request", arrived)
	d.checkComponent("Crowded", d.send(request))
	close(goOn)
	testkit.Receive(d.T, "the end of the first request", ended)
}

const onlyUser = "/admin/users/{user}"

// moreRequests are those that show the remaining responses of the document.
func moreRequests(g gateways, upstream string) []apiRequest {
	admin, user := []string{adminHeader}, []string{userHeader()}
	once := []string{adminHeader, "Idempotency-Key: k"}
	return []apiRequest{
		{g.on, "POST", onlyUser + "/grants", "", 200, `{"requests":5}`, once},
		{g.on, "POST", onlyUser + "/grants", "", 409, `{"requests":6}`, once},
		{g.on, "POST", onlyUser + "/grants", "", 413, `{` + strings.Repeat(" ", 64<<10), admin},
		{g.on, "POST", onlyUser + "/grants", "", 415, "requests=5", admin},
		{g.on, "POST", onlyUser + "/grants", "", 422, `{"requests":5,"per":"day"}`, admin},
		{g.on, "PUT", onlyUser + "/plan", "", 422, `{"plan":"gold"}`, admin},
		{g.on, "PUT", onlyUser + "/counts", "", 422, `{"per":"month","endpoints":{"x":1}}`, admin},
		{g.on, "POST", onlyUser + "/reset", "", 400, `{"x":1}`, admin},
		{g.on, "GET", "/usage", "", 401, "", nil},
		{g.on, "GET", "/usage/stream", "", 400, "x", user},
		{g.on, "GET", "/usage/history", "", 401, "", nil},
		{g.on, "GET", "/usage/history", "?days=36", 400, "", user},
		{g.off, "GET", "/usage/history", "", 404, "", user},
		{g.down, "GET", "/usage/history", "", 503, "", user},
		{g.down, "GET", "/usage", "", 503, "", user},
		{g.down, "GET", "/usage/stream", "", 503, "", user},
		{g.down, "POST", "/usage/track", "", 503, "", user},
		{g.down, "GET", onlyUser, "", 503, "", admin},
		{g.down, "GET", onlyUser + "/audit", "", 503, "", admin},
		{g.on, "GET", onlyUser + "/history", "?days=x", 400, "", admin},
		{g.on, "GET", "/admin/bills", "?since=x", 400, "", admin},
		{g.on, "POST", "/admin/bills/sent", "", 413, strings.Repeat(" ", 1<<20+1), []string{adminHeader, "Content-Type: application/jsonl"}},
		{g.plain, "GET", "/admin/bills", "", 404, "", admin},
		{g.down, "GET", "/admin/backup", "", 501, "", admin},
		{g.on, "GET", "/debug/pprof/{profile}", "?debug=x", 400, "", admin},
		{g.on, "POST", "/admin/upstreams/{upstream}/drain", "", 409, fmt.Sprintf(`{"url":%q}`, upstream), admin},
		{g.on, "POST", "/admin/upstreams/{upstream}/drain", "", 422, `{"url":"http://10.0.0.1:9000"}`, admin},
		{g.down, "GET", onlyUser + "/history", "", 503, "", admin},
		{g.down, "GET", "/admin/users", "", 503, "", admin},
		{g.down, "GET", "/admin/search/users", "", 503, "", admin},
		{g.down, "POST", onlyUser + "/grants", "", 503, `{"requests":5}`, admin},
	}
}

// tryCookie sends requests with a cookie that another site may have sent.
func (d *apiDocument) tryCookie(upstream string) {
	d.Helper()
	text := strings.Replace(gatewaytest.BasicYAML, "algorithms: [HS256] }", `algorithms: [HS256] }, cookie: { name: session, origins: ["https://app.example.com"] }`, 1)
	file := filepath.Join(d.TempDir(), "gateway.yaml")
	testkit.WriteFile(d.T, file, text)
	g := gatewaytest.StartFile(d.T, []string{"STORE=embedded:data", "UPSTREAM=" + upstream, "LEVEL=info"}, file).Process
	for _, target := range []string{"POST /usage/track", "GET /usage/stream"} {
		method, path, _ := strings.Cut(target, " ")
		d.try(apiRequest{g, method, path, "", 403, "", []string{"Cookie: session=" + testkit.Token("u-17", "free"), "Origin: https://evil.example"}})
	}
}

// tryFiles asks for the files of front ends again, with their ETag.
func (d *apiDocument) tryFiles(g *gatewaytest.Process) {
	d.Helper()
	for _, name := range browser.Names() {
		first := d.send(apiRequest{gateway: g, method: "GET", path: "/usage/" + name})
		again := d.send(apiRequest{gateway: g, method: "GET", path: "/usage/" + name, headers: []string{"If-None-Match: " + first.Header.Get("ETag")}})
		if first.StatusCode != 200 || again.StatusCode != 304 {
			d.Errorf("%s: status %d, then %d, want 200 and 304", name, first.StatusCode, again.StatusCode)
		}
		d.checkReply("GET", "/usage/{file}", first)
		d.checkReply("GET", "/usage/{file}", again)
	}
}

// tryWrongTokens sends wrong tokens until they are answered 429. The right one still works.
func (d *apiDocument) tryWrongTokens(g *gatewaytest.Process) {
	d.Helper()
	for range 20 {
		d.send(apiRequest{gateway: g, method: "GET", path: "/admin/users", headers: []string{"Authorization: Bearer wrong"}})
	}
	d.try(apiRequest{g, "GET", "/admin/users", "", 429, "", []string{"Authorization: Bearer wrong"}})
	d.try(apiRequest{g, "GET", "/admin/users", "", 503, "", []string{adminHeader}})
}

// The document is valid OpenAPI, and so are its examples.
func TestOpenAPIIsValid(t *testing.T) {
	d := loadAPI(t)
	if err := d.doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	lists := 0
	d.operations(func(_, path string, operation *openapi3.Operation) {
		if res := operation.Responses.Status(200); res != nil && res.Value.Content["application/jsonl"] != nil {
			lists++
			d.checkLines(path, res.Value.Content["application/jsonl"].Example.(string))
		}
	})
	if lists == 0 {
		t.Error("no operation has an example of a list")
	}
}

// The library finds the faults for whose sake the document is checked.
func TestOpenAPIFindsFaults(t *testing.T) {
	text := string(testkit.ReadFile(t, "docs/openapi.yaml"))
	for name, edit := range map[string][2]string{
		"an example with a wrong type":         {"used: 42\n", "used: many\n"},
		"an example with an unknown property":  {"used: 42\n", "used: 42\n                more: 1\n"},
		"an example without a property":        {"                stale: false\n", ""},
		"an example of a wrong format":         {`as_of: "2026-11-23T12:00:00Z"`, `as_of: today`},
		"an example of a nested unknown value": {"analyze: { used: 30 }", "analyze: { used: 30, more: 1 }"},
	} {
		if !strings.Contains(text, edit[0]) {
			t.Errorf("%s: the document does not have %q", name, edit[0])
		}
		if parseAPI(t, []byte(strings.Replace(text, edit[0], edit[1], 1))).doc.Validate(context.Background()) == nil {
			t.Errorf("%s is taken for valid", name)
		}
	}
	d := loadAPI(t)
	usage := d.doc.Paths.Value("/usage")
	route := &routers.Route{Spec: d.doc, Path: "/usage", PathItem: usage, Method: "GET", Operation: usage.Get}
	good, err := json.Marshal(usage.Get.Responses.Status(200).Value.Content["application/json"].Example)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(status int, cacheControl, contentType, body string) error {
		header := http.Header{"Content-Type": {contentType}}
		if cacheControl != "" {
			header.Set("Cache-Control", cacheControl)
		}
		input := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: httptest.NewRequest("GET", "/usage", nil), Route: route},
			Status:                 status, Header: header, Options: &openapi3filter.Options{IncludeResponseStatus: true},
		}
		return openapi3filter.ValidateResponse(t.Context(), input.SetBodyBytes([]byte(body)))
	}
	if err := validate(200, "no-store", "application/json", string(good)); err != nil {
		t.Errorf("the example: %v", err)
	}
	for name, err := range map[string]error{
		"another status":            validate(202, "no-store", "application/json", string(good)),
		"a header that is missing":  validate(200, "", "application/json", string(good)),
		"a header with a bad value": validate(200, "public", "application/json", string(good)),
		"another type":              validate(200, "no-store", "text/plain", string(good)),
		"an empty body":             validate(200, "no-store", "application/json", ""),
		"no JSON":                   validate(200, "no-store", "application/json", "no"),
		"a bad time":                validate(200, "no-store", "application/json", regexp.MustCompile(`"as_of":"[^"]*"`).ReplaceAllString(string(good), `"as_of":"today"`)),
		"one property too many":     validate(200, "no-store", "application/json", strings.Replace(string(good), `{`, `{"more":1,`, 1)),
	} {
		if err == nil {
			t.Errorf("a response with %s is taken for valid", name)
		}
	}
}

// Every route of the gateway is in the document, and every operation of the document is
// a route. TestOpenAPIDescribesGateway calls them all.
func TestOpenAPIListsRoutes(t *testing.T) {
	var documented []string
	loadAPI(t).operations(func(method, path string, _ *openapi3.Operation) { documented = append(documented, method+" "+path) })
	// Nothing is served below /usage but what has a route of its own.
	routes := slices.DeleteFunc(append(proxy.OwnRoutes(), admin.Routes()...), func(route string) bool { return route == "/usage/" })
	for i, route := range routes {
		if name, _ := strings.CutPrefix(route, "GET /usage/"); slices.Contains(browser.Names(), name) {
			routes[i] = "GET /usage/{file}"
		}
	}
	slices.Sort(routes)
	routes = slices.Compact(routes)
	slices.Sort(documented)
	if diff := cmp.Diff(routes, documented); diff != "" {
		t.Errorf("routes (-) and document (+) differ:\n%s", diff)
	}
	if len(routes) < 17 {
		t.Errorf("only %d routes", len(routes))
	}
}
