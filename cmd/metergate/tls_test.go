package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/quota"
)

// A pair is a certificate for 127.0.0.1 that vouches for itself, and its key.
type pair struct {
	cert, key []byte // PEM
	parsed    *x509.Certificate
}

func newPair(t testing.TB, from, until time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "metergate test"},
		NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		parsed,
	}
}

func validPair(t testing.TB) pair {
	return newPair(t, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

// A secured gateway has a TLS listener, and a file that it runs by.
type secured struct {
	*reloadable
	pair pair   // at first
	addr string // of the TLS listener
	text string // of the file, at first
}

const tlsLine = "tls: { cert_file: cert.pem, key_file: key.pem }\n"

// startSecured runs a gateway with reloadYAML and p. edits are what to replace in the
// file, and by what.
func startSecured(t *testing.T, p pair, upstream string, edits ...string) *secured {
	t.Helper()
	dir := t.TempDir()
	g := &secured{pair: p, reloadable: &reloadable{file: filepath.Join(dir, "gateway.yaml")}}
	g.text = strings.NewReplacer(edits...).Replace(fmt.Sprintf(reloadYAML, upstream, 100) + tlsLine)
	for name, data := range map[string][]byte{"gateway.yaml": []byte(g.text), "cert.pem": p.cert, "key.pem": p.key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.process = start(t, nil, "serve", "-config", g.file)
	g.serving()
	g.addr = strings.TrimPrefix(g.url, "http://")
	g.url = "https://" + g.addr
	return g
}

// put replaces a file beside the configuration.
func (g *secured) put(name string, data []byte) {
	g.t.Helper()
	file := filepath.Join(filepath.Dir(g.file), name)
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		g.t.Fatal(err)
	}
}

// shown is the certificate that a new connection gets to see.
func (g *secured) shown() *x509.Certificate {
	g.t.Helper()
	conn, err := tls.Dial("tcp", g.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// trusting is a client that trusts p and nothing else, with connections of its own.
func trusting(t testing.TB, p pair, http2 bool) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(p.parsed)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// ask sends a request of a user on the plan free, and reads the answer.
func ask(t testing.TB, client *http.Client, method, url, user string, body io.Reader) (*http.Response, string) {
	t.Helper()
	return askAs(t, client, method, url, testkit.Token(user, "free"), body)
}

func askAs(t testing.TB, client *http.Client, method, url, token string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return res, string(text)
}

// usage reads a user's usage object.
func (g *secured) usage(client *http.Client, user string) (u quota.Usage) {
	g.t.Helper()
	res, body := ask(g.t, client, "GET", g.url+"/usage", user, nil)
	if err := json.Unmarshal([]byte(body), &u); err != nil || res.StatusCode != 200 {
		g.t.Fatalf("GET /usage: %s %v: %s", res.Status, err, body)
	}
	return u
}

// The same requests over HTTP/1.1 and HTTP/2, chosen by ALPN: counted, refused, pushed.
func TestTLS(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	}))
	defer upstream.Close()
	p := validPair(t)
	g := startSecured(t, p, upstream.URL)
	for version, http2 := range map[int]bool{1: false, 2: true} {
		client, user := trusting(t, p, http2), fmt.Sprint("user-", version)
		for n := range 100 {
			res, body := ask(t, client, "POST", g.url+"/api/analyze", user, strings.NewReader("text"))
			if res.StatusCode != 200 || res.ProtoMajor != version || body != "https" {
				t.Fatalf("%s %s %q", res.Proto, res.Status, body)
			}
			if got, want := res.Header.Get("X-Usage"), fmt.Sprint(n+1, "/100"); got != want {
				t.Fatalf("X-Usage: %s, want %s", got, want)
			}
		}
		// Refused at once, while the client holds its body back.
		held, write := io.Pipe()
		if res, _ := ask(t, client, "POST", g.url+"/api/analyze", user, held); res.StatusCode != 429 {
			t.Errorf("HTTP/%d: one too many got %s", version, res.Status)
		}
		write.Close()
		req, _ := http.NewRequest("GET", g.url+"/usage/stream", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token(user, "free"))
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		events := bufio.NewScanner(res.Body)
		for events.Scan() && !strings.HasPrefix(events.Text(), "data: ") {
		}
		if res.ProtoMajor != version || !strings.Contains(events.Text(), `"used":100,`) {
			t.Errorf("the stream over %s begins with %s", res.Proto, events.Text())
		}
		res.Body.Close()
		if u := g.usage(client, user); u.Used != 100 || u.InFlight != 0 {
			t.Errorf("HTTP/%d: used %d, in flight %d", version, u.Used, u.InFlight)
		}
	}
}

// What is older than TLS 1.2, and what is no TLS at all.
func TestTLSRefusals(t *testing.T) {
	g := startSecured(t, validPair(t), "http://127.0.0.1:9")
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", g.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
	status, body := get("http://"+g.addr+"/usage", "")
	if status != 400 || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("plain HTTP: %d %s", status, body)
	}
	if status, _ := get(g.admin+"/livez", ""); status != 200 {
		t.Errorf("the admin listener, which is plain: %d", status)
	}
}

