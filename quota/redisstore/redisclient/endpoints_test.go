package redisclient

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// slotsReply is a reply to CLUSTER SLOTS with one range for each node.
func slotsReply(nodes ...[]any) (reply []any) {
	for i, node := range nodes {
		reply = append(reply, []any{int64(i), int64(i), node})
	}
	return reply
}

func TestSlotsAreReadWithTheHostsTheyLeaveOut(t *testing.T) {
	e := &endpoints{asked: "first"}
	slots, err := e.readSlots(slotsReply(
		[]any{nil, int64(1), "id", []any{}},
		[]any{"", int64(2)},
		[]any{"?", int64(3), "id", []any{"ip", "10.0.0.3"}},
		[]any{"?", int64(4), "id", map[any]any{"ip": "::4"}},
		[]any{"?", int64(5), "id", []any{"ip", ""}},
		[]any{"host", int64(6), "id", []any{"ip", "10.0.0.6"}},
		[]any{"10.0.0.7", int64(7), "id", []any{"hostname", "host"}},
		[]any{"?", int64(8), "id", []any{"ip", "10.0.0.8"}},
		[]any{"?", int64(8), "id", []any{"ip", "10.0.0.9"}},
	), "asked")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, s := range slots {
		if s.Start != i || s.End != i || len(s.Nodes) != 1 {
			t.Errorf("slots %d to %d have %d nodes", s.Start, s.End, len(s.Nodes))
		}
		got = append(got, s.Nodes[0].Addr)
	}
	want := []string{"asked:1", "asked:2", "10.0.0.3:3", "[::4]:4", "asked:5", "host:6", "10.0.0.7:7", "10.0.0.8:8", "10.0.0.9:8"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for addr, want := range map[string]string{
		":1": "asked:1", "?:3": "10.0.0.3:3", "?:4": "[::4]:4", "?:8": "?:8", // there are two
		":99": "asked:99", "?:99": "?:99", // not known yet
		"host:1": "host:1", "10.0.0.1:1": "10.0.0.1:1", "[::1]:1": "[::1]:1", "::1:1": "[::1]:1", "::ffff:10.0.0.1:1": "[::ffff:10.0.0.1]:1",
		"": "", "host": "host",
	} {
		if got := e.complete(addr); got != want {
			t.Errorf("complete(%q) = %q, want %q", addr, got, want)
		}
	}
}

func TestUnreadableSlotsAreAnError(t *testing.T) {
	for _, reply := range [][]any{
		{nil}, {"text"}, {[]any{}}, {[]any{int64(1)}}, {[]any{"1", int64(2)}}, {[]any{int64(1), nil}},
		{[]any{int64(1), int64(2), nil}}, {[]any{int64(1), int64(2), []any{}}}, {[]any{int64(1), int64(2), []any{"h"}}},
	} {
		if got, err := new(endpoints).readSlots(reply, "asked"); err == nil {
			t.Errorf("%v: %v and no error", reply, got)
		}
	}
	if got, err := new(endpoints).readSlots(nil, "asked"); err != nil || len(got) != 0 {
		t.Errorf("no slots: %v, error %v", got, err)
	}
}
