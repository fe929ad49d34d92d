package proxy

import (
	"io"
	"net/http"
	"testing"
)

// endingBody ends with its only byte, as net/http's bodies with a Content-Length do. After that it is
// closed, as they are when the response has begun.
type endingBody struct{ reads int }

func (b *endingBody) Read(p []byte) (int, error) {
	if b.reads++; b.reads > 1 {
		return 0, http.ErrBodyReadAfterClose
	}
	return copy(p, "x"), io.EOF
}

func (b *endingBody) Close() error { return nil }

// The transport reads a body once more after its last byte. It must find the end, even if the body was
// closed meanwhile: otherwise it takes the request for failed and cuts the response off.
func TestCompleteBodyStaysComplete(t *testing.T) {
	for name, closes := range map[string]bool{"by net/http": false, "by the transport": true} {
		b := &requestBody{ReadCloser: &endingBody{}, left: 10}
		p := make([]byte, 4)
		if n, err := b.Read(p); n != 1 || err != io.EOF {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if closes {
			b.Close()
		}
		if n, err := b.Read(p); n != 0 || err != io.EOF {
			t.Errorf("closed %s: %d bytes, %v, want the end", name, n, err)
		}
	}
}
