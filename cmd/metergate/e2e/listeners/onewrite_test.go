package listeners

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// A body that arrives together with its header leaves the gateway together with it, in one packet. If it has not arrived,
// the upstream gets the header at once. So it is on every kind of listener of HTTP/1.1.
func TestUpstreamGetsBodyWithHeaderIfItHasArrived(t *testing.T) {
	begun := make(chan []byte, 1)
	upstream := rawUpstream(t, begun)
	plain := gatewaytest.StartWith(t, strings.Replace(gatewaytest.ReloadYAML(upstream, 1000), "\nlisten: ", "\nproxy_protocol: ["+balancerAddress+"]\nlisten: ", 1))
	address := strings.TrimPrefix(plain.URL, "http://")
	socket := filepath.Join(t.TempDir(), "public.sock")
	testkit.WriteFile(t, socket+".yaml", socketYAML("unix:"+socket, "127.0.0.1:0", ""))
	onSocket := gatewaytest.Start(t, []string{"STORE=embedded:" + filepath.Join(t.TempDir(), "data"), "UPSTREAM=" + upstream, "LEVEL=info"}, "serve", "-config", socket+".yaml")
	onSocket.WaitForText(`"msg":"serving"`)
	secure := gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), upstream)

	for name, dial := range map[string]func() (net.Conn, error){
		"TCP":            func() (net.Conn, error) { return net.Dial("tcp", address) },
		"PROXY protocol": func() (net.Conn, error) { return dialFrom(t, balancerAddress, address, v1Header), nil },
		"Unix socket":    func() (net.Conn, error) { return net.Dial("unix", socket) },
		"TLS": func() (net.Conn, error) {
			return tls.Dial("tcp", strings.TrimPrefix(secure.URL, "https://"), &tls.Config{InsecureSkipVerify: true})
		},
	} {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		read := bufio.NewReader(conn)
		header := fmt.Sprintf("POST /api/analyze HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nAuthorization: Bearer %s\r\n\r\n", testkit.Token(name, "free"))
		for i := range 20 {
			if i%2 == 0 { // the first one as well, which has the header of the PROXY protocol before it
				io.WriteString(conn, header)
				if first := <-begun; !bytes.HasSuffix(first, []byte("\r\n\r\n")) {
					t.Errorf("%s: the upstream got %q before the body was sent", name, first)
				}
				io.WriteString(conn, "text")
			} else {
				io.WriteString(conn, header+"text")
				if first := <-begun; !bytes.HasSuffix(first, []byte("\r\n\r\ntext")) {
					t.Errorf("%s: the first read of the upstream ends with %q", name, first[max(0, len(first)-20):])
				}
			}
			res, err := http.ReadResponse(read, nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("%s: %+v, error %v", name, res, err)
			}
			if body, err := io.ReadAll(res.Body); string(body) != "text" || err != nil {
				t.Errorf("%s: got %q, error %v", name, body, err)
			}
		}
	}
}

// rawUpstream returns the URL of an upstream that answers with the request's body. begun gets what its first read of each
// request returns.
func rawUpstream(t *testing.T, begun chan<- []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		for {
			first := make([]byte, 16<<10)
			n, err := conn.Read(first)
			if err != nil {
				return
			}
			begun <- first[:n]
			req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(first[:n]), conn)))
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "http://" + l.Addr().String()
}
