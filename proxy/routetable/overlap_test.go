package routetable_test

import (
	"testing"

	"metergate/proxy/routetable"
)

func TestOverlapBehind(t *testing.T) {
	const apart, together, within = routetable.Apart, routetable.Together, routetable.Within
	for _, c := range []struct {
		pattern, strip, other, otherStrip string
		want                              routetable.Overlap
	}{
		{"/{rest...}", "", "/v1/run", "/v1", within},
		{"/", "", "/v1/run/{id}", "/v1", within},
		{"/{name}", "", "/v1/run", "/v1", within},
		{"/{name}", "", "/v1/{id}", "/v1", together},
		{"/run", "", "/v1/run", "/v1", together},
		{"/Run/{$}", "", "/v1/run", "/v1", together},
		{"/walk", "", "/v1/run", "/v1", apart},
		{"/v2/{rest...}", "/v2", "POST /v1/run", "/v1", within},
		{"/v2/{rest...}", "/v2", "/v1/{rest...}", "/v1", together},
		{"/v2/", "/v2", "/v1/{rest...}", "/v1", together},
		{"/docs/{rest...}", "", "/v1/{rest...}", "/v1", apart}, // written for /docs
		{"/run", "", "/v1/{rest...}", "/v1", apart},
		{"GET /v2/{rest...}", "/v2", "POST /v1/run", "/v1", apart},
		{"/v2/{rest...}", "", "/v1/run", "/v1", apart},
		{"h.example/v2/", "/v2", "other.example/v1/run", "/v1", apart},
		{"/{a}/run", "", "/v1/go/{b}", "/v1", together},
	} {
		if got := routetable.OverlapBehind(c.pattern, c.strip, c.other, c.otherStrip); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
