package reloading

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// A renewal is a gateway whose certificate changes while a response is open on a
// connection of a client.
type renewal struct {
	*testing.T
	gateway  *gatewaytest.TLSGateway
	upstream *httptest.Server
	client   *http.Client
	open     *bufio.Scanner // the response
	more     chan bool      // the upstream sends one more line, or ends the response
	place    string         // where the file turns TLS on, as messages name it
}

func newRenewal(t *testing.T, first gatewaytest.KeyPair) *renewal {
	r := &renewal{T: t, more: make(chan bool)}
	r.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "POST" {
			return
		}
		for {
			io.WriteString(w, "still here\n")
			w.(http.Flusher).Flush()
			if !<-r.more {
				return
			}
		}
	}))
	t.Cleanup(r.upstream.Close)
	r.gateway = gatewaytest.StartTLS(t, first, r.upstream.URL)
	text := r.gateway.Text
	r.place = fmt.Sprintf("gateway.yaml:%d: tls.", 1+strings.Count(text[:strings.Index(text, gatewaytest.TLSLine)], "\n"))
	r.client = gatewaytest.TrustingClient(t, first, true)
	req, _ := http.NewRequest("GET", r.gateway.URL+"/api/stream", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r.open = bufio.NewScanner(res.Body)
	return r
}

// wantOpen checks that the response and its connection are still open.
func (r *renewal) wantOpen(when string) {
	r.Helper()
	if !r.open.Scan() {
		r.Fatalf("%s, the open response ended: %v", when, r.open.Err())
	}
	res, _ := gatewaytest.Ask(r.T, r.client, "POST", r.gateway.URL+"/api/analyze", testkit.Token("u", "free"), nil)
	if res.StatusCode != 200 {
		r.Fatalf("%s, a request on the open connection got %s", when, res.Status)
	}
	r.more <- true
}

// shows reports whether new connections see a certificate.
func (r *renewal) shows(p gatewaytest.KeyPair) bool { return r.gateway.Certificate().Equal(p.Parsed) }

// wantRefused reloads a broken configuration. The reload must name the fault, and new
// connections must still see the certificate of stays.
func (r *renewal) wantRefused(what string, stays gatewaytest.KeyPair) {
	r.Helper()
	status, body := r.gateway.Reload(gatewaytest.AdminToken)
	if status != 422 || !strings.Contains(body, what) {
		r.Errorf("reload: %d %s, want 422 with %s", status, body, what)
	}
	if !r.shows(stays) {
		r.Error("a broken key pair changed the certificate")
	}
}

func (r *renewal) remove(name string) {
	r.Helper()
	if err := os.Remove(filepath.Join(filepath.Dir(r.gateway.File), name)); err != nil {
		r.Fatal(err)
	}
}

// New connections get the new certificate. A broken key pair changes nothing. An open
// connection stays open through all of it.
func TestCertificateReload(t *testing.T) {
	first, second, third := gatewaytest.ValidKeyPair(t), gatewaytest.ValidKeyPair(t), gatewaytest.ValidKeyPair(t)
	r := newRenewal(t, first)
	g := r.gateway
	if !r.shows(first) {
		t.Error("the gateway starts with another certificate")
	}
	r.wantOpen("at first")

	// For a moment the two files do not fit, as when a tool renews them.
	g.Replace("cert.pem", second.Cert)
	g.Replace("key.pem", second.Key)
	testkit.EventuallyWithin(t, time.Minute, "the second certificate", func() bool { return r.shows(second) })
	r.wantOpen("after a renewal")

	g.Replace("key.pem", third.Key)
	r.wantRefused(r.place+"key_file: is not the key of the first certificate", second)
	g.Replace("cert.pem", []byte("no certificate"))
	r.wantRefused(r.place+"cert_file: has no PEM certificate", second)
	r.remove("cert.pem")
	r.wantRefused(r.place+"cert_file: cannot read this file", second)
	r.wantOpen("after broken files")

	// Files with other names.
	g.Replace("third.pem", third.Cert)
	g.Replace("third.key", third.Key)
	g.Save(strings.NewReplacer("cert.pem", "third.pem", "key.pem", "third.key").Replace(g.Text))
	testkit.EventuallyWithin(t, time.Minute, "the third certificate", func() bool { return r.shows(third) })
	r.wantOpen("after other names")

	// Turning TLS off takes a restart. Until then the gateway does not need the files.
	g.Save(strings.Replace(g.Text, gatewaytest.TLSLine, "", 1))
	g.WaitForText("tls (on or off) has changed in the file; it takes a restart")
	r.remove("third.pem")
	r.remove("third.key")
	g.Save(strings.Replace(strings.Replace(g.Text, gatewaytest.TLSLine, "", 1), "requests: 100", "requests: 123", 1))
	testkit.EventuallyWithin(t, time.Minute, "the rest of the file is in force", func() bool { return *g.Usage(r.client, "u").Limit == 123 })
	if !r.shows(third) {
		t.Error("without tls in the file the gateway shows another certificate")
	}
	r.wantOpen("after tls was taken out of the file")
	close(r.more)
}

