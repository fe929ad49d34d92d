package reported

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var contentTypes = []string{"application/json", "text/event-stream", "application/x-ndjson", "application/json-seq"}

// FuzzReaderIsIndependentOfCuts: what a body reports does not depend on the pieces that it comes
// in, and is what a plain model finds in the whole body.
func FuzzReaderIsIndependentOfCuts(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		f.Fatal("no files in testdata", err)
	}
	for i := range contentTypes {
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), body, uint64(i))
		}
		f.Add(uint8(i), []byte("\ufeffdata: {\"usage\":\r\ndata:{\"total_tokens\":1.2e1}}\r\rdata: [DONE]\n\n"), uint64(1))
		f.Add(uint8(i), []byte("[{\"us\\u0061ge\":{\"total_tokens\":-0}},{\"usage\":null}]\n{\"a\":[\"\\ud83d\\udc1f\",true]}"), uint64(2))
		f.Add(uint8(i), []byte("\xef\xbb"), uint64(3))
		f.Add(uint8(i), []byte("\xef\xbb{\"usage\":{\"total_tokens\":1}}"), uint64(3))
	}
	f.Fuzz(func(t *testing.T, format uint8, body []byte, seed uint64) {
		checkAgainstModel(t, contentTypes[int(format)%len(contentTypes)], body, rand.New(rand.NewPCG(seed, 0)).IntN)
	})
}

// FuzzCompressedBodies: a compressed body, damaged or not, reports the same in one piece and in many.
func FuzzCompressedBodies(f *testing.F) {
	for i, format := range []string{"gzip", "zlib", "deflate"} {
		whole := compress(f, format, stream)
		damaged := bytes.Clone(whole)
		damaged[len(damaged)/2] ^= 1
		for _, body := range [][]byte{whole, damaged, whole[:len(whole)/2], append(whole, whole...), {}} {
			f.Add(i > 0, body, uint64(i))
		}
	}
	f.Fuzz(func(t *testing.T, deflate bool, body []byte, seed uint64) {
		encoding := "gzip"
		if deflate {
			encoding = "deflate"
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var results [2]string
		for i := range results {
			r, err := NewReader(Path{tokens}, "text/event-stream", encoding, 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			for rest := body; len(rest) > 0; {
				n := len(rest)
				if i == 1 {
					n = random.IntN(n + 1) // which may be 0
				}
				_, _ = r.Write(rest[:n])
				rest = rest[n:]
			}
			amount, err := r.End()
			results[i] = fmt.Sprint(amount, err)
		}
		if results[0] != results[1] {
			t.Errorf("%s %q: in one piece %s; in many %s", encoding, body, results[0], results[1])
		}
	})
}

// Random bytes are rarely JSON. These bodies are nearly always, and their members are often on the
// path.
func TestReaderAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		contentType := rapid.SampledFrom(contentTypes).Draw(t, "content type")
		between := map[string]string{"application/json": " ", "application/x-ndjson": "\n", "text/event-stream": "\n\ndata: ", "application/json-seq": "\x1e"}[contentType]
		texts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawValue(t, 0) }), 0, 4).Draw(t, "texts")
		body := []byte(between + strings.Join(texts, between))
		if rapid.IntRange(0, 9).Draw(t, "damaged") == 0 {
			body[rapid.IntRange(0, len(body)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		checkAgainstModel(t, contentType, body, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "cut") })
	})
}

func drawValue(t *rapid.T, depth int) string {
	kinds := []string{"object", "object", "object", "array", "number", "literal", "string"}
	if depth > 3 {
		kinds = kinds[4:]
	}
	space := func() string { return rapid.SampledFrom([]string{"", "", " ", "\t"}).Draw(t, "space") }
	list := func(one func() string) string {
		var all []string
		for range rapid.IntRange(0, 4).Draw(t, "length") {
			all = append(all, space()+one()+space())
		}
		return strings.Join(all, ",")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "object":
		return "{" + list(func() string {
			name := rapid.SampledFrom([]string{`"usage"`, `"usage"`, `"total_tokens"`, `"total_tokens"`, `"us\u0061ge"`, `"total_tokens\n"`, `"a"`, `""`}).Draw(t, "name")
			return name + space() + ":" + space() + drawValue(t, depth+1)
		}) + "}"
	case "array":
		return "[" + list(func() string { return drawValue(t, depth+1) }) + "]"
	case "number":
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
	case "literal":
		return rapid.SampledFrom([]string{"null", "null", "true", "false"}).Draw(t, "literal")
	}
	text, _ := json.Marshal(rapid.String().Draw(t, "string"))
	return string(text)
}

