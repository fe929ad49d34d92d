package rawsocket

import "testing"

// The race detector must know that a write to a socket comes before the read of what was written. Only with -race can
// this test fail.
func TestRaceDetectorSeesOrder(t *testing.T) {
	client, server := connected(t, "tcp")
	written := 0
	go func() {
		written = 1
		NewWriter(client).Write([]byte("x"))
	}()
	if n, err := NewReader(server).Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if written != 1 {
		t.Error("the write came later")
	}
}
