package upstream

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// maxRecorded is how much of a response a targetConn records, or a little more. If the header
// is longer, restoreHead does nothing.
const maxRecorded = 16 << 10

// restoreHead makes up for what http.Transport hides of a response. recorded is what arrived
// on the HTTP/1 connection, up to the end of the header at least.
//
//   - Of a Connection header with "close" it removes all, so that nobody knows which other
//     headers belong to the connection.
//   - It ignores the Transfer-Encoding of an HTTP/1.0 response, and takes the chunks for the
//     body. Such a response is refused: RFC 9112 section 6.1 calls its framing faulty.
func restoreHead(res *http.Response, recorded []byte) error {
	old := res.ProtoMajor == 1 && res.ProtoMinor == 0
	if !old && !res.Close {
		return nil
	}
	head := finalHead(recorded)
	if old && headValues(head, "Transfer-Encoding") != nil {
		return fmt.Errorf("%w: Transfer-Encoding in HTTP/1.0", errMalformedResponse)
	}
	if connection := headValues(head, "Connection"); connection != nil {
		res.Header["Connection"] = connection
	}
	return nil
}

// finalHead returns the header lines of the final response, nil if they are not all there.
func finalHead(recorded []byte) []byte {
	for {
		_, rest, ok := bytes.Cut(recorded, []byte("\n")) // the status line
		if !ok {
			return nil
		}
		informational := len(recorded) > 9 && recorded[9] == '1' && !bytes.HasPrefix(recorded[9:], []byte("101"))
		for n := 0; ; {
			line, _, ok := bytes.Cut(rest[n:], []byte("\n"))
			if !ok {
				return nil
			}
			if len(bytes.TrimRight(line, "\r")) > 0 {
				n += len(line) + 1
				continue
			}
			if !informational {
				return rest[:n]
			}
			recorded = rest[n+len(line)+1:]
			break
		}
	}
}

// headValues returns the values that the header lines have for a name, nil if there is none.
func headValues(head []byte, name string) (values []string) {
	ours := false
	for line := range strings.Lines(string(head)) {
		if line[0] == ' ' || line[0] == '\t' { // the line before goes on
			if ours {
				values[len(values)-1] += " " + strings.TrimSpace(line)
			}
			continue
		}
		n, value, _ := strings.Cut(line, ":")
		if ours = strings.EqualFold(strings.TrimSpace(n), name); ours {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}