// checkAgainstModel compares what a Reader finds in a body, in one piece and in many, with the
// model. cut returns a number from 0 to n-1.
func checkAgainstModel(t rapid.TB, contentType string, body []byte, cut func(n int) int) {
	t.Helper()
	read := func(write func(*Reader)) (int64, error) {
		r, err := NewReader(Path{tokens}, contentType, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		write(r)
		return r.End()
	}
	whole, wholeErr := read(func(r *Reader) { _, _ = r.Write(body) })
	cutAmount, cutErr := read(func(r *Reader) {
		for rest := bytes.Clone(body); len(rest) > 0; {
			n := 1 + cut(min(len(rest), 8))
			piece := bytes.Clone(rest[:n])
			_, _ = r.Write(piece)
			if !bytes.Equal(piece, rest[:n]) {
				t.Fatalf("Write changed %q to %q", rest[:n], piece)
			}
			clear(piece)
			rest = rest[n:]
		}
	})
	if whole != cutAmount || !errors.Is(cutErr, wholeErr) {
		t.Errorf("%s %q: in one piece %d, %v; in many %d, %v", contentType, body, whole, wholeErr, cutAmount, cutErr)
	}
	if want, wantErr := model(contentType, string(body)); whole != want || !errors.Is(wholeErr, wantErr) {
		t.Errorf("%s %q: it reports %d, %v; the model %d, %v", contentType, body, whole, wholeErr, want, wantErr)
	}
}

var lineEnd = regexp.MustCompile("\r\n|\r|\n")

// model says what a body reports, by the rules of the package comment and with the parsers of the
// standard library.
func model(contentType, body string) (int64, error) {
	body = strings.TrimPrefix(body, "\ufeff")
	var bodies []string
	switch contentType {
	case "application/json":
		values, ok := modelValues(body)
		if !ok {
			return 0, errUnreadable
		}
		return modelAmount(values)
	case "application/x-ndjson":
		bodies = strings.Split(body, "\n")
	case "application/json-seq":
		bodies = strings.Split(body, "\x1e")
	case "text/event-stream":
		for event := range strings.SplitSeq(lineEnd.ReplaceAllString(body, "\n"), "\n\n") {
			var data []string
			for line := range strings.SplitSeq(event, "\n") {
				if name, value, _ := strings.Cut(line, ":"); name == "data" {
					data = append(data, strings.TrimPrefix(value, " "))
				}
			}
			bodies = append(bodies, strings.Join(data, "\n"))
		}
	}
	var all []any
	for _, b := range bodies {
		if values, ok := modelValues(b); ok {
			all = append(all, values...)
		}
	}
	return modelAmount(all)
}

// modelValues returns the JSON texts of a body, elements of an array at the top among them.
func modelValues(body string) (values []any, ok bool) {
	if depth(body) > maxDepth {
		return nil, false
	}
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	for {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return values, true
		} else if err != nil {
			return nil, false
		}
		if array, ok := v.([]any); ok {
			values = append(values, array...)
		} else {
			values = append(values, v)
		}
	}
}

// depth is how many brackets are open at most, those in strings included.
func depth(body string) (deepest int) {
	open := 0
	for _, b := range body {
		switch b {
		case '{', '[':
			open++
		case '}', ']':
			open--
		}
		deepest = max(deepest, open)
	}
	return deepest
}

func modelAmount(values []any) (int64, error) {
	for i := len(values) - 1; i >= 0; i-- {
		v := values[i]
		for name := range strings.SplitSeq(tokens, ".") {
			object, _ := v.(map[string]any)
			v = object[name]
		}
		if v == nil {
			continue
		}
		text, ok := v.(json.Number)
		if !ok {
			return 0, errMalformed
		}
		n, ok := new(big.Rat).SetString(text.String())
		switch {
		case !ok || n.Sign() < 0 || !n.IsInt():
			return 0, errMalformed
		case !n.Num().IsInt64():
			return math.MaxInt64, nil
		}
		return n.Num().Int64(), nil
	}
	return 0, errAbsent
}
