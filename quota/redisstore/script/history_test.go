package script

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
)

func TestParseHistory(t *testing.T) {
	type days = map[quota.Date]map[string]quota.Used
	for _, c := range []struct {
		text string
		want days // nil: an error, unless the text has no history
	}{
		{"", nil},
		{"0 pro\n", nil},
		{"\n1796515200000 20786", days{}},
		{"\n1796515200000 20786 analyze\nanalyze 20786 2", days{20786: {"analyze": {Requests: 2, Units: 2}}}},
		{"0 pro\n1796515200000 20786 analyze\nanalyze 20783 1+4,,3-3\nreport 20783 5\nanalyze 20786 2+1",
			days{20783: {"analyze": {Requests: 1, Units: 5}, "report": {Requests: 5, Units: 5}}, 20785: {"analyze": {Requests: 3}}, 20786: {"analyze": {Requests: 2, Units: 3}}}},
		{"\n1796515200000", nil},
		{"\n1796515200000 today", nil},
		{"\n1796515200000 0", nil},
		{"\n1796515200000 20786\nanalyze", nil},
		{"\n1796515200000 20786\nanalyze 20786", nil},
		{"\n1796515200000 20786\n 20786 1", nil},
		{"\n1796515200000 20786\n\nanalyze 20786 1", nil},
		{"\n1796515200000 20786\nanalyze -1 1", nil},
		{"\n1796515200000 20786\nanalyze 99999999999999999999 1", nil},
		{"\n1796515200000 20786\nanalyze 20786 1,x", nil},
		{"\n1796515200000 20786\nanalyze 20786 -1", nil},
		{"\n1796515200000 20786\nanalyze 20786 1+", nil},
		{"\n1796515200000 20786\nanalyze 20786 +1", nil},
		{"\n1796515200000 20786\nanalyze 20786 9007199254740993", nil},
		{"\n1796515200000 20786\nanalyze 20786 1+99999999999999999999", nil},
		{"\n1796515200000 20786\nanalyze 2932896 1,1", nil},
	} {
		got, err := ParseHistory(c.text)
		if isGood := c.want != nil || !strings.Contains(c.text, "\n") || strings.HasSuffix(c.text, "pro\n"); isGood != (err == nil) {
			t.Errorf("%q: error %v", c.text, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", c.text, diff)
		}
	}
}

// A history is read as something that has bounds, or refused, whatever stands in Redis.
func FuzzParseHistory(f *testing.F) {
	f.Add("0 pro\n1796515200000 20786 analyze\nanalyze 20783 1+4,,3-3\nreport 20783 5\nanalyze 20786 2+1")
	f.Add("\n1 1\na 2932896 1,1")
	f.Fuzz(func(t *testing.T, text string) {
		used, err := ParseHistory(text)
		if err != nil && used != nil {
			t.Errorf("%v with an error", used)
		}
		for date, endpoints := range used {
			if date < 1 || date > maxDate || len(endpoints) == 0 {
				t.Errorf("the date %d has %v", date, endpoints)
			}
			for endpoint, u := range endpoints {
				if endpoint == "" || u.Requests < 0 {
					t.Errorf("%q has %v", endpoint, u)
				}
			}
		}
		if again, _ := ParseHistory(text); !maps.EqualFunc(used, again, maps.Equal) {
			t.Errorf("%v, then %v", used, again)
		}
	})
}
