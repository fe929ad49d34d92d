package credential

import (
	"net/http"
	"regexp"
	"testing"
)

const token = "e30.e30.c2ln"

func TestBearerTokenIsExactlyOne(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		want   *Error
	}{
		"good":                      {[]string{"Bearer " + token}, nil},
		"scheme in lower case":      {[]string{"bearer " + token}, nil},
		"scheme in mixed case":      {[]string{"bEARER " + token}, nil},
		"several spaces":            {[]string{"Bearer   " + token}, nil},
		"no field":                  {nil, errNoToken},
		"another scheme":            {[]string{"Basic dTpw"}, errNoToken},
		"a scheme that begins so":   {[]string{"BearerToken " + token}, errNoToken},
		"a token alone":             {[]string{token}, errNoToken},
		"two fields":                {[]string{"Bearer " + token, "Bearer " + token}, errSeveralHeaders},
		"two fields, one empty":     {[]string{"", "Bearer " + token}, errSeveralHeaders},
		"two fields, another first": {[]string{"Basic dTpw", "Bearer " + token}, errSeveralHeaders},
		"empty":                     {[]string{""}, errBadHeader},
		"a comma":                   {[]string{", Bearer " + token}, errBadHeader},
		"the word alone":            {[]string{"Bearer"}, errBadHeader},
		"the word and a space":      {[]string{"Bearer "}, errBadHeader},
		"a tab":                     {[]string{"Bearer\t" + token}, errBadHeader},
		"a space after":             {[]string{"Bearer " + token + " "}, errBadHeader},
		"two tokens":                {[]string{"Bearer " + token + " " + token}, errBadHeader},
		"two in a list":             {[]string{"Bearer " + token + ",Bearer " + token}, errBadHeader},
		"the word twice":            {[]string{"Bearer Bearer " + token}, errBadHeader},
		"a line break after":        {[]string{"Bearer " + token + "\r\n"}, errBadHeader},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{"Proxy-Authorization": {"Bearer " + token}, "Cookie": {"Authorization=Bearer " + token}}
			if c.fields != nil {
				h["Authorization"] = c.fields
			}
			got, err := BearerToken(h)
			switch {
			case c.want != nil && (err != error(c.want) || got != ""):
				t.Errorf("got %q and %v, want: %v", got, err, c.want)
			case c.want == nil && (err != nil || got != token):
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
}

var bearerHeader = regexp.MustCompile(`^(?s)[Bb][Ee][Aa][Rr][Ee][Rr] +([^ \t\r\n,]+)$`)

// FuzzBearerToken checks that a header is refused for one of the reasons, or that it has one
// token and nothing else.
func FuzzBearerToken(f *testing.F) {
	for _, s := range []string{"", "Bearer", "Basic dTpw", "Bearer a.b.c", "bearer  a", "Bearer ..", "Bearer a.b.c Bearer a.b.c", "Bearer\ta.b.c", "Bearer \u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		h := http.Header{"Authorization": {field}}
		got, err := BearerToken(h)
		if len(h) != 1 || len(h["Authorization"]) != 1 || h["Authorization"][0] != field {
			t.Fatal("the header was changed")
		}
		m := bearerHeader.FindStringSubmatch(field)
		switch {
		case err == nil && (m == nil || got != m[1]):
			t.Errorf("%q has the token %q", field, got)
		case err != nil && (m != nil || got != "" || err != errNoToken && err != errBadHeader):
			t.Errorf("%q: %q, %v", field, got, err)
		}
	})
}