// HTTP/2 without TLS is not spoken: neither from the first byte nor by an upgrade.
func TestNoH2C(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("Upgrade") != "" {
			t.Errorf("the upstream got %s, Upgrade %q", r.Proto, r.Header.Get("Upgrade"))
		}
	}))
	defer upstream.Close()
	g := startReloadable(t, upstream.URL)
	send := func(text string) *http.Response {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, text)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return res
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if res := send(preface); res.StatusCode != 400 || !res.Close {
		t.Errorf("the preface got %s, close %v", res.Status, res.Close)
	}
	res := send("GET /usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + testkit.Token("u", "free") +
		"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + preface)
	if res.StatusCode != 200 || res.ProtoMajor != 1 {
		t.Errorf("the upgrade got %s %s", res.Proto, res.Status)
	}
	res = send("POST /api/analyze HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + testkit.Token("u", "free") +
		"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0\r\n\r\n")
	if res.StatusCode != 200 || res.ProtoMajor != 1 {
		t.Errorf("the upgrade of a metered request got %s %s", res.Proto, res.Status)
	}
}

// Another certificate is shown from the next connection on. A pair that is broken changes
// nothing. What is open goes on through all of it.
func TestTLSReload(t *testing.T) {
	more := make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			return
		}
		for {
			io.WriteString(w, "still here\n")
			w.(http.Flusher).Flush()
			if !<-more {
				return
			}
		}
	}))
	defer upstream.Close()
	first, second, third := validPair(t), validPair(t), validPair(t)
	g := startSecured(t, first, upstream.URL)
	client := trusting(t, first, true)
	req, _ := http.NewRequest("GET", g.url+"/api/stream", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	open := bufio.NewScanner(res.Body)
	goesOn := func(when string) {
		t.Helper()
		if !open.Scan() {
			t.Fatalf("%s the open response ended: %v", when, open.Err())
		}
		if res, _ := ask(t, client, "POST", g.url+"/api/analyze", "u", nil); res.StatusCode != 200 {
			t.Fatalf("%s the open connection got %s", when, res.Status)
		}
		more <- true
	}
	place := fmt.Sprintf("gateway.yaml:%d: tls.", 1+strings.Count(g.text[:strings.Index(g.text, tlsLine)], "\n"))
	shows := func(p pair) func() bool { return func() bool { return g.shown().Equal(p.parsed) } }
	refused := func(what string) {
		t.Helper()
		status, body := g.reload(adminToken)
		if status != 422 || !strings.Contains(body, what) {
			t.Errorf("reload: %d %s, want 422 with %s", status, body, what)
		}
		if !shows(second)() {
			t.Error("a broken pair changed the certificate")
		}
	}
	if !shows(first)() {
		t.Error("the certificate at the start is another one")
	}
	goesOn("at first")

	g.put("cert.pem", second.cert) // for a moment they do not fit, as when a tool renews them
	g.put("key.pem", second.key)
	testkit.EventuallyWithin(t, time.Minute, "the second certificate", shows(second))
	goesOn("after a renewal")

	g.put("key.pem", third.key)
	refused(place + "key_file: is not the key of the first certificate")
	g.put("cert.pem", []byte("no certificate"))
	refused(place + "cert_file: has no PEM certificate")
	if err := os.Remove(filepath.Join(filepath.Dir(g.file), "cert.pem")); err != nil {
		t.Fatal(err)
	}
	refused(place + "cert_file: cannot read this file")
	goesOn("after broken files")

	// Other names.
	g.put("third.pem", third.cert)
	g.put("third.key", third.key)
	g.save(strings.NewReplacer("cert.pem", "third.pem", "key.pem", "third.key").Replace(g.text))
	testkit.EventuallyWithin(t, time.Minute, "the third certificate", shows(third))
	goesOn("after other names")

	// Off takes a restart, and until then its files are not needed any more.
	g.save(strings.Replace(g.text, tlsLine, "", 1))
	g.until(func(text string) bool {
		return strings.Contains(text, "tls (on or off) has changed in the file; it takes a restart")
	})
	for _, name := range []string{"third.pem", "third.key"} {
		if err := os.Remove(filepath.Join(filepath.Dir(g.file), name)); err != nil {
			t.Fatal(err)
		}
	}
	g.save(strings.Replace(strings.Replace(g.text, tlsLine, "", 1), "requests: 100", "requests: 123", 1))
	testkit.EventuallyWithin(t, time.Minute, "the rest of the file is in force", func() bool { return *g.usage(client, "u").Limit == 123 })
	if !shows(third)() {
		t.Error("without tls in the file the certificate is another one")
	}
	goesOn("after tls was taken out of the file")
	close(more)

	// On, too.
	plain := startReloadable(t, upstream.URL)
	for name, data := range map[string][]byte{"cert.pem": first.cert, "key.pem": first.key} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(plain.file), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain.save(strings.Replace(fmt.Sprintf(reloadYAML, upstream.URL, 77), "log:", tlsLine+"log:", 1))
	testkit.EventuallyWithin(t, time.Minute, "the rest of the file is in force", func() bool { return plain.limit() == 77 })
	plain.until(func(text string) bool { return strings.Contains(text, "tls (on or off) has changed in the file") })
}

