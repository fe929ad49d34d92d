package config

import (
	"errors"
	"testing"
)

func TestErrorsPrintOneLineForEachFault(t *testing.T) {
	one := &Error{File: "x.yaml", Line: 12, Path: "plans.free.limits[0].requests", Message: "must not be negative, got -1"}
	two := &Error{File: "x.yaml", Line: 13, Message: "is odd"}
	err := error(Errors{one, two})
	want := "x.yaml:12: plans.free.limits[0].requests: must not be negative, got -1\nx.yaml:13: is odd"
	if err.Error() != want {
		t.Errorf("got %s", err)
	}
	if !errors.Is(err, one) || !errors.Is(err, two) {
		t.Error("does not unwrap")
	}
}

func TestPrintableKeyHidesPossibleSecrets(t *testing.T) {
	for key, want := range map[string]string{
		"image-analysis": "image-analysis",
		"two words":      `"two words"`,
		"":               `""`,
		"secret:hunter2": `"secret:..."`,
		"line\nbreak":    `"line\nbreak"`,
	} {
		if got := printableKey(key); got != want {
			t.Errorf("%q: got %s, want %s", key, got, want)
		}
	}
}
