package listeners

import (
	"crypto/tls"
	"encoding/xml"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// h2spec builds the program that .ci/h2spec names. If it cannot be built, the test is
// skipped, or fails if browsertest.RequireEnv is set.
func h2spec(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "h2spec")
	cmd := exec.Command("go", "build", "-C", filepath.Join(testkit.ModuleRoot(t), ".ci/h2spec"), "-o", program, "github.com/summerwind/h2spec/cmd/h2spec")
	if out, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv(browsertest.RequireEnv) != "" {
			t.Fatalf("building h2spec: %v\n%s", err, out)
		}
		t.Skipf("run .ci/install for h2spec: %v", err)
	}
	return program
}

// An h2specCase is one case of h2spec, by its section, such as "http2/5.1", and its
// title.
type h2specCase struct{ section, title string }

// runH2spec runs sections of h2spec against a TLS listener, or all of them if none is
// given. It returns how many cases ran and which of them failed.
func runH2spec(t *testing.T, program, addr string, section ...string) (ran int, failed map[h2specCase]bool) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	// The exit status is 1 if a case failed.
	args := append(section, "-h", host, "-p", port, "-t", "-k", "--strict", "-o", "1", "-j", report)
	out, _ := exec.Command(program, args...).CombinedOutput()
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var suites struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Class   string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &suites); err != nil {
		t.Fatal(err)
	}
	failed = map[h2specCase]bool{}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			ran++
			if c.Failure != nil || c.Error != nil {
				failed[h2specCase{s.Package, c.Class}] = true
			}
		}
	}
	return ran, failed
}

// The TLS listener fails no case of h2spec that a plain server of net/http does not fail.
// Some cases depend on timing, and net/http fails them only now and then; it gets more
// tries at those.
func TestH2spec(t *testing.T) {
	program := h2spec(t)
	answer := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "some text to be sent in pieces")
	}
	upstream := httptest.NewServer(http.HandlerFunc(answer))
	defer upstream.Close()
	p := gatewaytest.ValidKeyPair(t)
	gateway := gatewaytest.StartTLS(t, p, upstream.URL, "routes:", "routes:\n  - { match: /, upstream: analysis, auth: none }")

	certificate, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bare := &http.Server{Handler: http.HandlerFunc(answer), ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go bare.ServeTLS(l, "", "")
	defer bare.Close()

	ran, netHTTP := runH2spec(t, program, l.Addr().String())
	_, ours := runH2spec(t, program, gateway.Addr)
	t.Logf("of %d cases net/http failed %d, the gateway %d", ran, len(netHTTP), len(ours))
	if ran < 140 {
		t.Errorf("only %d cases of h2spec ran", ran)
	}
	for c := range ours {
		for try := 0; !netHTTP[c] && try < 20; try++ {
			_, again := runH2spec(t, program, l.Addr().String(), c.section)
			maps.Copy(netHTTP, again)
		}
		if !netHTTP[c] {
			t.Errorf("%s: %s: the gateway fails this case, and net/http alone does not", c.section, c.title)
		}
	}
}
