package redisstore

import (
	"strings"
	"testing"
)

func TestOpenRefusesAURLWithoutShowingIt(t *testing.T) {
	for _, url := range []string{
		"", "h:1", "http://h", "redis+cluster", "redis+cluster:h:1", "redis+cluster://", "redis+cluster://:hunter2@",
		"redis+cluster://:hunter2@h1:1,", "redis+cluster://:hunter2@h1,h2:2", "redis+cluster://:hunter2@h1:0", "redis+cluster://:hunter2@h1:65536",
		"redis+cluster://:hunter2@h1:x", "redis+cluster://:hunter2@:1", "redis+cluster://:hunter2@h1:1/0", "redis+cluster://:hunter2@h1:1?protocol=2",
		"redis+cluster://:hunter2@::1:1", "redis+cluster://:hunter2%zz@h1:1", "unix+cluster://:hunter2@h1:1", "redis+ring://:hunter2@h1:1",
		"redis+sentinel://:hunter2@h1:1", "redis+sentinel://:hunter2@h1:1/", "redis+sentinel://:hunter2@h1:1//0", "redis+sentinel://:hunter2@h1:1/main/x",
		"redis+sentinel://:hunter2@h1:1/main/0/1", "redis+sentinel://:hunter2@h1:1/main?x=1", "redis+sentinel://:hunter2@h1:1/main#x",
	} {
		s, err := Open(Options{URL: url})
		if err == nil {
			s.Close()
			t.Errorf("%s: accepted", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: shows the password: %v", url, err)
		}
	}
}
