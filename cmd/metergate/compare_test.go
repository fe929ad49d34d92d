package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/counterfile"
	"metergate/quota"
)

// A user whose month begins on a day of its own is left out: the file's month is another.
func TestCompareLeavesOutOtherMonths(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"user":"u-1","endpoints":{"analyze":3},"start":"2026-11-01T00:00:00Z","end":"2026-12-01T00:00:00Z"}
{"user":"own","endpoints":{"analyze":9},"start":"2026-11-15T00:00:00Z","end":"2026-12-15T00:00:00Z"}
`)
	}))
	defer gateway.Close()
	t.Setenv(tokenVariable, "token")
	client, err := newAdminClient(gateway.URL)
	if err != nil {
		t.Fatal(err)
	}
	window, err := quota.NewCalendar(time.UTC).WindowByID("2026-11")
	if err != nil {
		t.Fatal(err)
	}
	read, err := counterfile.Read([]string{"-"}, counterfile.Options{Stdin: strings.NewReader("u-1,analyze,3\nown,analyze,4\n")})
	if err != nil {
		t.Fatal(err)
	}
	c := newComparison(read, 0, 20, window)
	if err := c.compareWith(client, url.Values{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c.print(&out)
	const want = `month 2026-11: of 1 user, 1 agree and 0 differ (0 only here, 0 only in the file)
all together: 3 requests here, 3 in the file
left out 1 account whose month begins on a day of its own
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

// Of very many differences, only the largest are kept.
func TestCompareKeepsLargestDifferences(t *testing.T) {
	c := &comparison{most: 2}
	const n = 2*spareDifferences + 10
	for i := range int64(n) {
		c.add(difference{here: i + 1})
		if len(c.found) >= c.most+spareDifferences {
			t.Fatalf("%d differences are kept", len(c.found))
		}
	}
	c.keepLargest()
	if len(c.found) != 2 || c.found[0].here != n || c.found[1].here != n-1 || c.left != n-2 {
		t.Errorf("kept %+v, left %d", c.found, c.left)
	}
}
