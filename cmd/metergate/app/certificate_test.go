package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
)

// Certificates that the gateway shows as a client are checked like that of its listener.
func TestCertificateWarningsIncludeClientCertificates(t *testing.T) {
	a := redistest.NewAuthority(t)
	valid, expired := a.Client, a.Issue(time.Now().Add(-time.Hour))
	configWith := func(files redistest.KeyFiles) string {
		tls := fmt.Sprintf("tls: { cert_file: %q, key_file: %q }", files.CertFile, files.KeyFile)
		text := settings{upstream: "https://127.0.0.1:9", limit: 5}.yaml()
		return strings.NewReplacer(`url: "embedded:data"`, `url: "rediss://h", `+tls, "timeout: 20s", "timeout: 20s, "+tls).Replace(text)
	}
	for _, c := range []struct {
		files redistest.KeyFiles
		want  []string
	}{
		{valid, nil},
		{expired, []string{"store.tls.cert_file: its certificate expired on ", "upstreams.api.tls.cert_file: its certificate expired on "}},
	} {
		got, err := CertificateWarnings(parse(t, t.TempDir(), configWith(c.files)), time.Now())
		if err != nil || !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("warnings %q, error %v, want %q", got, err, c.want)
		}
	}
}
