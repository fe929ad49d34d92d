package turns

import "testing"

func isFirst(t *Turn) bool {
	select {
	case <-t.First():
		return true
	default:
		return false
	}
}

func TestLinesKeepOrderOfArrival(t *testing.T) {
	var l Lines
	if l.Has("a") || l.Waiting() != 0 {
		t.Error("somebody waits in an empty value")
	}
	a1, a2, a3, b1 := l.Join("a"), l.Join("a"), l.Join("a"), l.Join("b")
	if !isFirst(a1) || isFirst(a2) || isFirst(a3) || !isFirst(b1) || l.Waiting() != 4 || !l.Has("a") || l.Has("c") {
		t.Error("the first of each line must be first, and no other")
	}
	a2.Leave() // in the middle
	if isFirst(a3) {
		t.Error("a1 is still before a3")
	}
	a1.Leave()
	if !isFirst(a3) {
		t.Error("nobody is before a3")
	}
	a3.Leave()
	b1.Leave()
	if l.Waiting() != 0 || l.Has("a") || len(l.byKey) != 0 {
		t.Errorf("%d wait in %v after all have left", l.Waiting(), l.byKey)
	}
}
