package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A strict reader of HTTP/1: it accepts what RFC 9112 allows and nothing else. Everything
// that the gateway sends, to either side, has to pass. It is not lenient where net/http is.

// A message is a request or a response as it was on the wire.
type message struct {
	start  string // its first line
	fields []field
	body   string
}

type field struct{ name, value string }

// values returns the values of a header. Only the case of its name may differ.
func (m *message) values(name string) (values []string) {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

var (
	requestLine = regexp.MustCompile("^([A-Za-z0-9!#$%&'*+.^_`|~-]+) (/[!-\"$-~]*) HTTP/1\\.1$")
	statusLine  = regexp.MustCompile(`^HTTP/1\.[01] ([1-9][0-9][0-9]) [\t -~]*$`)
	fieldLine   = regexp.MustCompile("^([A-Za-z0-9!#$%&'*+.^_`|~-]+):([^\x00-\x08\x0a-\x1f\x7f]*)$")
	chunkSize   = regexp.MustCompile(`^[0-9a-f]{1,8}$`)
)

var errMalformed = errors.New("malformed")

// readLine reads a line that ends with CRLF and has no other CR or LF.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err == io.EOF && line != "" {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("%w: the line %q", errMalformed, line)
	}
	return text, nil
}

// readFields reads header lines up to the empty line.
func readFields(r *bufio.Reader) (fields []field, err error) {
	for {
		line, err := readLine(r)
		if err != nil || line == "" {
			return fields, noEOF(err)
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%w: the field %q", errMalformed, line)
		}
		fields = append(fields, field{m[1], strings.Trim(m[2], " \t")})
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readHead reads the first line and the headers. io.EOF means that there is no message.
func readHead(r *bufio.Reader, start *regexp.Regexp) (*message, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if !start.MatchString(line) {
		return nil, fmt.Errorf("%w: the first line %q", errMalformed, line)
	}
	fields, err := readFields(r)
	return &message{start: line, fields: fields}, err
}

// readBody reads the body as the headers describe it. Without Content-Length and
// Transfer-Encoding the body is empty or, if toEnd is set, all that follows.
func (m *message) readBody(r *bufio.Reader, toEnd bool) error {
	lengths, codings := m.values("Content-Length"), m.values("Transfer-Encoding")
	switch {
	case len(lengths)+len(codings) > 1:
		return fmt.Errorf("%w: Content-Length %q, Transfer-Encoding %q", errMalformed, lengths, codings)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 32)
		if err != nil {
			return fmt.Errorf("%w: Content-Length %q", errMalformed, lengths)
		}
		body := make([]byte, n)
		_, err = io.ReadFull(r, body)
		m.body = string(body)
		return noEOF(err)
	case len(codings) == 1 && codings[0] == "chunked":
		return m.readChunks(r)
	case len(codings) == 1:
		return fmt.Errorf("%w: Transfer-Encoding %q", errMalformed, codings)
	case toEnd:
		body, err := io.ReadAll(r)
		m.body = string(body)
		return err
	}
	return nil
}

func (m *message) readChunks(r *bufio.Reader) error {
	for {
		line, err := readLine(r)
		if err != nil {
			return noEOF(err)
		}
		if !chunkSize.MatchString(line) {
			return fmt.Errorf("%w: the chunk's size %q", errMalformed, line)
		}
		n, _ := strconv.ParseUint(line, 16, 32)
		if n == 0 {
			trailers, err := readFields(r)
			m.fields = append(m.fields, trailers...)
			return err
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return noEOF(err)
		}
		if string(chunk[n:]) != "\r\n" {
			return fmt.Errorf("%w: the chunk's end %q", errMalformed, chunk[n:])
		}
		m.body += string(chunk[:n])
	}
}

// readResponse reads the response to a request of that method. A 1xx is a response.
func readResponse(r *bufio.Reader, method string) (m *message, status int, err error) {
	if m, err = readHead(r, statusLine); err != nil {
		return nil, 0, err
	}
	status, _ = strconv.Atoi(statusLine.FindStringSubmatch(m.start)[1])
	if status < 200 || status == 204 || status == 304 || method == "HEAD" {
		return m, status, nil
	}
	return m, status, m.readBody(r, true)
}

// A strictUpstream records what reaches it, and answers 200 or the status in the query.
// Anything that is not well-formed fails the test.
type strictUpstream struct {
	url *url.URL
	mu  sync.Mutex
	got []recorded
}

type recorded struct {
	*message
	method, target string
	status         int // that it answered
}

func newStrictUpstream(t *testing.T) *strictUpstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	u := &strictUpstream{url: &url.URL{Scheme: "http", Host: l.Addr().String()}}
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				if err := u.serve(c); err != nil {
					t.Errorf("the upstream got something that is not HTTP: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return u
}

// serve serves a connection. A request that breaks off is ignored.
func (u *strictUpstream) serve(c net.Conn) error {
	r := bufio.NewReader(c)
	for {
		m, err := readHead(r, requestLine)
		if err == nil {
			if hosts := m.values("Host"); len(hosts) != 1 || hosts[0] == "" {
				return fmt.Errorf("%w: Host %q", errMalformed, hosts)
			}
			err = m.readBody(r, false)
		}
		if errors.Is(err, errMalformed) {
			return err
		}
		if err != nil {
			return nil
		}
		line := requestLine.FindStringSubmatch(m.start)
		q := recorded{message: m, method: line[1], target: line[2], status: 200}
		if _, status, ok := strings.Cut(q.target, "status="); ok {
			q.status, _ = strconv.Atoi(status)
		}
		u.mu.Lock()
		u.got = append(u.got, q)
		u.mu.Unlock()
		fmt.Fprintf(c, "HTTP/1.1 %d Some Reason\r\nContent-Length: 2\r\n\r\n", q.status)
		if q.method != "HEAD" {
			io.WriteString(c, "ok")
		}
	}
}

func (u *strictUpstream) requests() []recorded {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.got[:len(u.got):len(u.got)]
}
