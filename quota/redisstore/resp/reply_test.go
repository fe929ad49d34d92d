package resp

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
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
		{"*2\r\n:1\r\n", "EOF"},
		{"*1\r\n$5\r\nab", "unexpected EOF"},
		{"*1", "EOF"},
	} {
		var r Reply
		got := ""
		if err := ReadReply(bufio.NewReader(strings.NewReader(c.text)), &r); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(r.Numbers, " ", r.Text)
		}
		if got != c.want {
			t.Errorf("%q is read as %q, want %q", c.text, got, c.want)
		}
	}
}

// TestReadReplyOfManyTexts reads texts of all sizes about that of the reader's buffer, with what follows.
func TestReadReplyOfManyTexts(t *testing.T) {
	for size := range 64 {
		for _, text := range []string{strings.Repeat("a", size), strings.Repeat("7", min(size, 18))} {
			r := bufio.NewReaderSize(strings.NewReader(fmt.Sprintf("*2\r\n$%d\r\n%s\r\n:5\r\n*1\r\n:6\r\n", len(text), text)), 16)
			var first, second Reply
			if err := ReadReply(r, &first); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if err := ReadReply(r, &second); err != nil || second.Numbers[0] != 6 {
				t.Fatalf("after %q: %v, error %v", text, second, err)
			}
			if got := fmt.Sprint(first.Numbers[0], first.Text); first.Numbers[1] != 5 || got != "0"+text && got != text {
				t.Errorf("%q is read as %v", text, first)
			}
		}
	}
}
