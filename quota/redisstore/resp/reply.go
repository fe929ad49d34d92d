package resp

import (
	"bufio"
	"errors"
	"io"
	"strconv"
)

// A Reply is what a script returns: a list of numbers, with at most one text among them.
type Reply struct {
	// Numbers has one number for each element. An element that is not there (nil in Lua)
	// is 0, and so is the text. A number may also come as text.
	Numbers []int64
	// Text is the text; empty: there was none.
	Text string
}

// An ErrorReply is a reply that is an error, such as "NOSCRIPT No matching script".
type ErrorReply string

func (e ErrorReply) Error() string { return string(e) }

// errProtocol reports bytes that no script of the project returns.
var errProtocol = errors.New("the reply of Redis is not a list of numbers")

// The longest list and the longest text that a reply may have, so that a broken peer
// cannot make the gateway allocate without bound.
const (
	maxElements = 1 << 16
	maxText     = 1 << 20 // bytes
)

// ReadReply reads one reply into reply. Errors: an ErrorReply, after which the connection
// can still be used; all others are of the connection, which cannot.
func ReadReply(r *bufio.Reader, reply *Reply) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	if line[0] == '-' {
		return ErrorReply(line[1:])
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || line[0] != '*' || n < 0 || n > maxElements {
		return errProtocol
	}
	reply.Numbers = make([]int64, n)
	for i := range n {
		if line, err = readLine(r); err != nil {
			return err
		}
		if line[0] == '_' && len(line) == 1 {
			continue // nil in RESP3
		}
		number, err := strconv.ParseInt(string(line[1:]), 10, 64)
		switch {
		case err != nil:
			return errProtocol
		case line[0] == ':':
			reply.Numbers[i] = number
		case line[0] == '$' && number == -1: // nil in RESP2
		case line[0] == '$' && number >= 0 && number < maxText:
			if err := readText(r, int(number), reply, i); err != nil {
				return err
			}
		default:
			return errProtocol
		}
	}
	return nil
}

// readText reads a text of so many bytes as element i. Most texts are numbers, and are not copied.
func readText(r *bufio.Reader, size int, reply *Reply, i int) error {
	if size+2 > r.Size() {
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return err
		}
		reply.SetText(i, string(text[:size]))
		return nil
	}
	text, err := r.Peek(size + 2)
	if err == io.EOF && len(text) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if n, err := strconv.ParseInt(string(text[:size]), 10, 64); err == nil {
		reply.Numbers[i] = n
	} else {
		reply.SetText(i, string(text[:size]))
	}
	_, err = r.Discard(size + 2)
	return err
}

// SetText sets element i to a text, or to a number that came as text.
func (r *Reply) SetText(i int, text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		r.Text = text
	}
	r.Numbers[i] = n
}

// readLine reads a line of at least one byte, and returns it without its end. The line is
// valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	return line[:len(line)-2], nil
}
