package resp

import (
	"reflect"
	"strings"
	"testing"
)

func TestAppendEvalSHA(t *testing.T) {
	var args, repeated Args
	repeated.AddInt(-1)
	repeated.AddInt(1796083200000)
	args.AddString("a\r\nb")
	args.AddString("")
	args.AddAll(&repeated)
	args.AddString("$1\r\nx\r\n")
	got := string(AppendEvalSHA([]byte("before"), "0123", "m:{k}", "", &args))
	want := "before*9\r\n$7\r\nEVALSHA\r\n$4\r\n0123\r\n$1\r\n1\r\n$5\r\nm:{k}\r\n" +
		"$4\r\na\r\nb\r\n$0\r\n\r\n$2\r\n-1\r\n$13\r\n1796083200000\r\n$7\r\n$1\r\nx\r\n\r\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = string(AppendEvalSHA(nil, "0123", "m:{k}", "m:{k}:2", &args))
	want = "*10\r\n$7\r\nEVALSHA\r\n$4\r\n0123\r\n$1\r\n2\r\n$5\r\nm:{k}\r\n$7\r\nm:{k}:2\r\n" + want[strings.Index(want, "$4\r\na"):]
	if got != want {
		t.Errorf("on two keys: got %q, want %q", got, want)
	}
	got = string(AppendEval(nil, "0123", "m:{k}", "m:{k}:2", &args))
	if want = strings.Replace(want, "$7\r\nEVALSHA", "$4\r\nEVAL", 1); got != want {
		t.Errorf("with the source: got %q, want %q", got, want)
	}
	if got, want := args.Values(), []any{"a\r\nb", "", "-1", "1796083200000", "$1\r\nx\r\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the values are %q, want %q", got, want)
	}
	args.Reset()
	if got := args.Values(); len(got) > 0 {
		t.Errorf("after Reset the values are %q", got)
	}
}

// TestAsOne checks that arguments within arguments are one argument, whatever is in them.
func TestAsOne(t *testing.T) {
	var inner, args Args
	args.AddAll(inner.AsOne())
	inner.AddString("a\r\nb\x00")
	inner.AddInt(7)
	args.AddInt(1)
	args.AddAll(inner.AsOne())
	args.AddString("last")
	encoded := "$5\r\na\r\nb\x00\r\n$1\r\n7\r\n"
	if got, want := args.Values(), []any{"", "1", encoded, "last"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the values are %q, want %q", got, want)
	}
	got := string(AppendFCall([]byte("before"), "f", "m:{k}", &args))
	want := "before*8\r\n$5\r\nFCALL\r\n$1\r\nf\r\n$1\r\n1\r\n$5\r\nm:{k}\r\n" +
		"$0\r\n\r\n$1\r\n1\r\n$18\r\n" + encoded + "\r\n$4\r\nlast\r\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