// Turning TLS on takes a restart. The rest of the file is in force at once.
func TestTLSOnTakesRestart(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	pair := gatewaytest.ValidKeyPair(t)
	g := gatewaytest.StartReloadable(t, upstream.URL)
	testkit.WriteFile(t, filepath.Join(filepath.Dir(g.File), "cert.pem"), pair.Cert)
	testkit.WriteFile(t, filepath.Join(filepath.Dir(g.File), "key.pem"), pair.Key)
	g.Save(strings.Replace(gatewaytest.ReloadYAML(upstream.URL, 77), "log:", gatewaytest.TLSLine+"log:", 1))
	testkit.EventuallyWithin(t, time.Minute, "the rest of the file is in force", func() bool { return g.Limit() == 77 })
	g.WaitForText("tls (on or off) has changed in the file")
}

// The log at the start and at a reload, and the command validate, warn of a certificate
// that is not valid now. It does not keep the gateway from serving.
func TestCertificateDatesWarn(t *testing.T) {
	day := 24 * time.Hour
	now := time.Now()
	expired, early := gatewaytest.NewKeyPair(t, now.Add(-2*day), now.Add(-day)), gatewaytest.NewKeyPair(t, now.Add(day), now.Add(2*day))
	g := gatewaytest.StartTLS(t, expired, "http://127.0.0.1:9")
	on := expired.Parsed.NotAfter.UTC().Format("2006-01-02 15:04 UTC")
	g.WaitForText("its certificate expired on " + on)
	expiry := func() string {
		_, body := gatewaytest.Get(g.Admin+"/metrics", "")
		_, after, _ := strings.Cut(body, "\nmetergate_tls_certificate_expiry_timestamp_seconds ")
		value, _, _ := strings.Cut(after, "\n")
		var seconds float64
		fmt.Sscan(value, &seconds)
		return time.Unix(int64(seconds), 0).UTC().Format(time.DateTime)
	}
	if got, want := expiry(), expired.Parsed.NotAfter.UTC().Format(time.DateTime); got != want {
		t.Errorf("the metric says %s, the certificate %s", got, want)
	}
	validate := func() string {
		code, output := gatewaytest.Run(t, nil, "validate", "-config", g.File)
		if code != 0 {
			t.Errorf("validate: exit status %d", code)
		}
		return output
	}
	if text := validate(); !strings.Contains(text, "gateway.yaml: valid: ") || !strings.Contains(text, "gateway.yaml: warning: tls.cert_file: its certificate expired on "+on) {
		t.Errorf("validate says:\n%s", text)
	}
	g.Replace("cert.pem", early.Cert)
	g.Replace("key.pem", early.Key)
	testkit.EventuallyWithin(t, time.Minute, "the other certificate", func() bool { return g.Certificate().Equal(early.Parsed) })
	g.WaitForText("its certificate is not valid before")
	if got, want := expiry(), early.Parsed.NotAfter.UTC().Format(time.DateTime); got != want {
		t.Errorf("after a reload the metric says %s, the certificate %s", got, want)
	}
	good := gatewaytest.ValidKeyPair(t)
	g.Replace("cert.pem", good.Cert)
	g.Replace("key.pem", good.Key)
	if text := validate(); strings.Contains(text, "warning") {
		t.Errorf("validate warns of a good certificate:\n%s", text)
	}
}
