package jwtauth

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestVerifyAcceptsExactlyOneBearerToken(t *testing.T) {
	v := newVerifier(t, goodOptions())
	token := sign(hs256, `{"sub":"u",`+expires+`}`)
	u := Identity{User: "u", Expires: noon.Add(time.Minute)}
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
		t.Run(name, func(t *testing.T) { wantVerify(t, v, request(c.fields...), u, c.want) })
	}
	t.Run("elsewhere", func(t *testing.T) {
		r, err := http.NewRequest("POST", "/?access_token="+token, strings.NewReader("access_token="+token))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Proxy-Authorization", "Bearer "+token)
		r.Header.Set("Cookie", "Authorization=Bearer "+token)
		wantVerify(t, v, r, Identity{}, errNoToken)
	})
}

func TestVerifyRefusesTokensOver16KiB(t *testing.T) {
	v := newVerifier(t, goodOptions())
	// The claims grow in steps of three bytes, and the header by single bytes.
	for header := hs256; len(header) < len(hs256)+3; header += " " {
		claims := `{"sub":"u",` + expires + `,"x":"`
		rest := 16384 - len(sign(header, claims+`"}`))
		for fill := rest*3/4 - 4; fill < rest*3/4+4; fill++ {
			token := sign(header, claims+strings.Repeat("x", fill)+`"}`)
			var want *Error
			if len(token) > 16384 {
				want = errTooLong
			}
			wantVerify(t, v, request("Bearer "+token), Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		}
	}
	wantVerify(t, v, request("Bearer "+strings.Repeat(".", 1<<20)), Identity{}, errTooLong)
}
