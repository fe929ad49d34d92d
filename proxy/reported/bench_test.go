package reported

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
)

func openReaders(t testing.TB, n int, contentType, beginning string) []*Reader {
	t.Helper()
	path := mustPath(t, tokens)
	readers := make([]*Reader, n)
	for i := range readers {
		r, err := NewReader(path, contentType, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Write([]byte(beginning))
		readers[i] = r
	}
	return readers
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A million requests may stream at once. Whatever a body has sent so far must not be kept.
func TestReaderTakesLittleMemory(t *testing.T) {
	long := strings.Repeat("x", 2_000)
	for name, beginning := range map[string]struct{ contentType, body string }{
		"string":       {"application/json", `{"usage":{"a":"` + long},
		"name":         {"application/json", `{"usage":{"` + long},
		"escaped name": {"application/json", `{"usage":{"` + strings.Repeat(`\u0074`, 1_000)},
		"number":       {"application/json", `{"usage":{"total_tokens":` + strings.Repeat("1", 2_000)},
		"depth":        {"application/json", strings.Repeat("[", 2_000)},
		"event":        {"text/event-stream", strings.Repeat("data: {\"usage\":{\"total_tokens\":7}}\n\n", 300) + "data: {\"usage\":{\"total"},
		"event line":   {"text/event-stream", "data: {\"a\":\"" + long},
		"comment":      {"text/event-stream", ": " + long},
	} {
		t.Run(name, func(t *testing.T) {
			const n, most = 1000, 1 << 10
			before := heap()
			readers := openReaders(t, n, beginning.contentType, beginning.body)
			if each := (int64(heap()) - int64(before)) / n; each > most {
				t.Errorf("an open Reader takes %d bytes; want at most %d", each, most)
			}
			runtime.KeepAlive(readers)
		})
	}
}

func BenchmarkReader(b *testing.B) {
	file := func(name string) []byte {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	large := []byte(`{"choices":[{"message":{"content":"` + strings.Repeat(`a line of text\n`, 4000) + `"}}],"usage":{"total_tokens":7}}`)
	for _, c := range []struct {
		name, contentType string
		body              []byte
		piece             int
	}{
		{"events", "text/event-stream", bytes.Repeat(file("openai-chat-stream.txt"), 10), 256},
		{"JSON", "application/json", file("openai-chat.json"), 32 << 10},
		{"large", "application/json", large, 32 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.body)))
			for b.Loop() {
				r, err := NewReader(Path{tokens}, c.contentType, "", 0)
				if err != nil {
					b.Fatal(err)
				}
				for rest := c.body; len(rest) > 0; {
					n := min(len(rest), c.piece)
					_, _ = r.Write(rest[:n])
					rest = rest[n:]
				}
				if _, err := r.End(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
