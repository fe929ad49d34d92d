package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"metergate/cmd/metergate/billing/billingtest"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/boltstore"
)

// The scripts of testdata/script run the program as a shell does. The command
// "status N metergate ..." expects exit status N. $ADMIN and $OTHER are the addresses of two
// gateways whose admin API needs $TOKEN; $ADMIN_HOST_PORT is the first one without its scheme, and $CHECKED its folder.
// $UNITS is that of one whose requests cost units, and $ORGS of one with organisations. $ANCHORS is that of one whose
// users' months begin on days of their own, and $HISTORY of one that keeps a history. $MOVED and $COMPARED are those of
// gateways that only one script uses; they count units. $HOOK is a receiver of notifications. $MONTH is the id of the current month.
// $BILLS is that of one that has bills, see startWithBills; $OPENMETER, $STRIPE, $LAGO and $EVENTS are receivers, whose token is $BILL_TOKEN.
func TestCommandScripts(t *testing.T) {
	checked := t.TempDir()
	gateway := gatewaytest.StartWithAdminAPI(t, "embedded:"+checked, "http://127.0.0.1:1")
	other := gatewaytest.StartWithAdminAPI(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	orgs := gatewaytest.StartWithOrganisations(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	units := gatewaytest.StartWithUnits(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	anchors := gatewaytest.StartWithAnchors(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	history := gatewaytest.StartWithHistory(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	bills := startWithBills(t)
	receivers := map[string]*billingtest.Receiver{}
	for variable, to := range map[string]string{"OPENMETER": "openmeter", "STRIPE": "stripe", "LAGO": "lago", "EVENTS": "cloudevents"} {
		receivers[variable] = billingtest.Start(t, to)
	}
	receivers["LAGO"].Refuses = func(e billingtest.Event) bool { return e.Customer == "u-18" }
	moved := gatewaytest.StartWithUnits(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	compared := gatewaytest.StartWithUnits(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	hook := startHook(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ADMIN", gateway.Admin)
			env.Setenv("ADMIN_HOST_PORT", strings.TrimPrefix(gateway.Admin, "http://"))
			env.Setenv("CHECKED", checked)
			env.Setenv("OTHER", other.Admin)
			env.Setenv("UNITS", units.Admin)
			env.Setenv("ORGS", orgs.Admin)
			env.Setenv("ANCHORS", anchors.Admin)
			env.Setenv("HISTORY", history.Admin)
			env.Setenv("BILLS", bills.Admin)
			env.Setenv("BILL_TOKEN", billingtest.Token)
			for variable, r := range receivers {
				env.Setenv(variable, r.URL)
			}
			env.Setenv("MOVED", moved.Admin)
			env.Setenv("COMPARED", compared.Admin)
			env.Setenv("HOOK", hook.URL)
			env.Setenv("TOKEN", gatewaytest.AdminToken)
			env.Setenv("MONTH", time.Now().UTC().Format("2006-01"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					exit, ok := err.(interface{ ExitCode() int })
					if !ok {
						ts.Fatalf("%v: %v", args[1:], err)
					}
					got = exit.ExitCode()
				}
				if got != want {
					ts.Fatalf("%v: exit status %d, want %d", args[1:], got, want)
				}
			},
		},
	})
}

// startWithBills starts a gateway whose users have used something some hours ago: u-17 12 requests to analyze, u-18 one, and
// u-19 of acme one to image-analysis.
func startWithBills(t *testing.T) *gatewaytest.Process {
	t.Helper()
	dir, ago := t.TempDir(), time.Now().Add(-3*time.Hour)
	store, err := boltstore.Open(dir, boltstore.Options{Calendar: quota.NewCalendar(nil), BillingHours: 48, Now: func() time.Time { return ago }})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := quota.NewPlan(quota.PlanOptions{Name: "open", Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	use := func(account, endpoint string, n int) {
		for range n {
			d, err := store.Reserve(t.Context(), quota.Request{ID: quota.NewID(), User: account, Endpoint: endpoint, Plans: quota.PlanChoice{Claimed: plan}, Lease: time.Minute})
			if err == nil {
				_, err = store.Commit(t.Context(), &d.Reservation)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	use("u-17", "analyze", 12)
	use("u-18", "analyze", 1)
	use(quota.MemberAccount("acme", "u-19"), "image-analysis", 1)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return gatewaytest.StartWithBilling(t, "embedded:"+dir, "http://127.0.0.1:1")
}

// startHook starts a receiver of notifications. It accepts signed events at /accept, and none elsewhere.
func startHook(t *testing.T) *httptest.Server {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /accept", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || webhook.Verify(body, r.Header) != nil || !bytes.Contains(body, []byte(`{"type":"usage.test",`)) {
			http.Error(w, "no matching signature", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of \"paper\"\nand of ink", http.StatusInternalServerError)
	})
	mux.Handle("/moved", http.RedirectHandler("/accept", http.StatusPermanentRedirect))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}
