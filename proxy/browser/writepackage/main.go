// Command writepackage writes the npm package @metergate/client to standard output, for the archive of
// a release. It is the file that a gateway of that release serves as /usage/client.tgz.
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"metergate/proxy/browser"
)

func main() {
	served := httptest.NewRecorder()
	browser.Serve(served, httptest.NewRequest(http.MethodGet, "/", nil), browser.Archive)
	if _, err := served.Body.WriteTo(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "writepackage:", err)
		os.Exit(1)
	}
}
