package redisstore

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"metergate/quota/redisstore/redistest"
)

// wantWarnings checks that SetupWarnings returns warnings with these parts, in this order.
func wantWarnings(t *testing.T, what, url string, want ...string) {
	t.Helper()
	got := openStore(t, url).SetupWarnings(ctx)
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s: warnings %q, want %q", what, got, want)
	}
}

func TestSetupWarnings(t *testing.T) {
	const nothing = "keeps nothing on disk"
	s := redistest.Start(t)
	set := func(pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			s.Do("CONFIG", "SET", pairs[i], pairs[i+1])
		}
	}
	wantWarnings(t, "no persistence", s.URL(), nothing)
	set("save", "3600 1")
	wantWarnings(t, "save points", s.URL())
	set("save", "", "appendonly", "yes", "appendfsync", "everysec")
	wantWarnings(t, "an AOF", s.URL())
	s.Kill()
	wantWarnings(t, "no Redis", s.URL())
	wantWarnings(t, "another kind of server", "redis://"+miniredis.RunT(t).Addr())
}

// TestSetupWarningsWithFewRights checks that what the store may not ask makes no warning.
func TestSetupWarningsWithFewRights(t *testing.T) {
	s := redistest.Start(t)
	s.Needs(t, "6.2", "ACL for channels")
	url := "redis://store:secret@" + s.Addr
	s.Do("ACL", "SETUSER", "store", "on", ">secret", "~*", "&*", "+@all", "-config", "-info")
	wantWarnings(t, "nothing permitted", url)
	if err := openStore(t, url).Check(ctx); err != nil {
		t.Error(err) // else there was no warning for another reason
	}
}

func TestTooOldBelowRedis5(t *testing.T) {
	for version, want := range map[string]bool{
		"2.8.24": true, "3.2.0": true, "4.0.14": true, "4.9.1": true, "5.0.0": false, "7.0.15": false, "10.1": false, "": false, "unknown": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("tooOld(%q) = %v", version, got)
		}
	}
}
