package proxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

// FuzzStreamEvents: whatever the user and the plan are, a reader of the stream finds the
// objects that were sent, one event each, and nothing that is not the gateway's.
func FuzzStreamEvents(f *testing.F) {
	f.Add("u-17", "free", "https://example.com/pricing", int64(43))
	f.Add("a\n\nevent: end\ndata: {}\n\n", "p\rid: 7\r", "https://example.com/\r\nretry: 1\r\n", int64(0))
	f.Add("\u2028\u2029\ufeff\x00\x85", "data: x", ":", int64(1))
	f.Add("\xff\xfe\xc3", "日本", "<script>", int64(2))
	f.Fuzz(func(t *testing.T, user, plan, upgrade string, used int64) {
		user = strings.ReplaceAll(user, "\x1f", "") // no id has it
		x, s := fuzzExchange(t, user, plan, 100, 20, used, 0, 4, 1_800_000_000)
		x.g.upgradeURL, x.account = upgrade, user
		object := x.usageObject(&s)
		w := httptest.NewRecorder()
		e := eventWriter{w: w, control: http.NewResponseController(w)}
		e.write("retry: 1000\n\n")
		x.writeUsage(&e, &s)
		x.writeUsage(&e, &s) // as before: not sent
		e.write(":\n\n")
		e.writeEnd(endReload)
		if e.err != nil {
			t.Fatal(e.err)
		}

		got := readEvents(w.Body.String())
		if len(got) != 2 || got[0].kind != "usage" || got[1] != (event{"end", `{"reason":"reload"}`}) {
			t.Fatalf("%q is read as %q", w.Body, got)
		}
		if want := string(marshal(object)); got[0].data != want {
			t.Fatalf("the data is %s, want %s", got[0].data, want)
		}
		var read struct {
			User    string `json:"user"`
			Plan    string `json:"plan"`
			Upgrade string `json:"upgrade_url"`
		}
		want := read
		want.User, want.Plan, want.Upgrade = validText(user), validText(plan), validText(upgrade)
		if err := json.Unmarshal([]byte(got[0].data), &read); err != nil || !reflect.DeepEqual(read, want) {
			t.Fatalf("it says %q, want %q, error %v", read, want, err)
		}
	})
}

// validText returns text as JSON can carry it: with U+FFFD for each byte that is not UTF-8.
func validText(s string) string { return string([]rune(s)) }

type event struct{ kind, data string }

// readEvents parses a stream as the HTML standard says (section 9.2.6). An id, or a retry
// that is not the gateway's, is returned as an event of its own.
func readEvents(stream string) (events []event) {
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(stream, "\ufeff"))
	lines := strings.Split(stream, "\n")
	kind, data := "", []string(nil)
	for _, line := range lines[:len(lines)-1] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				events = append(events, event{kind, strings.Join(data, "\n")})
			}
			kind, data = "", nil
		case name == "event":
			kind = value
		case name == "data":
			data = append(data, value)
		case name == "id", name == "retry" && value != "1000":
			events = append(events, event{name, value})
		}
	}
	return events
}
