package reloading

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A Redis that asks for a client certificate. A wrong authority shows in the log, in /readyz and in
// validate -online. When the files of store.tls change, new connections follow them, and open
// ones stay.
func TestStoreTLSFollowsItsFiles(t *testing.T) {
	a, other := redistest.NewAuthority(t), redistest.NewAuthority(t)
	server := redistest.StartTLS(t, a)
	upstream := gatewaytest.StartUpstream(t, "ok")
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	ca := filepath.Join(filepath.Dir(file), "ca.pem")
	store := fmt.Sprintf(`store: { url: %q, timeout: 20s, on_failure: deny, tls: { ca_file: ca.pem, cert_file: %q, key_file: %q } }`,
		server.URL(), a.Client.CertFile, a.Client.KeyFile)
	testkit.WriteFile(t, file, strings.Replace(gatewaytest.ReloadYAML(upstream.URL, 100), `store: { url: "embedded:data" }`, store, 1))
	trust := func(a *redistest.Authority) {
		data, err := os.ReadFile(a.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		gatewaytest.ReplaceFile(t, ca, data)
	}
	trust(other)

	const advice = "store.tls.ca_file must have the certificate of its authority"
	g := gatewaytest.StartFile(t, nil, file)
	g.WaitForText(advice)
	if _, ready := gatewaytest.Get(g.Admin+"/readyz", ""); !strings.Contains(ready, advice) {
		t.Errorf("/readyz: %s", ready)
	}
	if code, out := gatewaytest.Run(t, nil, "validate", "-config", file, "-online"); code != 1 || !strings.Contains(out, advice) {
		t.Errorf("validate -online: exit status %d:\n%s", code, out)
	}
	count := func() bool {
		return gatewaytest.Post(gatewaytest.NewClient(t), g.URL+"/api/analyze", testkit.Token("u", "free")) == 200
	}
	if count() {
		t.Error("a call was counted by a Redis that is not trusted")
	}

	trust(a)
	testkit.EventuallyWithin(t, time.Minute, "a call is counted", count)
	if code, out := gatewaytest.Run(t, nil, "validate", "-config", file, "-online"); code != 0 {
		t.Errorf("validate -online: exit status %d:\n%s", code, out)
	}

	trust(other)
	g.WaitForText("store.tls has changed, and a new connection to the store fails: TLS with " + server.Addr)
	if !count() {
		t.Error("the open connection is not used any more")
	}
	if strings.Contains(g.Output(), "takes a restart") {
		t.Errorf("it asks for a restart:\n%s", g.Output())
	}
}
