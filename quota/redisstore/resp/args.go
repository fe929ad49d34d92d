package resp

import (
	"bytes"
	"strconv"
)

// Args are the arguments of a script or function, already encoded. The zero value has none. Several
// goroutines may use Args at once only if none of them changes it.
type Args struct {
	n       int
	encoded []byte
}

// AddString adds one argument.
func (a *Args) AddString(s string) {
	a.begin(len(s))
	a.encoded = append(a.encoded, s...)
	a.encoded = append(a.encoded, "\r\n"...)
}

// begin begins one argument of so many bytes.
func (a *Args) begin(size int) {
	a.n++
	a.encoded = append(a.encoded, '$')
	a.encoded = strconv.AppendInt(a.encoded, int64(size), 10)
	a.encoded = append(a.encoded, "\r\n"...)
}

// AddInt adds one argument, in decimal.
func (a *Args) AddInt(n int64) {
	var digits [20]byte
	a.AddString(string(strconv.AppendInt(digits[:0], n, 10)))
}

// AddAll adds a copy of other arguments.
func (a *Args) AddAll(more *Args) {
	a.n += more.n
	a.encoded = append(a.encoded, more.encoded...)
}

// AsOne returns the arguments, in their encoded form, as a single one. A function can compare it with that of an
// earlier call, and decode it only if it differs.
func (a *Args) AsOne() *Args {
	one := new(Args)
	one.AddString(string(a.encoded))
	return one
}

// Reset removes all arguments and keeps the memory for the next ones.
func (a *Args) Reset() { a.n, a.encoded = 0, a.encoded[:0] }

// Values returns a copy of the arguments, each of them a string, as go-redis takes them.
func (a *Args) Values() []any {
	values := make([]any, 0, a.n)
	for rest := a.encoded; len(rest) > 0; {
		size, after, _ := bytes.Cut(rest[1:], []byte("\r\n"))
		n, _ := strconv.Atoi(string(size))
		values = append(values, string(after[:n]))
		rest = after[n+2:]
	}
	return values
}

// Len is the number of arguments.
func (a *Args) Len() int { return a.n }

// AppendEvalSHA appends the command that runs the script with this SHA-1, in hex, on a key and,
// unless it is empty, on a second one.
func AppendEvalSHA(b []byte, sha, key, secondKey string, args *Args) []byte {
	return appendScript(b, "EVALSHA", sha, key, secondKey, args)
}

// AppendEval appends the command that runs a script with this source, which Redis keeps, likewise.
func AppendEval(b []byte, source, key, secondKey string, args *Args) []byte {
	return appendScript(b, "EVAL", source, key, secondKey, args)
}

func appendScript(b []byte, command, script, key, secondKey string, args *Args) []byte {
	keys := 1
	if secondKey != "" {
		keys = 2
	}
	head := beginScript(b, command, script, keys, args.n)
	head.AddString(key)
	if keys == 2 {
		head.AddString(secondKey)
	}
	return append(head.encoded, args.encoded...)
}

// beginScript begins a command that runs a script or function, up to its keys.
func beginScript(b []byte, command, script string, keys, args int) Args {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(3+keys+args), 10)
	head := Args{encoded: append(b, "\r\n"...)}
	head.AddString(command)
	head.AddString(script)
	head.AddInt(int64(keys))
	return head
}
