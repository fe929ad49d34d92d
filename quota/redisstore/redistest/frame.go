package redistest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// A frame is one value of Redis's protocol (RESP), as it came, and the strings in it.
type frame struct {
	raw   []byte
	words []string
}

// readFrame reads one value, with all its elements.
func readFrame(r *bufio.Reader) (f frame, err error) {
	for left := 1; left > 0; left-- {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return f, err
		}
		f.raw = append(f.raw, line...)
		if len(line) < 3 {
			return f, fmt.Errorf("a line of %d bytes", len(line))
		}
		text := string(line[1 : len(line)-2])
		n, numErr := strconv.Atoi(text)
		switch line[0] {
		case '+', '-', ':', '_', '#', ',', '(':
			f.words = append(f.words, text)
		case '$', '=', '!':
			if numErr != nil {
				return f, numErr
			}
			if n < 0 {
				f.words = append(f.words, "")
				continue
			}
			body := make([]byte, n+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return f, err
			}
			f.raw = append(f.raw, body...)
			f.words = append(f.words, string(body[:n]))
		case '*', '~', '>', '%', '|':
			if numErr != nil {
				return f, numErr
			}
			if line[0] == '%' || line[0] == '|' {
				n *= 2
			}
			if line[0] == '|' {
				n++ // attributes stand before their value
			}
			left += max(n, 0)
		default:
			return f, fmt.Errorf("a value of kind %q", line[0])
		}
	}
	return f, nil
}
