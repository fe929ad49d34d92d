package apikeys

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

func hasPlan(name string) bool { return name == "pro" || name == "free" }

// hashOf returns a hash as the file has it.
func hashOf(key string) string {
	k := NewKey(key)
	return k.HashText()
}

// lineOf returns the line of a key.
func lineOf(t testing.TB, k Key) string {
	t.Helper()
	line, err := k.FileLine()
	if err != nil {
		t.Fatal(err)
	}
	return line + "\n"
}

func read(t testing.TB, file string) *Set {
	t.Helper()
	set, faults, err := Read(strings.NewReader(file), hasPlan)
	if err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	return set
}

// A key that was made, and its line, are what a program and the gateway know.
func TestNewKeyIsFound(t *testing.T) {
	for range 1000 {
		key := New()
		if len(key) != len(Prefix)+randomDigits+checkDigits || strings.Trim(key[3:], "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			t.Fatalf("the form of a key is wrong: %d bytes", len(key))
		}
		want := NewKey(key)
		want.ID, want.User, want.Org, want.Plan, want.Line = "ci-1", "it's u, 17", "acme", "pro", 1
		want.Expires = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		set := read(t, lineOf(t, want))
		if got := set.Find(key); got == nil || cmp.Diff(*got, want) != "" {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if strings.Contains(lineOf(t, want), key) {
			t.Fatal("the line has the key")
		}
		for _, other := range []string{"", key[:len(key)-1], key + "A", strings.ToLower(key), New(), strings.Repeat("x", 1<<20)} {
			if other != key && set.Find(other) != nil {
				t.Errorf("the key of %d bytes is found", len(other))
			}
		}
	}
	if (*Set)(nil).Find(New()) != nil || (*Set)(nil).Keys() != nil {
		t.Error("a nil Set has a key")
	}
}

func TestReadAcceptsTheWaysToWriteAKey(t *testing.T) {
	hash := hashOf("mg_x")
	key := func(id, user, plan, org, expires string, line int) Key {
		k := NewKey("mg_x")
		k.ID, k.User, k.Plan, k.Org, k.Line = id, user, plan, org, line
		if expires != "" {
			k.Expires, _ = time.Parse(time.RFC3339, expires)
		}
		return k
	}
	for name, c := range map[string]struct {
		file string
		want []Key
	}{
		"no key":             {"[]\n", nil},
		"no key, explained":  {"# none\n---\n[]  \n", nil},
		"braces":             {"- { id: a, hash: " + hash + ", user: u }", []Key{key("a", "u", "", "", "", 1)}},
		"no spaces":          {"- {id: a,hash: " + hash + ",user: u}\n", []Key{key("a", "u", "", "", "", 1)}},
		"all members":        {"- { id: a.B-_9, hash: " + hash + ", user: u-17, plan: pro, org: acme, expires: 2027-01-01 }\n", []Key{key("a.B-_9", "u-17", "pro", "acme", "2027-01-01T00:00:00Z", 1)}},
		"a time":             {"- { id: a, hash: " + hash + ", user: u, expires: 2027-01-01T12:30:00+02:00 }\n", []Key{key("a", "u", "", "", "2027-01-01T10:30:00Z", 1)}},
		"a time in quotes":   {"- { id: a, hash: " + hash + ", user: u, expires: '2027-01-01' }\n", []Key{key("a", "u", "", "", "2027-01-01T00:00:00Z", 1)}},
		"quotes":             {`- { id: "a", hash: '` + hash + `', user: "x, y } \"z\" \\" }`, []Key{key("a", `x, y } "z" \`, "", "", "", 1)}},
		"single quotes":      {`- { id: a, hash: ` + hash + `, user: 'it''s #1: \n' }`, []Key{key("a", `it's #1: \n`, "", "", "", 1)}},
		"a number":           {"- { id: 7, hash: " + hash + ", user: '0017' }\n", []Key{key("7", "0017", "", "", "", 1)}},
		"zero":               {"- { id: 0, hash: " + hash + ", user: 123456789012345 }\n", []Key{key("0", "123456789012345", "", "", "", 1)}},
		"truth":              {"- { id: a, hash: " + hash + ", user: \"true\" }\n", []Key{key("a", "true", "", "", "", 1)}},
		"like a number":      {"- { id: 1.2.3, hash: " + hash + ", user: 12e4567-e89b }\n", []Key{key("1.2.3", "12e4567-e89b", "", "", "", 1)}},
		"a mail address":     {"- { id: a, hash: " + hash + ", user: jo@example.com }\n", []Key{key("a", "jo@example.com", "", "", "", 1)}},
		"other letters":      {"- { id: a, hash: " + hash + ", user: Zoë }\n", []Key{key("a", "Zoë", "", "", "", 1)}},
		"a dollar":           {"- { id: a, hash: " + hash + ", user: $HOME }\n", []Key{key("a", "$HOME", "", "", "", 1)}},
		"a comment":          {"# keys\n\n- { id: a, hash: " + hash + ", user: u } # of the CI\n  # more\n", []Key{key("a", "u", "", "", "", 3)}},
		"a comma at the end": {"- { id: a, hash: " + hash + ", user: u, }\n", []Key{key("a", "u", "", "", "", 1)}},
		"CRLF":               {"- { id: a, hash: " + hash + ", user: u }\r\n", []Key{key("a", "u", "", "", "", 1)}},
		"a byte order mark":  {"\ufeff- { id: a, hash: " + hash + ", user: u }\n", []Key{key("a", "u", "", "", "", 1)}},
		"lines":              {"- id: a\n  user: u # who\n\n  # the hash\n  hash: " + hash + "\n", []Key{key("a", "u", "", "", "", 1)}},
		"lines, indented":    {"-   id: a\n    hash: " + hash + "\n    user: \"u v\"\n", []Key{key("a", "u v", "", "", "", 1)}},
		"both": {"- id: a\n  hash: " + hash + "\n  user: u\n- { id: b, hash: " + hashOf("mg_y") + ", user: u }\n", []Key{key("a", "u", "", "", "", 1),
			{ID: "b", User: "u", Hash: NewKey("mg_y").Hash, Line: 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(read(t, c.file).Keys(), c.want); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadNamesEachFault(t *testing.T) {
	hash, other := hashOf("mg_x"), hashOf("mg_y")
	good := "- { id: a, hash: " + hash + ", user: u }\n"
	key := New()
	for name, c := range map[string]struct{ file, want string }{
		"empty":                       {"", "1: has no key; write []"},
		"only a comment":              {"# nothing\n", "1: has no key; write []"},
		"a key after none":            {"[]\n" + good, "2: comes after []"},
		"none after a key":            {good + "[]\n", "2: must begin with a hyphen"},
		"a mapping":                   {"keys:\n" + good, "1: must begin with a hyphen"},
		"an indented list":            {"  " + good, "1: begins with spaces; the hyphen must be the first character of the line, with all names of the key on the same line"},
		"an indented key":             {good + "  - id: b\n", "2: begins with spaces; the hyphen must be the first"},
		"a hyphen alone":              {"-\n  id: a\n  hash: " + hash + "\n", "1: has a hyphen alone; the hyphen must be the first character of the line, with all names of the key on the same line"},
		"a hyphen and a space":        {"- \n  id: a\n", "1: has a hyphen alone; the hyphen must be the first"},
		"a hyphen without a space":    {"-id: a\n", "1: must begin with a hyphen and a space"},
		"a key that goes on":          {"- { id: a,\n    hash: " + hash + ", user: u }\n", "1: has no } at its end; the hyphen must be the first character of the line, with all names of the key on the same line"},
		"a key that goes on, a note":  {"- { id: a, # the CI\n    hash: " + hash + ", user: u }\n", "1: has no } at its end; the hyphen"},
		"a tab":                       {"-\t{ id: a }\n", "1: has a tab"},
		"bad UTF-8":                   {"- { id: a, user: \xff }\n", "1: has a tab, a control character"},
		"a line separator":            {"- { id: a, user: 'u\u2028v' }\n", "1: has a tab, a control character"},
		"a long line":                 {"- { id: a, user: '" + strings.Repeat("u", 20_000) + "' }\n", "1: has more than 16 KiB"},
		"no id":                       {"- { hash: " + hash + ", user: u }\n", "1: needs id"},
		"no hash":                     {"- { id: a, user: u }\n", "1: needs hash; metergate key"},
		"no user":                     {"- id: a\n  hash: " + hash + "\n", "1: needs user"},
		"a bad id":                    {"- { id: 'a b', hash: " + hash + ", user: u }\n", "1: id: must have 1 to 64 letters"},
		"an id twice":                 {good + "- { id: a, hash: " + other + ", user: u }\n", "2: id: a is the id of the key on line 1"},
		"a hash twice":                {good + "- { id: b, hash: " + hash + ", user: u }\n", "2: hash: the key on line 1 has the same"},
		"a short hash":                {"- { id: a, hash: sha256:0123, user: u }\n", "1: hash: must be sha256: and 64"},
		"a hash of another kind":      {"- { id: a, hash: " + strings.Replace(hash, "sha256", "sha512", 1) + ", user: u }\n", "1: hash: must be sha256: and 64"},
		"a hash in upper case":        {"- { id: a, hash: sha256:" + strings.ToUpper(hash[7:]) + ", user: u }\n", "1: hash: must be sha256: and 64"},
		"a hash that is none":         {"- { id: a, hash: sha256:" + strings.Repeat("g", 64) + ", user: u }\n", "1: hash: must be sha256: and 64"},
		"a key as the hash":           {"- { id: a, hash: " + key + ", user: u }\n", "1: hash: is a key, and not the hash of one"},
		"a key as the id":             {"- { id: " + key + ", hash: " + hash + ", user: u }\n", "1: id: must have"},
		"a key as the user":           {"- { id: a, hash: " + hash + ", user: " + key + " }\n", "1: user: must have"},
		"a key as the organisation":   {"- { id: a, hash: " + hash + ", user: u, org: " + key + " }\n", "1: org: must have"},
		"a key as the plan":           {"- { id: a, hash: " + hash + ", user: u, plan: " + key + " }\n", "1: plan: the configuration has no plan of that name"},
		"a key as a name":             {"- { id: a, " + key + ": u }\n", "1: has an unknown name; the names are id, hash"},
		"the output of metergate key": {key + "\n" + good, "1: is a key itself"},
		"the same in a key":           {"- id: a\n" + key + "\n", "2: is a key itself"},
		"an empty user":               {"- { id: a, hash: " + hash + ", user: '' }\n", "1: user: must have 1 to 256 bytes"},
		"a long user":                 {"- { id: a, hash: " + hash + ", user: " + strings.Repeat("u", 257) + " }\n", "1: user: must have 1 to 256 bytes"},
		"an empty organisation":       {"- { id: a, hash: " + hash + ", user: u, org: \"\" }\n", "1: org: must have 1 to 256 bytes"},
		"a long organisation":         {"- { id: a, hash: " + hash + ", user: u, org: " + strings.Repeat("o", 257) + " }\n", "1: org: must have 1 to 256 bytes"},
		"another plan":                {"- { id: a, hash: " + hash + ", user: u, plan: gold }\n", `1: plan: the configuration has no plan "gold"`},
		"a bad date":                  {"- { id: a, hash: " + hash + ", user: u, expires: 2027-02-30 }\n", "1: expires: must be a date such as 2027-01-01"},
		"a duration":                  {"- { id: a, hash: " + hash + ", user: u, expires: 90d }\n", "1: expires: must be a date"},
		"a name twice":                {"- { id: a, id: b, hash: " + hash + ", user: u }\n", "1: id: is given twice"},
		"a misspelt name":             {"- { id: a, hash: " + hash + ", users: u }\n", `1: has the unknown name "users"; the names are id, hash, user, plan, org, expires`},
		"no value":                    {"- { id: a, hash: " + hash + ", user: }\n", "1: user: needs a value"},
		"no value on a line":          {"- id: a\n  user:\n  hash: " + hash + "\n", "2: user: needs a value"},
		"null":                        {"- { id: a, hash: " + hash + ", user: ~ }\n", `1: user: must be in quotes, as in "~", because YAML`},
		"a boolean on a line":         {"- id: a\n  user: yes # sir\n", `2: user: must be in quotes, as in "yes", because YAML`},
		"a variable":                  {"- { id: a, hash: " + hash + ", user: ${USER} }\n", "1: user: must be in quotes"},
		"an alias":                    {"- { id: a, hash: " + hash + ", user: *u }\n", "1: user: must be in quotes"},
		"a block":                     {"- id: a\n  user: |\n    u\n", "2: user: must be in quotes"},
		"a space":                     {"- { id: a, hash: " + hash + ", user: u v }\n", "1: must have a comma between values"},
		"a space on a line":           {"- id: a\n  user: u v\n", "2: has something after a value"},
		"no brace":                    {"- { id: a, hash: " + hash + ", user: u\n", "1: has no } at its end; the hyphen must be the first"},
		"something after it":          {"- { id: a, hash: " + hash + ", user: u } x\n", "1: has something after the }"},
		"no colon":                    {"- { id, hash: " + hash + ", user: u }\n", "1: must have names and values"},
		"no space":                    {"- { id:a, hash:" + hash + ", user:u }\n", "1: must have names and values"},
		"nothing":                     {"- {}\n", "1: needs id"},
		"an open quote":               {"- { id: 'a, hash: " + hash + ", user: u }\n", "1: id: has a quote that is not closed"},
		"an open double quote":        {"- { id: \"a, hash: " + hash + ", user: u }\n", "1: id: has a quote that is not closed"},
		"an escape":                   {`- { id: a, hash: ` + hash + `, user: "u\n" }`, `1: user: has a \ that is not`},
		"another indentation":         {"- id: a\n   hash: " + hash + "\n  user: u\n", "2: must begin with a hyphen"},
		"a text":                      {"- a\n", "1: must have names and values"},
		"two documents":               {good + "---\n" + good, "2: must begin with a hyphen"},
	} {
		t.Run(name, func(t *testing.T) {
			set, faults, err := Read(strings.NewReader(c.file), hasPlan)
			if err != nil || set != nil || len(faults) == 0 {
				t.Fatal(set, faults, err)
			}
			if got := fmt.Sprintf("%d: %s", faults[0].Line, faults[0].Message); !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for _, f := range faults {
				if strings.Contains(f.Message, key) || strings.Contains(f.Message, hash[7:]) || strings.Contains(f.Message, hash[len(hash)-20:]) {
					t.Errorf("a fault shows a key or a hash: %s", f.Message)
				}
			}
		})
	}
	_, faults, _ := Read(strings.NewReader(strings.Repeat("x\n- {}\n", 1000)), hasPlan)
	if len(faults) < maxFaults || len(faults) > maxFaults+3 {
		t.Errorf("%d faults", len(faults))
	}
}

// What YAML does not read as text must be in quotes, and metergate key writes it so.
func TestTextThatMeansMoreInYAMLNeedsQuotes(t *testing.T) {
	for _, text := range []string{"true", "True", "FALSE", "yes", "No", "on", "OFF", "y", "N", "null", "Null", "~",
		"017", "08", "00", "0o17", "0x1F", "0b11", "1_000", "+1", "1e3", "1E+3", "12e34567", "1.5", "1.", ".5", "+.5e1", ".inf", "+.Inf", ".NaN",
		"1:30", "190:20:30.15", "1234567890123456", "2027-01-01", "2027-1-1", "2027-01-01T00:00:00Z"} {
		k := NewKey("mg_x")
		k.ID, k.User, k.Plan = "a", text, "pro"
		line := lineOf(t, k)
		if got := read(t, line).Keys()[0].User; got != text {
			t.Errorf("%s is read as %q", line, got)
		}
		bare := strings.Replace(line, "user: '"+text+"'", "user: "+text, 1)
		want := fmt.Sprintf(`user: must be in quotes, as in "%s", because YAML does not read it as text without them`, text)
		if _, faults, _ := Read(strings.NewReader(bare), hasPlan); len(faults) != 1 || faults[0].Message != want {
			t.Errorf("%s: %v", bare, faults)
		}
	}
}

func TestFileLineNamesWhatNoFileCanHave(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb":                   "user: must not have line breaks or control characters",
		"a\x00b":                 "user: must not have line breaks or control characters",
		"a\u2028b":               "user: must not have line breaks or control characters",
		"a\xff":                  "user: must be UTF-8",
		"":                       "user: must have 1 to 256 bytes",
		strings.Repeat("u", 257): "user: must have at most 256 bytes",
		New():                    "user: must have 1 to 256 bytes",
	} {
		k := NewKey("mg_x")
		k.ID, k.User = "a", text
		if _, err := k.FileLine(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestFileLineKeepsTheWholeTime(t *testing.T) {
	for _, text := range []string{"2999-01-01", "2999-01-01T00:00:01Z", "2999-01-01T00:00:00.5Z", "2999-01-01T12:30:00.000000001Z"} {
		k := NewKey("mg_x")
		k.ID, k.User = "a", "u"
		var err error
		if k.Expires, err = ParseExpiry(text); err != nil {
			t.Fatal(err)
		}
		line := lineOf(t, k)
		if got := read(t, line).Keys()[0].Expires; !strings.Contains(line, "expires: "+text+" }") || !got.Equal(k.Expires) {
			t.Errorf("%s: the line is %s, read as %v", text, line, got)
		}
	}
}

// A fault is reported once, and not again for each line that belongs to the key.
func TestReadReportsAKeyInPiecesOnce(t *testing.T) {
	for _, file := range []string{"-\n  id: a\n  user: u\n", "  - id: a\n    user: u\n", "- { id: a,\n    user: u }\n", "- { id: a\n  , user: u\n  }\n"} {
		if _, faults, _ := Read(strings.NewReader(file), hasPlan); len(faults) != 1 || faults[0].Line != 1 {
			t.Errorf("%q: %v", file, faults)
		}
	}
}

// What is read means the same to a YAML parser, and what is written is read again.
func FuzzRead(f *testing.F) {
	hash := hashOf("mg_x")
	for _, s := range []string{"[]", "- { id: a, hash: " + hash + ", user: 'u' } # c\n", "- id: a\n  hash: " + hash + "\n  user: \"\\\"\"\n",
		"---\n- { id: a, hash: " + hash + ", user: a:b=c@d~e|f$, }", "- { id: 1.5e3, hash: " + hash + ", user: .inf, org: 0x1F, expires: 2027-01-01 }"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file string) {
		set, faults, err := Read(strings.NewReader(file), func(string) bool { return true })
		if err != nil || (set == nil) != (len(faults) > 0) {
			t.Fatal(set, faults, err)
		}
		if set == nil {
			return
		}
		var list []struct {
			ID      string `yaml:"id"`
			Hash    string `yaml:"hash"`
			User    string `yaml:"user"`
			Plan    string `yaml:"plan"`
			Org     string `yaml:"org"`
			Expires string `yaml:"expires"`
		}
		if err := yaml.Unmarshal([]byte(file), &list); err != nil || len(list) != len(set.Keys()) {
			t.Fatalf("%d keys, and YAML has %d: %v", len(set.Keys()), len(list), err)
		}
		var node yaml.Node
		if err := yaml.Unmarshal([]byte(file), &node); err != nil {
			t.Fatal(err)
		}
		for _, key := range node.Content[0].Content {
			for i := 0; i < len(key.Content); i += 2 {
				switch value := key.Content[i+1]; {
				case value.ShortTag() == "!!str" || key.Content[i].Value == "expires":
				case value.ShortTag() != "!!int" || !isWholeNumber(value.Value):
					t.Fatalf("%q is %s to YAML", value.Value, value.ShortTag())
				}
			}
		}
		again, written := "", 0
		for i, k := range set.Keys() {
			y := list[i]
			if y.ID != k.ID || y.Hash != k.HashText() || y.User != k.User || y.Plan != k.Plan || y.Org != k.Org || (y.Expires == "") != k.Expires.IsZero() {
				t.Fatalf("%+v is %+v to YAML", k, y)
			}
			if k.Plan == "" || hasPlan(k.Plan) {
				again += lineOf(t, k)
				written++
			}
		}
		if again == "" {
			return
		}
		second, faults, err := Read(strings.NewReader(again), func(string) bool { return true })
		if err != nil || len(faults) > 0 || len(second.Keys()) != written {
			t.Fatalf("%s: %v %v", again, faults, err)
		}
	})
}

const manyKeys = 100_000

// manyLines returns a file of many keys, with ids as UUIDs are long.
func manyLines() (file string, last string) {
	var b strings.Builder
	for i := range manyKeys {
		last = fmt.Sprintf("mg_%049d", i)
		fmt.Fprintf(&b, "- { id: key-%d, hash: %s, user: auth0|%032d, plan: pro, org: org-%d, expires: 2027-01-01 }\n", i, hashOf(last), i, i%1000)
	}
	return b.String(), last
}

// 100,000 keys take less than 64 MiB, and so does reading them.
func TestManyKeysTakeLittleMemory(t *testing.T) {
	file, last := manyLines()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	set := read(t, file)
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	mib := float64(after.HeapAlloc-before.HeapAlloc) / (1 << 20)
	t.Logf("%d keys in %.1f MiB, read from %.1f MiB in %v", len(set.Keys()), mib, float64(len(file))/(1<<20), took)
	if mib > 64 || len(set.Keys()) != manyKeys || set.Find(last) == nil {
		t.Errorf("%d keys take %.1f MiB", len(set.Keys()), mib)
	}
	runtime.KeepAlive(file)
}

func BenchmarkRead(b *testing.B) {
	file, _ := manyLines()
	b.ReportAllocs()
	for b.Loop() {
		read(b, file)
	}
}

func BenchmarkFind(b *testing.B) {
	file, last := manyLines()
	set := read(b, file)
	b.ReportAllocs()
	for b.Loop() {
		if set.Find(last) == nil {
			b.Fatal("not found")
		}
	}
}
