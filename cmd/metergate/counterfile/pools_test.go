package counterfile

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What an organisation has used is the sum of its members' rows, unless it has a row of its own.
func TestAddPoolsSumsMembers(t *testing.T) {
	const text = "user,endpoint,used,units,org,start\n" +
		"a,analyze,3,,acme,\nb,analyze,4,10,acme,\nb,image,5,,acme,\nalone,analyze,9,,,\n" +
		"a,analyze,7,,own,\n,analyze,1,,own,\n" +
		"a,analyze,7,,bounded,2026-11-15T00:00:00Z\nb,analyze,7,,bounded,\n"
	got := read(t, strings.NewReader(text), Options{})
	members := len(got.Users)
	if added, leftOut := got.AddPools(); added != 1 || leftOut != 1 || faults(got) != "" {
		t.Fatalf("added %d, left out %d, faults %s", added, leftOut, faults(got))
	}
	want := []*UserCounts{{Account: Account{Org: "acme"}, Derived: true, Counts: []Count{
		{"analyze", 7, 13, Place{"stdin", 2}}, {"image", 5, -1, Place{"stdin", 4}}}}}
	if !reflect.DeepEqual(got.Users[members:], want) {
		t.Errorf("added %+v, want %+v", got.Users[members:], want[0])
	}
	if of := got.Users[0].Counts[0]; of.Used != 3 {
		t.Errorf("a member's count became %d", of.Used)
	}

	got = read(t, strings.NewReader("user,endpoint,used,org\na,x,1000000000000,acme\nb,x,1,acme\n"), Options{})
	if got.AddPools(); strings.TrimSpace(faults(got)) != `stdin:3: the sum of the members of organisation "acme" is more than 1000000000000` {
		t.Errorf("faults %s", faults(got))
	}
}

// A table may have one item for each organisation.
func TestReadTakesItemsOfOrganisations(t *testing.T) {
	got := read(t, strings.NewReader(`{"Item":{"org":{"S":"acme"},"n":{"N":"5"}}}
{"Item":{"n":{"N":"5"}}}`), Options{Mapping: mapping(t, "org=org,used=n,endpoint=@analyze")})
	if len(got.Users) != 1 || got.Users[0].Account != (Account{Org: "acme"}) || faults(got) != "stdin:2: there is no attribute org; the item has n\n" {
		t.Errorf("read %+v, faults %s", got.Users, faults(got))
	}
}

// A file that is not what the command was told to read says how to read it.
func TestReadNamesCure(t *testing.T) {
	const page = `{"Items":[` + `{"user_id":{"S":"%"},"endpoint":{"S":"a"},"count":{"N":"1"}}]`
	whole := func(user string) string { return strings.Replace(page, "%", user, 1) + "}" }
	goesOn := func(user string) string {
		return strings.Replace(page, "%", user, 1) + `,"LastEvaluatedKey":{"user_id":{"S":"x"}}}`
	}
	dynamo := Options{Mapping: mapping(t, usual)}
	packed := pack(t, "user,endpoint,used\n")
	for _, c := range []struct {
		name, text, want string
		o                Options
	}{
		{"no column used", "user,endpoint,count\nu,a,1\n", "stdin:1: the header has no column used; it has user, endpoint, count", Options{}},
		{"no column user", "id,endpoint,used\nu,a,1\n", "stdin:1: the header has no column user; it has id, endpoint, used", Options{}},
		{"no column endpoint", "user,used\nu,1\n", "stdin:1: the header has no column endpoint; it has user, used", Options{}},
		{"a user called user", "user,analyze,3\n", "", Options{}},
		{"JSON", whole("u"), "stdin:1: is JSON; an export or a scan of a DynamoDB table needs -format dynamodb and -map " + MappingForm, Options{}},
		{"JSON on lines", "{\n    \"Items\": []}", "stdin:1: is JSON; an export or a scan of a DynamoDB table needs -format dynamodb and -map " + MappingForm, Options{}},
		{"a CSV cut short", string(packed[:len(packed)-6]), "stdin:1: the file ends too early; copy it again", Options{AllowTotals: true}},
		{"no whole header of gzip", string(packed[:5]), "stdin: cannot unpack it: the file ends too early; copy it again", Options{}},
		{"pages", goesOn("u") + whole("v"), "", dynamo},
		{"pages of two scans", whole("u") + goesOn("v"), "stdin:1: the scan goes on after this page, and no file has its last one; " +
			"scan without --max-items and --no-paginate, or add the pages that are missing, in their order", dynamo},
		{"half a pair", whole(`\ud83d`), `stdin:1: user_id has half of a UTF-16 pair, "\ud83d", which is no character`, dynamo},
		{"halves in the wrong order", whole(`\ude00\ud83d`), `stdin:1: user_id has half of a UTF-16 pair, "\ude00\ud83d", which is no character`, dynamo},
		{"a pair", whole(`\ud83d\ude00`), "", dynamo},
		{"a backslash before ud83d", whole(`\\ud83d`), "", dynamo},
	} {
		if got := strings.TrimSpace(faults(read(t, strings.NewReader(c.text), c.o))); got != c.want {
			t.Errorf("%s: faults\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// Only "-" is standard input.
func TestReadTakesFileNamedStdin(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(filepath.Join(".", "stdin"), []byte("u,a,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read([]string{"stdin", "-"}, Options{Stdin: bytes.NewReader([]byte("v,a,4\n"))})
	if err != nil || len(got.Users) != 2 || got.Users[0].Counts[0].Used != 3 || got.Users[1].Counts[0].Used != 4 {
		t.Errorf("read %+v, error %v", got, err)
	}
}
