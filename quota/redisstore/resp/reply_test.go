package resp

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // numbers and text, or the error
	}{
		{"*0\r\n", "[] "},
		{"*3\r\n:0\r\n:-7\r\n:1796083200000\r\n", "[0 -7 1796083200000] "},
		{"*3\r\n:2\r\n$5\r\na\r\nbc\r\n:9\r\n", "[2 0 9] a\r\nbc"},
		{"*1\r\n$0\r\n\r\n", "[0] "},
		{"-NOSCRIPT No matching script.\r\n", "NOSCRIPT No matching script."},
		{":1\r\n", errProtocol.Error()},
		{"+OK\r\n", errProtocol.Error()},
		{"*-1\r\n", errProtocol.Error()},
		{"*1\r\n*0\r\n", errProtocol.Error()},
		{"*4\r\n:1\r\n$-1\r\n_\r\n$2\r\n42\r\n", "[1 0 0 42] "},
		{"*1\r\n$-2\r\n", errProtocol.Error()},
		{"*1\r\n_1\r\n", errProtocol.Error()},
		{"*1\r\n:\r\n", errProtocol.Error()},
		{"*1\n:1\n", errProtocol.Error()},
		{"\r\n", errProtocol.Error()},
		{"*99999999\r\n", errProtocol.Error()},
		{"*2\r\n:1\r\n", "a part"},
		{"*1\r\n$5\r\nab", "a part"},
		{"*1", "a part"},
	} {
		var r Reply
		got := ""
		size, err := ParseReply([]byte(c.text), &r)
		_, isReply := err.(ErrorReply)
		switch {
		case err != nil:
			got = err.Error()
		case size == 0:
			got = "a part"
		default:
			got = fmt.Sprint(r.Numbers, " ", r.Text)
		}
		if (err == nil || isReply) && got != "a part" && size != len(c.text) {
			t.Errorf("%q: %d bytes are read, want %d", c.text, size, len(c.text))
		}
		if got != c.want {
			t.Errorf("%q is read as %q, want %q", c.text, got, c.want)
		}
	}
}

// TestParseReplyNeedsTheWholeReply checks that no part of a reply is taken for the whole, and that what
// follows a reply is not looked at.
func TestParseReplyNeedsTheWholeReply(t *testing.T) {
	texts := []string{"-ERR no\r\n", "*0\r\n", "*3\r\n:1\r\n$-1\r\n_\r\n"}
	for size := range 40 {
		texts = append(texts, fmt.Sprintf("*2\r\n$%d\r\n%s\r\n:5\r\n", size, strings.Repeat("a", size)))
	}
	for _, text := range texts {
		var want, got Reply
		_, wantErr := ParseReply([]byte(text), &want)
		for n := range len(text) {
			if size, err := ParseReply([]byte(text[:n]), &got); size != 0 || err != nil {
				t.Fatalf("%q is read as a reply of %d bytes, error %v", text[:n], size, err)
			}
		}
		got = Reply{}
		size, err := ParseReply([]byte(text+"*1\r\n:6\r\n"), &got)
		if size != len(text) || err != wantErr || !reflect.DeepEqual(got, want) {
			t.Errorf("%q and more is read as %v of %d bytes, error %v", text, got, size, err)
		}
	}
	endless := "*2\r\n$1048575\r\n" + strings.Repeat("a", maxText-1) + "\r\n$" + strings.Repeat("0", maxReply)
	if size, err := ParseReply([]byte(endless), new(Reply)); err != errProtocol {
		t.Errorf("%d bytes that are no whole reply are read as one of %d bytes, error %v", len(endless), size, err)
	}
}
