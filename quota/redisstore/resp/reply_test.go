package resp

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseAnswers(t *testing.T) {
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
		{"*1\r\n*0\r\n", "[] "},
		{"*1\r\n*2\r\n:1\r\n:2\r\n", "[1 2] "},
		{"*3\r\n*1\r\n:1\r\n*2\r\n$1\r\na\r\n:3\r\n*0\r\n", "[1] , [0 3] a, [] "},
		{"*2\r\n-ERR no\r\n*1\r\n:7\r\n", "ERR no, [7] "},
		{"*2\r\n*1\r\n:7\r\n-ERR no\r\n", "[7] , ERR no"},
		{"*2\r\n*1\r\n:7\r\n:8\r\n", errProtocol.Error()},
		{"*2\r\n:7\r\n*1\r\n:8\r\n", errProtocol.Error()},
		{"*1\r\n*1\r\n*1\r\n:8\r\n", errProtocol.Error()},
		{"*33\r\n*0\r\n", errProtocol.Error()},
		{"*x\r\n*0\r\n", errProtocol.Error()},
		{"*2\r\n*1\r\n:7\r\n", "a part"},
		{"*2\r\n*1\r\n:7\r\n*1\r\n:", "a part"},
		{"*1\r\n", "a part"},
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
		got := ""
		answers, size, err := ParseAnswers([]byte(c.text), []Answer{{}})
		switch {
		case err != nil:
			got = err.Error()
		case size == 0:
			got = "a part"
		default:
			got = textOf(answers[1:])
		}
		if err == nil && got != "a part" && size != len(c.text) {
			t.Errorf("%q: %d bytes are read, want %d", c.text, size, len(c.text))
		}
		if got != c.want {
			t.Errorf("%q is read as %q, want %q", c.text, got, c.want)
		}
	}
}

// textOf returns numbers and text of each answer, or its error.
func textOf(answers []Answer) string {
	var texts []string
	for _, a := range answers {
		if a.Err != nil {
			texts = append(texts, a.Err.Error())
		} else {
			texts = append(texts, fmt.Sprint(a.Numbers, " ", a.Text))
		}
	}
	return strings.Join(texts, ", ")
}

// TestParseAnswersNeedsTheWholeReply checks that no part of a reply is taken for the whole, and that what
// follows a reply is not looked at.
func TestParseAnswersNeedsTheWholeReply(t *testing.T) {
	texts := []string{
		"-ERR no\r\n", "*0\r\n", "*3\r\n:1\r\n$-1\r\n_\r\n", "*1\r\n*0\r\n",
		"*3\r\n*2\r\n$1\r\na\r\n:3\r\n-ERR no\r\n*0\r\n", "*2\r\n-ERR no\r\n*1\r\n:7\r\n",
	}
	for size := range 40 {
		texts = append(texts, fmt.Sprintf("*2\r\n$%d\r\n%s\r\n:5\r\n", size, strings.Repeat("a", size)))
	}
	for _, text := range texts {
		want, _, err := ParseAnswers([]byte(text), nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for n := range len(text) {
			if got, size, err := ParseAnswers([]byte(text[:n]), nil); size != 0 || err != nil || len(got) > 0 {
				t.Fatalf("%q is read as %v of %d bytes, error %v", text[:n], got, size, err)
			}
		}
		for _, next := range []string{"*1\r\n:6\r\n", "*1\r\n*1\r\n:6\r\n", "-ERR no\r\n"} {
			if got, size, err := ParseAnswers([]byte(text+next), nil); size != len(text) || err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q and more is read as %v of %d bytes, error %v", text, got, size, err)
			}
		}
	}
	endless := "*2\r\n$1048575\r\n" + strings.Repeat("a", maxText-1) + "\r\n$" + strings.Repeat("0", maxReply)
	if _, size, err := ParseAnswers([]byte(endless), nil); err != errProtocol {
		t.Errorf("%d bytes that are no whole reply are read as one of %d bytes, error %v", len(endless), size, err)
	}
}
