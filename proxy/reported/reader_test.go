package reported

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tokens = "usage.total_tokens"

func mustPath(t testing.TB, text string) Path {
	t.Helper()
	path, err := ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// readBody reads a body that comes in pieces of a size.
func readBody(t testing.TB, path, contentType, body string, size int) (int64, error) {
	t.Helper()
	r, err := NewReader(mustPath(t, path), contentType, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for piece := range slices.Chunk([]byte(body), size) {
		if n, err := r.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("Write returned %d, %v; a piece of %d bytes must pass", n, err, len(piece))
		}
	}
	return r.End()
}

// readWhole reads a body that comes in one piece.
func readWhole(t testing.TB, path, contentType, body string) (int64, error) {
	t.Helper()
	return readBody(t, path, contentType, body, len(body)+1)
}

type readerCase struct {
	name, body string
	want       int64
	err        error
}

func checkReader(t *testing.T, contentType string, cases []readerCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{len(c.body) + 1, 1} {
				got, err := readBody(t, tokens, contentType, c.body, size)
				if got != c.want || !errors.Is(err, c.err) {
					t.Errorf("%q in pieces of %d bytes reports %d, %v; want %d, %v", c.body, size, got, err, c.want, c.err)
				}
			}
		})
	}
}

func TestReaderReadsModelAPIs(t *testing.T) {
	for _, c := range []struct {
		file, contentType, path string
		want                    int64
		err                     error
	}{
		{"openai-chat.json", "application/json", tokens, 29, nil},
		{"openai-chat-stream.txt", "text/event-stream; charset=utf-8", tokens, 29, nil},
		{"openai-chat-stream-without-usage.txt", "text/event-stream; charset=utf-8", tokens, 0, errAbsent},
		{"openai-chat-stream-tools.txt", "text/event-stream; charset=utf-8", tokens, 52, nil},
		{"openai-responses.json", "application/json", tokens, 48, nil},
		{"openai-responses-stream.txt", "text/event-stream; charset=utf-8", "response.usage.total_tokens", 48, nil},
		{"anthropic-messages.json", "application/json", "usage.output_tokens", 15, nil},
		{"anthropic-messages-stream.txt", "text/event-stream; charset=utf-8", "usage.output_tokens", 15, nil},
		{"anthropic-messages-stream.txt", "text/event-stream; charset=utf-8", "message.usage.input_tokens", 25, nil},
		{"gemini.json", "application/json; charset=UTF-8", "usageMetadata.totalTokenCount", 9, nil},
		{"gemini-array.json", "application/json; charset=UTF-8", "usageMetadata.totalTokenCount", 9, nil},
		{"gemini-stream.txt", "text/event-stream", "usageMetadata.totalTokenCount", 9, nil},
		{"ollama-chat.ndjson", "application/x-ndjson", "eval_count", 282, nil},
		{"ollama-chat.ndjson", "application/json", "prompt_eval_count", 26, nil},
	} {
		t.Run(c.file+"/"+c.path, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join("testdata", c.file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := readWhole(t, c.path, c.contentType, string(body))
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("it reports %d, %v; want %d, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestReaderReadsJSON(t *testing.T) {
	deep := func(depth int) string {
		return strings.Repeat("[", depth-1) + `{}` + strings.Repeat("]", depth-1)
	}
	checkReader(t, "application/json", []readerCase{
		{"plain", `{"usage":{"total_tokens":12}}`, 12, nil},
		{"spaces", " {\t\"usage\" :\r\n{ \"total_tokens\" : 12 } }\n", 12, nil},
		{"zero", `{"usage":{"total_tokens":0}}`, 0, nil},
		{"byte order mark", "\ufeff" + `{"usage":{"total_tokens":12}}`, 12, nil},
		{"byte order mark between", `{"usage":{"total_tokens":12}}` + "\ufeff" + `{"a":1}`, 0, errUnreadable},
		{"half a byte order mark", "\xef\xbb", 0, errUnreadable},
		{"nothing", ``, 0, errAbsent},
		{"no such member", `{"usage":{"tokens":12}}`, 0, errAbsent},
		{"same name elsewhere", `{"total_tokens":1,"a":{"usage":{"total_tokens":2}},"usage":{"a":{"total_tokens":3}}}`, 0, errAbsent},
		{"other members around", `{"a":{"usage":{"total_tokens":2}},"usage":{"a":[{"total_tokens":3}],"total_tokens":12,"b":{"total_tokens":4}},"c":5}`, 12, nil},
		{"inside a string", `{"a":"{\"usage\":{\"total_tokens\":1}}"}`, 0, errAbsent},
		{"other letter case", `{"Usage":{"TOTAL_TOKENS":12}}`, 0, errAbsent},
		{"longer name", `{"usage":{"total_tokens_":12,"total_tokens\u0000":13}}`, 0, errAbsent},
		{"escaped name", `{"\u0075sage":{"\u0074\u006F\u0074\u0061\u006c\u005f\u0074\u006f\u006b\u0065\u006e\u0073":12}}`, 12, nil},
		{"null", `{"usage":{"total_tokens":null}}`, 0, errAbsent},
		{"null on the way", `{"usage":null}`, 0, errAbsent},
		{"number on the way", `{"usage":12}`, 0, errAbsent},
		{"array on the way", `{"usage":[{"total_tokens":12}]}`, 0, errAbsent},
		{"string", `{"usage":{"total_tokens":"12"}}`, 0, errMalformed},
		{"true", `{"usage":{"total_tokens":true}}`, 0, errMalformed},
		{"object", `{"usage":{"total_tokens":{"total_tokens":12}}}`, 0, errMalformed},
		{"array", `{"usage":{"total_tokens":[12]}}`, 0, errMalformed},
		{"fraction", `{"usage":{"total_tokens":12.5}}`, 0, errMalformed},
		{"negative", `{"usage":{"total_tokens":-12}}`, 0, errMalformed},
		{"repeated", `{"usage":{"total_tokens":11,"total_tokens":12}}`, 12, nil},
		{"repeated as null", `{"usage":{"total_tokens":11,"total_tokens":null}}`, 0, errAbsent},
		{"repeated on the way", `{"usage":{"total_tokens":11},"usage":{}}`, 0, errAbsent},
		{"array at the top", `[{"usage":{"total_tokens":11}},{"usage":{"total_tokens":12}},{"usage":null},7]`, 12, nil},
		{"array in an array at the top", `[[{"usage":{"total_tokens":11}}]]`, 0, errAbsent},
		{"one after the other", `{"usage":{"total_tokens":11}}{"usage":{"total_tokens":12}} {"a":1} 7`, 12, nil},
		{"unusable in the last", `{"usage":{"total_tokens":11}}{"usage":{"total_tokens":"?"}}`, 0, errMalformed},
		{"deepest", deep(maxDepth) + `{"usage":{"total_tokens":12}}`, 12, nil},
		{"too deep", deep(maxDepth+1) + `{"usage":{"total_tokens":12}}`, 0, errUnreadable},
		{"cut off", `{"usage":{"total_tokens":12}`, 0, errUnreadable},
		{"cut off in an array", `[{"usage":{"total_tokens":12}}`, 0, errUnreadable},
		{"fault after the value", `{"usage":{"total_tokens":12},}`, 0, errUnreadable},
		{"fault before the value", `{"a":01,"usage":{"total_tokens":12}}`, 0, errUnreadable},
		{"text after the value", `{"usage":{"total_tokens":12}} and more`, 0, errUnreadable},
		{"HTML", `<html></html>`, 0, errUnreadable},
	})
}

// Other texts that are not JSON, and some that are, are found by FuzzReaderIsIndependentOfCuts.
func TestReaderRefusesWhatIsNotJSON(t *testing.T) {
	const good = `{"usage":{"total_tokens":12}}`
	for _, fault := range []string{
		`{`, `}`, `[`, `]`, `[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`, `[}`, `{]`, `[1}`, `{"a":1]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" 1}`, `{1:2}`, `{a:1}`, `{"a":1 "b":2}`,
		`:`, `,`, `"`, `"\`, `"\u12`, `["\u12g4"]`, `["\u123"]`, `"\x"`, "\"\n\"", "\"\x00\"", `'a'`,
		`-`, `-a`, `+1`, `.5`, `[1.]`, `[1.e1]`, `[1e]`, `[1e+]`, `[01]`, `[-01]`, `[1..2]`, `[1e1.0]`, `[0x10]`, `[NaN]`, `[Infinity]`,
		`[tru]`, `[nul]`, `[falsy]`, `[True]`, `t`, "\x00", "\v", "/* */", "\ufeff\ufeff",
	} {
		if got, err := readWhole(t, tokens, "application/json", good+fault); err == nil {
			t.Errorf("after a good text, %q reports %d; want an error", fault, got)
		}
		if got, err := readWhole(t, tokens, "application/json", fault+good); err == nil {
			t.Errorf("before a good text, %q reports %d; want an error", fault, got)
		}
	}
}

func TestReaderReadsLines(t *testing.T) {
	for _, contentType := range []string{"application/x-ndjson", "application/jsonl; charset=utf-8"} {
		checkReader(t, contentType, []readerCase{
			{"last line decides", "{\"usage\":{\"total_tokens\":11}}\n{\"usage\":{\"total_tokens\":12}}\n", 12, nil},
			{"no line feed at the end", "{\"a\":1}\r\n\r\n{\"usage\":{\"total_tokens\":12}}", 12, nil},
			{"null does not count", "{\"usage\":{\"total_tokens\":12}}\n{\"usage\":null}\n", 12, nil},
			{"bad lines do not count", "{\"usage\":{\"total_tokens\":12}}\n{\"usage\":{\"total_tokens\":13},}\nx\n{\"usage\":{\"total_tokens\":14}\n{\"usage\":{\"total_tokens\":15}}[1", 12, nil},
			{"only bad lines", "{\"usage\":{\"total_tokens\":14}\n}\n", 0, errAbsent},
		})
	}
	checkReader(t, "application/json-seq", []readerCase{
		{"over several lines", "\x1e{\"usage\":\n{\"total_tokens\":11}}\n\x1e{\"usage\":{\n\"total_tokens\":12}}\n", 12, nil},
		{"cut off at the end", "\x1e{\"usage\":{\"total_tokens\":11}}\n\x1e{\"usage\":{\"tot", 11, nil},
	})
}

func TestReaderReadsEvents(t *testing.T) {
	const usage = `{"usage":{"total_tokens":12}}`
	checkReader(t, "text/event-stream", []readerCase{
		{"plain", "data: " + usage + "\n\n", 12, nil},
		{"no space", "data:" + usage + "\n\n", 12, nil},
		{"two spaces", "data:  " + usage + "\n\n", 12, nil},
		{"carriage returns", "data: " + usage + "\r\rdata: [DONE]\r\r", 12, nil},
		{"both", "data: " + usage + "\r\n\r\ndata: [DONE]\r\n\r\n", 12, nil},
		{"both, several lines", "data: {\r\ndata: \"usage\":\r\ndata: {\"total_tokens\":12}}\r\n\r\n", 12, nil},
		{"mixed", "data: {\rdata: \"usage\":\ndata: {\"total_tokens\":12}}\r\n\r", 12, nil},
		{"byte order mark", "\ufeffdata: " + usage + "\n\n", 12, nil},
		{"comments and other fields", ": ping\n\nevent: message\nid: 7\nretry: 5\ndata: " + usage + "\n: more\n\n", 12, nil},
		{"several lines", "data: {\"usage\":\ndata: {\"total_tokens\":\ndata\ndata:\ndata: 12}}\n\n", 12, nil},
		{"a line feed ends a number", "data: {\"usage\":{\"total_tokens\":1\ndata: 2}}\n\n", 0, errAbsent},
		{"a line feed in a string", "data: {\"a\":\"\ndata: \"," + usage[1:] + "\n\n", 0, errAbsent},
		{"last event decides", "data: {\"usage\":{\"total_tokens\":11}}\n\ndata: " + usage + "\n\n", 12, nil},
		{"null does not count", "data: " + usage + "\n\ndata: {\"usage\":null}\n\n", 12, nil},
		{"events without JSON", "data: " + usage + "\n\ndata: [DONE]\n\ndata: x\n\ndata\n\ndata: {\"usage\":{\"total_tokens\":13},}\n\n", 12, nil},
		{"an event that is no JSON does not spoil the next", "data: {\"a\":\"\n\ndata: " + usage + "\n\n", 12, nil},
		{"unusable in the last", "data: " + usage + "\n\ndata: {\"usage\":{\"total_tokens\":-1}}\n\n", 0, errMalformed},
		{"no empty line at the end", "data: " + usage + "\n", 12, nil},
		{"no line feed at the end", "data: " + usage, 12, nil},
		{"cut off", "data: " + usage + "\n\ndata: {\"usage\":{\"total_tokens\":13}", 12, nil},
		{"other field", "Data: " + usage + "\n\ndata2: " + usage + "\n\ndat: " + usage + "\n\n data: " + usage + "\n\n:data: " + usage + "\n\n", 0, errAbsent},
		{"array", "data: [{\"usage\":{\"total_tokens\":11}}," + usage + "]\n\n", 12, nil},
		{"nothing", "", 0, errAbsent},
	})
}

func TestReaderReadsNumbersExactly(t *testing.T) {
	const huge = math.MaxInt64
	zeros := strings.Repeat("0", 1000)
	for text, want := range map[string]int64{
		"0": 0, "-0": 0, "0.0": 0, "-0.00e5": 0, "0e999999999999999999999999": 0, "0e-999999999999999999999999": 0,
		"12": 12, "12.0": 12, "12." + zeros: 12, "1.2e1": 12, "1.2E+1": 12, "120e-1": 12, "0.012e3": 12, "12" + zeros + "e-1000": 12, "0." + zeros + "12e1002": 12, "12e0": 12, "12e-0": 12,
		"1e3": 1000, "1200": 1200, "1.2e3": 1200, "9007199254740993": 9007199254740993, "9007199254740993.0": 9007199254740993,
		"9223372036854775806": huge - 1, "9223372036854775807": huge, "9223372036854775808": huge, "9999999999999999999": huge, "18446744073709551616": huge,
		"1e18": 1e18, "1e19": huge, "1e30": huge, "1e400": huge, "1e99999999999999999999999999": huge, "1" + zeros: huge, "1" + zeros + ".0": huge, "1" + zeros + "." + zeros: huge,
		"1000000000000000000000e-20": 10, "1000000000000000000000e-21": 1, "1234567890123456789000e-3": 1234567890123456789,
	} {
		if got, err := readWhole(t, tokens, "application/json", `{"usage":{"total_tokens":`+text+`}}`); got != want || err != nil {
			t.Errorf("%.60s is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"-1", "-0.1", "-1e400", "12.5", "0.1", "1e-1", "1e-400", "1e-99999999999999999999999999", "120e-2", "0." + zeros + "1", "1." + zeros + "1",
		"1" + zeros + ".1", "12345678901234567890123.4", "9007199254740992.5", "1000000000000000000000e-22",
	} {
		if got, err := readWhole(t, tokens, "application/json", `{"usage":{"total_tokens":`+text+`}}`); !errors.Is(err, errMalformed) {
			t.Errorf("%.60s is %d, %v; want %v", text, got, err, errMalformed)
		}
	}
}

func TestNewReaderNamesWhatItCannotRead(t *testing.T) {
	for _, c := range []struct{ contentType, encoding, want string }{
		{"", "", `the body is neither JSON nor a stream of events: its Content-Type is ""`},
		{"text/plain; charset=utf-8", "", `the body is neither JSON nor a stream of events: its Content-Type is "text/plain; charset=utf-8"`},
		{"application/jsonp", "", `the body is neither JSON nor a stream of events: its Content-Type is "application/jsonp"`},
		{"application/json", "br", `the body has the Content-Encoding "br"; only gzip and deflate can be read`},
		{"application/json", "gzip, gzip", `the body has the Content-Encoding "gzip, gzip"; only gzip and deflate can be read`},
	} {
		if _, err := NewReader(mustPath(t, tokens), c.contentType, c.encoding, 0); err == nil || err.Error() != c.want {
			t.Errorf("%q, %q: %v; want %s", c.contentType, c.encoding, err, c.want)
		}
	}
	for _, contentType := range []string{
		"application/json", "Application/JSON ; charset=utf-8", "text/json", "application/problem+json", "application/vnd.api+json;v=2",
		"text/event-stream", "text/event-stream;charset=UTF-8", "application/x-ndjson", "application/jsonl", "application/json-seq",
	} {
		for _, encoding := range []string{"", "identity", "Identity"} {
			if _, err := NewReader(mustPath(t, tokens), contentType, encoding, 0); err != nil {
				t.Errorf("%q, %q: %v", contentType, encoding, err)
			}
		}
	}
}

func TestParsePathNamesTheCure(t *testing.T) {
	for _, text := range []string{"usage.total_tokens", "eval_count", "a.b.c", "x-cost", "0", strings.Repeat("a", 64), strings.Repeat("a.", 15) + "a"} {
		if path, err := ParsePath(text); err != nil || path.String() != text {
			t.Errorf("%q: %q, %v", text, path, err)
		}
	}
	for _, text := range []string{
		"", ".", "usage.", ".usage", "usage..total", "$.usage", "usage[0]", "usage/total", "usage total", " usage", "usage ", "usage\n", "/usage", "usag\u00e9", `a\.b`, "*",
		strings.Repeat("a", 65), strings.Repeat("a.", 16) + "a",
	} {
		if _, err := ParsePath(text); err == nil || !strings.Contains(err.Error(), "such as usage.total_tokens") {
			t.Errorf("%q: %v; want an error that shows a path", text, err)
		}
	}
}

func TestEndCanBeCalledAgain(t *testing.T) {
	r, err := NewReader(mustPath(t, tokens), "text/event-stream", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, _ = r.Write([]byte("data: {\"usage\":{\"total_tokens\":12}}"))
		if got, err := r.End(); got != 12 || err != nil {
			t.Errorf("End returned %d, %v; want 12", got, err)
		}
		_, _ = r.Write([]byte("\n\ndata: {\"usage\":{\"total_tokens\":13}}\n\n")) // it is over
	}
}
