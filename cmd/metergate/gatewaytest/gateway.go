package gatewaytest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

// AdminToken is the token of the admin API in all configurations here that turn it on.
const AdminToken = "an-admin-token-for-tests-0123456789"

// ViewerToken is the token for what reads, where a configuration here has one.
const ViewerToken = "a-viewer-token-for-tests-0123456789"

// BasicYAML is a configuration on free ports. Its variables come from the environment.
const BasicYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 30s
admin: { listen: 127.0.0.1:0 }
store: { url: "${STORE}", timeout: "${STORE_TIMEOUT:-250ms}", on_failure: "${ON_FAILURE:-deny}", on_data_loss: "${ON_DATA_LOSS:-continue}", journal: "${JOURNAL:-journal}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans:
  free: { limits: [{ requests: 100, per: month }, { requests: 20, per: month, endpoint: image-analysis }] }
  enterprise: { limits: [] }
  nothing: { limits: [{ requests: 0, per: month }] }
  single: { concurrent: { requests: 1, wait: 20ms } }
  prepaid: { limits: [{ requests: 2, per: ever }] }
  tries: { attempts: { requests: 5, per: minute } }
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze",        endpoint: analyze,        upstream: analysis }
  - { match: "POST /api/image-analysis", endpoint: image-analysis, upstream: analysis }
  - { match: "GET /api/status",          upstream: analysis }
log: { level: "${LEVEL:-warn}" }
`

// Patient is an environment variable for [StartGateway]. It is for tests that are not
// about time: on a busy machine Redis may not get a processor for a while.
const Patient = "STORE_TIMEOUT=20s"

// StartGateway runs a gateway with [BasicYAML] and waits until it serves. env is added
// to its environment.
func StartGateway(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info"}, env...)
	return startFile(t, env, BasicYAML).Process
}

// StartWithAdminAPI is [StartGateway] with the admin API turned on.
func StartWithAdminAPI(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	text := strings.Replace(BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+AdminToken+`" }`, 1)
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info", "JOURNAL=" + t.TempDir()}, env...)
	return startFile(t, env, text).Process
}

const historyYAML = "history: { keep: 35d }\ntimezone: \"${ZONE:-UTC}\"\n"

// StartWithHistory is StartWithAdminAPI where a history of 35 days is kept.
func StartWithHistory(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	text := strings.Replace(historyYAML+BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+AdminToken+`" }`, 1)
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info", "JOURNAL=" + t.TempDir()}, env...)
	return startFile(t, env, text).Process
}

// StartWithUnits is StartWithAdminAPI where image-analysis costs 5 units, and analyze up to 20, by
// the response's X-Cost. The plan credits has 100 units a month, and top-up has 100 for ever. The
// plan pool shares 100 units a month. The plan three allows 3 requests at once, and so does three-at-once, which lets no other wait; one-at-once
// allows 1.
func StartWithUnits(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	text := strings.Replace(BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+AdminToken+`" }`, 1)
	text = strings.Replace(text, "endpoint: image-analysis, upstream: analysis", "endpoint: image-analysis, upstream: analysis, cost: 5", 1)
	text = strings.Replace(text, "endpoint: analyze, ", "endpoint: analyze, cost: { max: 20, from: header X-Cost }, ", 1)
	text = strings.Replace(text, "plans:\n", "unit_name: credits\nplans:\n  three: { concurrent: { requests: 3, wait: 30s } }\n  three-at-once: { concurrent: 3 }\n  one-at-once: { concurrent: 1 }\n  credits: { limits: [{ units: 100, per: month }, { requests: 9, per: day, mode: observe }] }\n  top-up: { limits: [{ units: 100, per: ever }] }\n  pool: { shared: [{ units: 100, per: month }] }\n", 1)
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info", "JOURNAL=" + t.TempDir()}, env...)
	return startFile(t, env, text).Process
}

// StartWithAnchors is StartWithAdminAPI where the claim since says on which day months begin under the
// plan paid. The plan saver carries up to 20 of 50 requests.
func StartWithAnchors(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	text := strings.Replace(BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+AdminToken+`" }`, 1)
	text = strings.Replace(text, "algorithms: [HS256] }", "algorithms: [HS256], claims: { anchor: since } }", 1)
	text = strings.Replace(text, "plans:\n", "plans:\n  paid: { anchor: claim, limits: [{ requests: 3, per: month }] }\n  saver: { limits: [{ requests: 50, per: month, carry: 20 }, { requests: 9, per: day }] }\n", 1)
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info", "JOURNAL=" + t.TempDir()}, env...)
	return startFile(t, env, text).Process
}

