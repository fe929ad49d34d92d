package browser_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"metergate/quota"
)

// client.d.ts has every member of the usage object, and no others. A member that Go may leave out is
// optional there, and one that can be null says so.
func TestTypesHaveEveryMemberOfUsage(t *testing.T) {
	text, err := os.ReadFile("client.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		of    any
		other string // how its types differ from those of Go
	}{
		"Usage":         {quota.Usage{}, "user upgrade_url? exhausts_at?|null"}, // a pool has no user; the configuration has the URL, the history the rest
		"EndpointUsage": {quota.EndpointUsage{}, ""},
		"LimitUsage":    {quota.LimitUsage{}, ""},
		"Cost":          {quota.Cost{}, ""},
		"UsagePeriod":   {quota.UsagePeriod{}, ""},
	} {
		want := membersOf(reflect.TypeOf(c.of))
		for _, member := range strings.Fields(c.other) {
			name := strings.TrimSuffix(strings.TrimSuffix(member, "|null"), "?")
			for _, form := range []string{"", "?", "|null", "?|null"} {
				delete(want, name+form)
			}
			want[member] = true
		}
		if got := membersOfInterface(t, string(text), name); !reflect.DeepEqual(got, want) {
			t.Errorf("client.d.ts, %s: %v, want %v", name, got, want)
		}
	}
}

// membersOf returns the names of a type's JSON members: with ? if they can be left out, with |null if they
// can be null.
func membersOf(t reflect.Type) map[string]bool {
	members := map[string]bool{}
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		switch kind := t.Field(i).Type.Kind(); {
		case options == "omitempty":
			name += "?"
		case kind == reflect.Pointer:
			name += "|null"
		}
		members[name] = true
	}
	return members
}

var (
	tsComment = regexp.MustCompile(`(?s)/\*\*.*?\*/`)
	tsMember  = regexp.MustCompile(`(\w+\??): ([^;]*);?`)
	tsPeriod  = regexp.MustCompile(`period: \{([^}]*)\}`)
)

// membersOfInterface returns the same of an interface in TypeScript. UsagePeriod is the type of the member
// period.
func membersOfInterface(t *testing.T, text, name string) map[string]bool {
	t.Helper()
	text = tsComment.ReplaceAllString(text, "")
	body := ""
	if period := tsPeriod.FindStringSubmatch(text); name == "UsagePeriod" && period != nil {
		body = period[1]
	} else {
		found := regexp.MustCompile(fmt.Sprintf(`(?s)export interface %s \{(.*?)\n\}`, name)).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("client.d.ts has no interface %s", name)
		}
		body = tsPeriod.ReplaceAllString(found[1], "period: UsagePeriod")
	}
	members := map[string]bool{}
	for _, m := range tsMember.FindAllStringSubmatch(body, -1) {
		member := m[1]
		if strings.Contains(m[2], "| null") {
			member += "|null"
		}
		members[member] = true
	}
	return members
}
