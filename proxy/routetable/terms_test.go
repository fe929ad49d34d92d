package routetable_test

import (
	"testing"

	"metergate/proxy/routetable"
)

func TestTermsEvadeThoseThatDemandMore(t *testing.T) {
	here, elsewhere := []string{"http://a", "http://b"}, []string{"http://c"}
	analyze := routetable.Terms{Endpoint: "analyze", Targets: here}
	observed := routetable.Terms{Endpoint: "analyze", Observe: true, Targets: here}
	costly := routetable.Terms{Endpoint: "analyze", Cost: 10, Targets: here}
	other := routetable.Terms{Endpoint: "other", Targets: here}
	token := routetable.Terms{Targets: here[1:]}
	public := routetable.Terms{Public: true, Targets: here}
	foreign := routetable.Terms{Public: true, Targets: elsewhere}
	for _, c := range []struct {
		name string
		t, o routetable.Terms
		want bool
	}{
		{"the same endpoint", analyze, analyze, false},
		{"another cost", analyze, costly, true},
		{"the same cost", costly, costly, false},
		{"another endpoint", other, analyze, true},
		{"no endpoint", token, analyze, true},
		{"no token", public, analyze, true},
		{"no token, another server", foreign, analyze, true},
		{"observed", observed, analyze, true},
		{"enforced", analyze, observed, false},
		{"observed as well", observed, observed, false},
		{"metered instead of a token", analyze, token, false},
		{"no token instead of one", public, token, true},
		{"no token instead of one, another server", foreign, token, false},
		{"a token instead of none", token, public, false},
		{"metered instead of public", analyze, public, false},
	} {
		if got := c.t.Evades(&c.o); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