// StartWithOrganisations is StartWithAdminAPI where the claim org names an organisation. In the plan
// team a member has 10 requests a month, and all members together 100, of which 50 to image-analysis.
func StartWithOrganisations(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	return startWithOrganisations(t, "", "", "", store, upstream, env)
}

// StartWithOrganisationsAndAnchors is StartWithOrganisations where months can begin on other days,
// members have a limit of their own on image-analysis, a history is kept, and hours are kept for billing.
func StartWithOrganisationsAndAnchors(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	return startWithOrganisations(t, historyYAML+billingYAML, "    anchor: calendar\n", ", { requests: 5, per: month, endpoint: image-analysis }", store, upstream, env)
}

const billingYAML = "billing: { keep: 35d }\n"

// StartWithBilling is StartWithOrganisations where hours are kept for billing.
func StartWithBilling(t testing.TB, store, upstream string, env ...string) *Process {
	t.Helper()
	return startWithOrganisations(t, billingYAML, "", "", store, upstream, env)
}

// startWithOrganisations adds lines at the top, keys and limits to the plan team, and the token for viewers.
func startWithOrganisations(t testing.TB, top, keys, limits, store, upstream string, env []string) *Process {
	t.Helper()
	text := strings.Replace(BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+AdminToken+`", viewer_token: "`+ViewerToken+`" }`, 1)
	text = strings.Replace(text, "algorithms: [HS256] }", "algorithms: [HS256], claims: { org: org } }", 1)
	text = strings.Replace(text, "plans:\n", top+"plans:\n  team:\n"+keys+"    limits: [{ requests: 10, per: month }"+limits+"]\n"+
		"    shared: [{ requests: 100, per: month }, { requests: 50, per: month, endpoint: image-analysis }]\n", 1)
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info", "JOURNAL=" + t.TempDir()}, env...)
	return startFile(t, env, text).Process
}

// reloadYAML has the verbs that [ReloadYAML] fills in.
const reloadYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 30s
admin: { listen: 127.0.0.1:0, token: "` + AdminToken + `" }
store: { url: "embedded:data" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans:
  free: { limits: [{ requests: %[2]d, per: month }] }
  enterprise: { limits: [] }
upstreams:
  analysis: { targets: [{ url: "%[1]s" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "GET /api/stream",   endpoint: stream,  upstream: analysis }
log: { level: info }
`

// ReloadYAML is a configuration for tests that change it: with the URL of the upstream
// and the limit of the plan free, in requests a month.
func ReloadYAML(upstream string, limit int) string {
	return fmt.Sprintf(reloadYAML, upstream, limit)
}

// A Reloadable is a gateway and the file with its configuration.
type Reloadable struct {
	*Process
	File string
}

// StartReloadable runs a gateway with [ReloadYAML] and a limit of 100.
func StartReloadable(t testing.TB, upstream string) *Reloadable {
	t.Helper()
	return StartWith(t, ReloadYAML(upstream, 100))
}

// StartWith runs a gateway with a configuration and waits until it serves. env is added to its
// environment.
func StartWith(t testing.TB, text string, env ...string) *Reloadable {
	t.Helper()
	return startFile(t, env, text)
}

func startFile(t testing.TB, env []string, text string) *Reloadable {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, text)
	return StartFile(t, env, file)
}

// StartFile runs a gateway with a file that exists, and waits until it serves.
func StartFile(t testing.TB, env []string, file string) *Reloadable {
	t.Helper()
	r := &Reloadable{Start(t, env, "serve", "-config", file), file}
	r.WaitUntilServing()
	return r
}

// Save replaces the configuration file as careful editors do: by renaming a new one.
func (r *Reloadable) Save(text string) {
	r.T.Helper()
	ReplaceFile(r.T, r.File, []byte(text))
}

// ReplaceFile writes a file under another name and renames it.
func ReplaceFile(t testing.TB, file string, data []byte) {
	t.Helper()
	testkit.WriteFile(t, file+".new", data)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// Reload asks the admin API for a reload.
func (r *Reloadable) Reload(token string) (status int, body string) {
	r.T.Helper()
	req, _ := http.NewRequest("POST", r.Admin+"/admin/reload", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.T.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

// Limit is the limit of the plan free that is in force.
func (r *Reloadable) Limit() int64 {
	r.T.Helper()
	return *Usage(r.T, r.Process, testkit.Token("u", "free")).Limit
}

// StartUpstream runs an upstream that answers every request with a text.
func StartUpstream(t testing.TB, text string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s
}
