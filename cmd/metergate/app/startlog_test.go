package app

import (
	"testing"

	"metergate/config"
)

func TestStoreLocationHidesSecrets(t *testing.T) {
	for url, want := range map[config.Secret]string{
		"embedded:/var/lib/x":                                    "embedded in /var/lib/x",
		"redis://localhost:6379/2":                               "redis://localhost:6379/2",
		"rediss://user:p%40ss@redis.example.com:6380?db=1":       "rediss://redis.example.com:6380",
		"rediss+cluster://u:p@a:1,b:2":                           "rediss+cluster://a:1,b:2",
		"redis+sentinel://:secret@a:1,b:2/main/3":                "redis+sentinel://a:1,b:2/main/3",
		"unix://user:secret@/run/redis.sock?db=1&password=other": "unix:///run/redis.sock",
	} {
		if got := storeLocation(config.Store{URL: url}); got != want {
			t.Errorf("%s: %s, want %s", string(url), got, want)
		}
	}
}
