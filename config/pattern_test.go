package config

import "testing"

func TestCheckPath(t *testing.T) {
	for _, text := range []string{"/", "/a", "/a/", "/a/b;v=1", "/gr%C3%B6%C3%9Fe", "/a%20b", "/a%3Fb", "/!$&'()*+,;=:@[]~"} {
		if err := checkPath(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "a", "//", "/a//b", "/.", "/a/..", "/%2e", "/a;/..;x", "/;x", "/a%2Fb", `/a\b`, "/a%0Ab", "/a%C2%9Fb", "/%ff", "/%C3", "/a%", "/a%4", "/a?b", "/a#b",
		"/ö", "/%c3%b6", "/%41", "/a b", "/{a}", "/a|b",
	} {
		if checkPath(text) == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}
