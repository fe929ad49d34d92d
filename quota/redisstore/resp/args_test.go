package resp

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
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
}

// TestFCallEncoder checks that a command has what calls have in common once, and the rest in their order.
func TestFCallEncoder(t *testing.T) {
	var encoder FCallEncoder
	var a, b Args
	a.AddString("terms a")
	b.AddString("terms b")
	call := func(key string, terms *Args, own ...string) *Call {
		c := &Call{Key: key, Terms: terms}
		for _, s := range own {
			c.Own.AddString(s)
		}
		return c
	}
	command := func(args ...string) string {
		text := fmt.Sprintf("before*%d\r\n", len(args))
		for _, s := range args {
			text += fmt.Sprintf("$%d\r\n%s\r\n", len(s), s)
		}
		return text
	}
	for name, test := range map[string]struct {
		calls []*Call
		want  string
	}{
		"one": {
			[]*Call{call("k", &a, "x", "y")},
			command("FCALL", "f", "1", "k", "-5", "terms a", "x", "y"),
		},
		"without arguments": {
			[]*Call{call("k", &b)},
			command("FCALL", "f", "1", "k", "-5", "terms b"),
		},
		"several": {
			[]*Call{call("k1", &a, "x"), call("k2", &b, "y", "z"), call("k3", &b), call("k1", &a, "w")},
			command("FCALL", "f", "4", "k1", "k2", "k3", "k1", "-5", "\x02\x01\x01\x02\x02\x02\x00\x01\x01", "terms a", "terms b", "x", "y", "z", "w"),
		},
	} {
		if got := string(encoder.Append([]byte("before"), "f", -5, test.calls)); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	most, keys, terms, shape := []*Call(nil), []string(nil), []string(nil), []byte{MostCalls}
	for i := range MostCalls {
		own := new(Args)
		own.AddInt(int64(i))
		most = append(most, call("k", own))
		keys, terms, shape = append(keys, "k"), append(terms, strconv.Itoa(i)), append(shape, byte(i+1), 0)
	}
	want := command(slices.Concat([]string{"FCALL", "f", strconv.Itoa(MostCalls)}, keys, []string{"0", string(shape)}, terms)...)
	if got := string(encoder.Append([]byte("before"), "f", 0, most)); got != want {
		t.Errorf("the most calls: got %q, want %q", got, want)
	}
}
