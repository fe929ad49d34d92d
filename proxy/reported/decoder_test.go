package reported

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func compress(t testing.TB, encoding, body string) []byte {
	t.Helper()
	var compressed bytes.Buffer
	var w interface {
		io.WriteCloser
		Flush() error
	}
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&compressed)
	case "zlib":
		w = zlib.NewWriter(&compressed)
	case "deflate":
		w, _ = flate.NewWriter(&compressed, flate.DefaultCompression)
	}
	// As servers do that compress a stream: each event is sent at once.
	for _, event := range strings.SplitAfter(body, "\n\n") {
		if _, err := w.Write([]byte(event)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return compressed.Bytes()
}

// readCompressed reads a compressed stream of events that is cut at random.
func readCompressed(t testing.TB, encoding string, body []byte, limit int64) (int64, error) {
	t.Helper()
	r, err := NewReader(mustPath(t, tokens), "text/event-stream", encoding, limit)
	if err != nil {
		t.Fatal(err)
	}
	for len(body) > 0 {
		n := 1 + rand.IntN(len(body))
		if _, err := r.Write(body[:n]); err != nil {
			t.Fatal(err)
		}
		clear(body[:n]) // the Reader must not keep it
		body = body[n:]
	}
	return r.End()
}

const stream = ": a stream\n\ndata: {\"usage\":{\"total_tokens\":11}}\n\ndata: {\"usage\":{\"total_tokens\":12}}\n\ndata: [DONE]\n\n"

func TestReaderDecompresses(t *testing.T) {
	for _, c := range []struct{ header, format string }{
		{"gzip", "gzip"}, {"GZIP", "gzip"}, {"x-gzip", "gzip"}, {"deflate", "zlib"}, {"deflate", "deflate"},
	} {
		for range 20 {
			got, err := readCompressed(t, c.header, compress(t, c.format, stream), 1<<20)
			if got != 12 || err != nil {
				t.Errorf("%s as %s reports %d, %v; want 12", c.header, c.format, got, err)
			}
		}
	}
}

func TestReaderReadsSeveralGzipMembers(t *testing.T) {
	body := append(compress(t, "gzip", stream[:30]), compress(t, "gzip", stream[30:])...)
	if got, err := readCompressed(t, "gzip", body, 1<<20); got != 12 || err != nil {
		t.Errorf("it reports %d, %v; want 12", got, err)
	}
}

func TestReaderRefusesDamagedCompression(t *testing.T) {
	for _, format := range []string{"gzip", "zlib", "deflate"} {
		header := strings.Replace(format, "zlib", "deflate", 1)
		whole := compress(t, format, stream)
		for cut := range len(whole) {
			if got, err := readCompressed(t, header, bytes.Clone(whole[:cut]), 1<<20); err == nil {
				t.Errorf("%s, cut off after %d of %d bytes, reports %d", format, cut, len(whole), got)
			}
		}
		if got, err := readCompressed(t, header, []byte(stream), 1<<20); err == nil {
			t.Errorf("a body that is not compressed reports %d as %s", got, format)
		}
	}
}

func TestReaderStopsAtItsLimit(t *testing.T) {
	padding := ": " + strings.Repeat("0", 1<<16) + "\n\n"
	size := int64(len(padding) + len(stream))
	body := compress(t, "gzip", padding+stream)
	if got, err := readCompressed(t, "gzip", bytes.Clone(body), size); got != 12 || err != nil {
		t.Errorf("a body of the limit reports %d, %v; want 12", got, err)
	}
	want := fmt.Sprintf("decompressing the body: it has more than %d bytes", size-1)
	if got, err := readCompressed(t, "gzip", body, size-1); err == nil || err.Error() != want {
		t.Errorf("a body above the limit reports %d, %v; want %s", got, err, want)
	}
}

// A body of few bytes must not keep the gateway busy: 2 MiB of zeros fit in 2 KiB.
func TestReaderIsNotKeptBusy(t *testing.T) {
	bomb := compress(t, "gzip", stream+strings.Repeat("\x00", 2<<20))
	var decoded int
	d := newDecoder("gzip", 1<<16, func(p []byte) { decoded += len(p) })
	err := d.write(bomb)
	if err == nil || decoded > 1<<16 {
		t.Errorf("%d bytes of %d were decompressed, error %v; want an error after at most %d", decoded, 2<<20, err, 1<<16)
	}
	if again := d.end(); !errors.Is(again, err) {
		t.Errorf("after its end, the decoder returned %v; want %v", again, err)
	}
	if again := d.write(bomb); !errors.Is(again, err) || decoded > 1<<16 {
		t.Errorf("after its end, the decoder returned %v and had %d bytes; want %v", again, decoded, err)
	}
}

// A decompressor gives up after a hundred reads that bring nothing.
func TestReaderTakesEmptyPieces(t *testing.T) {
	whole := compress(t, "gzip", stream)
	r, err := NewReader(mustPath(t, tokens), "text/event-stream", "gzip", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for range 101 {
			_, _ = r.Write(nil)
		}
		_, _ = r.Write(whole[i : i+1])
	}
	if got, err := r.End(); got != 12 || err != nil {
		t.Errorf("it reports %d, %v; want 12", got, err)
	}
}

// goleak notices a coroutine that stays.
func TestEndStopsDecoder(t *testing.T) {
	whole := compress(t, "gzip", stream)
	for _, sent := range []int{0, 5, len(whole) / 2, len(whole)} {
		r, err := NewReader(mustPath(t, tokens), "text/event-stream", "gzip", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if sent > 0 {
			_, _ = r.Write(whole[:sent])
		}
		_, _ = r.End()
	}
}
