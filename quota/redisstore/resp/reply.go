package resp

import (
	"bytes"
	"errors"
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

// The longest list and the longest text that a reply may have, and about how many bytes in all, so that
// a broken peer cannot make the gateway allocate without bound.
const (
	maxElements = 1 << 16
	maxText     = 1 << 20 // bytes
	maxReply    = 4 << 20 // bytes, with what follows
)

// An Answer is the reply to one call: a Reply, or an ErrorReply.
type Answer struct {
	Reply
	Err error // nil, or an ErrorReply
}

// ParseAnswers reads the reply at the beginning of b and appends its answers: one for each element of a list of lists,
// otherwise a single one. It returns how many bytes the reply has, or 0 if b has only a part of it. After an error the
// connection cannot be used.
func ParseAnswers(b []byte, answers []Answer) (all []Answer, size int, err error) {
	if len(b) > maxReply {
		return answers, 0, errProtocol
	}
	line, after, err := cutLine(b)
	if line == nil {
		return answers, 0, err
	}
	n, rest := 1, b
	if line[0] == '*' {
		elements, err := elementsIn(line)
		switch {
		case err != nil:
			return answers, 0, err
		case elements > 0 && len(after) == 0:
			return answers, 0, nil // the next byte says what this is
		case elements > MostCalls && (after[0] == '*' || after[0] == '-'):
			return answers, 0, errProtocol
		case elements > 0 && (after[0] == '*' || after[0] == '-'):
			n, rest = elements, after
		}
	}
	all = answers
	for range n {
		var a Answer
		size, err := parseReply(rest, &a.Reply)
		if reply, isReply := err.(ErrorReply); isReply {
			a.Err = reply
		} else if err != nil || size == 0 {
			return answers, 0, err
		}
		all, rest = append(all, a), rest[size:]
	}
	return all, len(b) - len(rest), nil
}

// parseReply reads the reply at the beginning of b into reply. It returns how many bytes the reply has,
// or 0 if b has only a part of it. Errors: an ErrorReply, after which the connection can still be used;
// after all others it cannot.
func parseReply(b []byte, reply *Reply) (size int, err error) {
	line, rest, err := cutLine(b)
	if line == nil {
		return 0, err
	}
	if line[0] == '-' {
		return len(b) - len(rest), ErrorReply(line[1:])
	}
	n, err := elementsIn(line)
	if err != nil {
		return 0, err
	}
	reply.Numbers, reply.Text = make([]int64, n), ""
	for i := range n {
		if line, rest, err = cutLine(rest); line == nil {
			return 0, err
		}
		if line[0] == '_' && len(line) == 1 {
			continue // nil in RESP3
		}
		number, err := strconv.ParseInt(string(line[1:]), 10, 64)
		switch {
		case err != nil:
			return 0, errProtocol
		case line[0] == ':':
			reply.Numbers[i] = number
		case line[0] == '$' && number == -1: // nil in RESP2
		case line[0] == '$' && number >= 0 && number < maxText:
			end := int(number)
			if len(rest) < end+2 {
				return 0, nil
			}
			reply.setBytes(i, rest[:end])
			rest = rest[end+2:]
		default:
			return 0, errProtocol
		}
	}
	return len(b) - len(rest), nil
}

// elementsIn returns how many elements the list has that begins with a line.
func elementsIn(line []byte) (int, error) {
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || line[0] != '*' || n < 0 || n > maxElements {
		return 0, errProtocol
	}
	return n, nil
}

// setBytes is SetText. Most texts are numbers, and are not copied.
func (r *Reply) setBytes(i int, text []byte) {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		r.Numbers[i] = n
	} else {
		r.SetText(i, string(text))
	}
}

// SetText sets element i to a text, or to a number that came as text.
func (r *Reply) SetText(i int, text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		r.Text = text
	}
	r.Numbers[i] = n
}

// cutLine returns the first line, of at least one byte and without its end, and what comes after it.
// line is nil if b has no whole line, or with an error.
func cutLine(b []byte) (line, rest []byte, err error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil, nil
	}
	if i < 2 || b[i-1] != '\r' {
		return nil, nil, errProtocol
	}
	return b[:i-1], b[i+1:], nil
}
