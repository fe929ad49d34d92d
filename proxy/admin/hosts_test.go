package admin

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The listener answers for addresses, loopback names and the configured names. For any other
// name a page in the operator's browser may have sent the request.
func TestUnknownHostsAreRefused(t *testing.T) {
	l := newListener()
	server := httptest.NewServer(l)
	defer server.Close()
	get := func(line, host string) int {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s\r\n%sConnection: close\r\n\r\n", line, host)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	refused := 0
	for host, want := range map[string]int{
		"127.0.0.1:9090": 200, "127.0.0.1": 200, "10.1.2.3:9090": 200, "[::1]:9090": 200, "[::1]": 200, "[2001:db8::1]:9090": 200,
		"localhost:9090": 200, "LOCALHOST": 200, "localhost.:9090": 200, "metergate.localhost:9090": 200,
		"example.com:9090": 200, "EXAMPLE.com.": 200,
		"evil.example:9090": 421, "evil.example": 421, "localhost.evil.example": 421, "notlocalhost": 421, "127.0.0.1.evil.example": 421,
		"www.example.com": 421, "example.com.evil.example": 421, "gateway:9090": 421, "0x7f.1": 421,
	} {
		for _, path := range []string{"/metrics", "/readyz", "/livez"} {
			if got := get("GET "+path+" HTTP/1.1", "Host: "+host+"\r\n"); got != want {
				t.Errorf("%s at %s: %d, want %d", path, host, got, want)
			}
			if want == 421 {
				refused++
			}
		}
	}
	if got := get("GET http://evil.example/metrics HTTP/1.1", "Host: 127.0.0.1\r\n"); got != 421 {
		t.Errorf("a whole URL: %d", got)
	}
	if got := get("GET /livez HTTP/1.0", ""); got != 200 {
		t.Errorf("HTTP/1.0 without Host: %d", got)
	}
	if log := l.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "admin.hosts") {
		t.Errorf("the log is\n%s", log)
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if line := fmt.Sprintf("metergate_admin_refused_total{reason=\"wrong_host\"} %d\n", refused+1); !strings.Contains(w.Body.String(), line) {
		t.Errorf("the metrics have no %s", line)
	}
}
