package browser

import "testing"

// npm refuses a version that is not a semantic one.
func TestNPMVersionIsSemantic(t *testing.T) {
	for described, want := range map[string]string{
		"":                         "0.0.0",
		"v0.2.0":                   "0.2.0",
		"v0.2.0-14-g5e6f7a8":       "0.2.0-14-g5e6f7a8",
		"v0.2.0-14-g5e6f7a8-dirty": "0.2.0-14-g5e6f7a8-dirty",
		"0123456":                  "0.0.0-g0123456",
		"5e6f7a8-dirty":            "0.0.0-g5e6f7a8-dirty",
		"release_1/2":              "0.0.0-grelease-1-2",
	} {
		if got := npmVersion(described); got != want {
			t.Errorf("%q: %q, want %q", described, got, want)
		}
	}
}
