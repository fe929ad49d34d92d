package redisstore

import (
	"reflect"
	"testing"
)

func TestAppendCommand(t *testing.T) {
	var a, view args
	view.number(-1)
	view.number(1796083200000)
	a.text("a\r\nb")
	a.text("")
	a.add(view)
	a.text("$1\r\nx\r\n")
	got := string(appendCommand([]byte("before"), "0123", "m:{k}", &a))
	want := "before*9\r\n$7\r\nEVALSHA\r\n$4\r\n0123\r\n$1\r\n1\r\n$5\r\nm:{k}\r\n" +
		"$4\r\na\r\nb\r\n$0\r\n\r\n$2\r\n-1\r\n$13\r\n1796083200000\r\n$7\r\n$1\r\nx\r\n\r\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := a.split(), []any{"a\r\nb", "", "-1", "1796083200000", "$1\r\nx\r\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("split is %q, want %q", got, want)
	}
	a.clear()
	if got := a.split(); len(got) > 0 {
		t.Errorf("cleared it is %q", got)
	}
}