// A certificate that is not valid is said at the start, at a reload and by validate. It
// does not keep the gateway from serving.
func TestCertificateDates(t *testing.T) {
	day := 24 * time.Hour
	now := time.Now()
	expired, early := newPair(t, now.Add(-2*day), now.Add(-day)), newPair(t, now.Add(day), now.Add(2*day))
	g := startSecured(t, expired, "http://127.0.0.1:9")
	on := expired.parsed.NotAfter.UTC().Format("2006-01-02 15:04 UTC")
	g.until(func(text string) bool { return strings.Contains(text, "its certificate expired on "+on) })
	expiry := func() string {
		_, body := get(g.admin+"/metrics", "")
		_, after, _ := strings.Cut(body, "\nmetergate_tls_certificate_expiry_timestamp_seconds ")
		value, _, _ := strings.Cut(after, "\n")
		var seconds float64
		fmt.Sscan(value, &seconds)
		return time.Unix(int64(seconds), 0).UTC().Format(time.DateTime)
	}
	if got, want := expiry(), expired.parsed.NotAfter.UTC().Format(time.DateTime); got != want {
		t.Errorf("the metric says %s, the certificate %s", got, want)
	}
	validate := func() string {
		v := start(t, nil, "validate", "-config", g.file)
		<-v.done
		if v.code != 0 {
			t.Errorf("validate: exit status %d", v.code)
		}
		return v.output.String()
	}
	if text := validate(); !strings.Contains(text, "gateway.yaml: valid: ") || !strings.Contains(text, "gateway.yaml: warning: tls.cert_file: its certificate expired on "+on) {
		t.Errorf("validate says:\n%s", text)
	}
	g.put("cert.pem", early.cert)
	g.put("key.pem", early.key)
	testkit.EventuallyWithin(t, time.Minute, "the other certificate", func() bool { return g.shown().Equal(early.parsed) })
	g.until(func(text string) bool { return strings.Contains(text, "its certificate is not valid before") })
	if got, want := expiry(), early.parsed.NotAfter.UTC().Format(time.DateTime); got != want {
		t.Errorf("after a reload the metric says %s, the certificate %s", got, want)
	}
	good := validPair(t)
	g.put("cert.pem", good.cert)
	g.put("key.pem", good.key)
	if text := validate(); strings.Contains(text, "warning") {
		t.Errorf("validate, of a good certificate:\n%s", text)
	}
}

// A request in flight over HTTP/2 when the gateway is told to stop gets its answer.
func TestDrainHTTP2(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	defer upstream.Close()
	p := validPair(t)
	g := startSecured(t, p, upstream.URL)
	client := trusting(t, p, true)
	req, _ := http.NewRequest("GET", g.url+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
	stream, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan string)
	go func() {
		req, _ := http.NewRequest("POST", g.url+"/api/analyze", bytes.NewReader(nil))
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		res, err := client.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		res.Body.Close()
		answered <- res.Status + ", " + res.Header.Get("X-Usage")
	}()
	<-arrived
	g.signal(syscall.SIGTERM)
	events, err := io.ReadAll(stream.Body) // it ends
	if err != nil || !strings.Contains(string(events), `{"reason":"shutting_down"}`) {
		t.Errorf("the stream ended with %v:\n%s", err, events)
	}
	close(release)
	if got := <-answered; got != "200 OK, 1/100" {
		t.Errorf("the request in flight got %s", got)
	}
	<-g.done
	if g.code != 0 {
		t.Errorf("exit status %d", g.code)
	}
}
