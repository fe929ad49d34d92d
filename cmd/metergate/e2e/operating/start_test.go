package operating

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

// The log at the start says what runs where.
func TestStartLogsWhatRunsWhere(t *testing.T) {
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	dir := t.TempDir()
	g := gatewaytest.StartGateway(t, "embedded:"+dir, upstream.URL)
	for _, want := range []string{`"msg":"store","at":"embedded in ` + dir + `"`, `"msg":"upstream","name":"analysis","targets":"` + upstream.URL + `"`,
		`"msg":"serving","listen":"` + strings.TrimPrefix(g.URL, "http://") + `","tls":false,"admin":"` + strings.TrimPrefix(g.Admin, "http://") + `","admin_api":false`} {
		if !strings.Contains(g.Output(), want) {
			t.Errorf("no %s in:\n%s", want, g.Output())
		}
	}
}
