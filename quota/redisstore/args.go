package redisstore

import (
	"bytes"
	"strconv"
)

// args are those of a script, as Redis's protocol has them: a request has some thirty,
// and most of them are the same for all requests of a plan, see view.
type args struct {
	n int
	b []byte
}

func (a *args) text(s string) {
	a.n++
	a.b = append(a.b, '$')
	a.b = strconv.AppendInt(a.b, int64(len(s)), 10)
	a.b = append(a.b, "\r\n"...)
	a.b = append(a.b, s...)
	a.b = append(a.b, "\r\n"...)
}

func (a *args) number(n int64) {
	var digits [20]byte
	a.text(string(strconv.AppendInt(digits[:0], n, 10)))
}

func (a *args) add(more args) {
	a.n += more.n
	a.b = append(a.b, more.b...)
}

func (a *args) clear() { a.n, a.b = 0, a.b[:0] }

// appendCommand appends the call of a script with one key.
func appendCommand(b []byte, sha, key string, a *args) []byte {
	head := args{b: b}
	head.b = append(head.b, '*')
	head.b = strconv.AppendInt(head.b, int64(4+a.n), 10)
	head.b = append(head.b, "\r\n"...)
	head.text("EVALSHA")
	head.text(sha)
	head.text("1")
	head.text(key)
	return append(head.b, a.b...)
}

// split returns the arguments as go-redis takes them.
func (a *args) split() []any {
	list := make([]any, 0, a.n)
	for rest := a.b; len(rest) > 0; {
		size, after, _ := bytes.Cut(rest[1:], []byte("\r\n"))
		n, _ := strconv.Atoi(string(size))
		list = append(list, string(after[:n]))
		rest = after[n+2:]
	}
	return list
}
