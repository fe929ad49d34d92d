package jwtauth

import (
	"fmt"
	"testing"
	"time"

	"metergate/proxy/credential"
)

func TestVerifyChecksTimesWithLeeway(t *testing.T) {
	const second, leeway = time.Second, 5 * time.Second
	for _, c := range []struct {
		claims string
		at     time.Duration // after noon, 1,800,000,000 s
		leeway time.Duration
		want   *credential.Error
	}{
		// Not on or after exp (RFC 7519, section 4.1.4).
		{`"exp":1800000000`, -1, 0, nil},
		{`"exp":1800000000`, 0, 0, errExpired},
		{`"exp":1800000000`, leeway - 1, leeway, nil},
		{`"exp":1800000000`, leeway, leeway, errExpired},
		{`"exp":1800000000.5`, second/2 - 1, 0, nil},
		{`"exp":1800000000.5`, second / 2, 0, errExpired},
		{`"exp":18e8`, -1, 0, nil},
		{`"exp":18e8`, 0, 0, errExpired},
		{`"exp":0`, 0, 0, errExpired},
		{`"exp":253402300799`, 0, 0, nil},
		// Not before nbf (4.1.5), which may be now.
		{expires + `,"nbf":1800000000`, 0, 0, nil},
		{expires + `,"nbf":1800000000`, -1, 0, errNotYet},
		{expires + `,"nbf":1800000000`, -leeway, leeway, nil},
		{expires + `,"nbf":1800000000`, -leeway - 1, leeway, errNotYet},
		{expires + `,"nbf":1800000000.5`, second / 2, 0, nil},
		{expires + `,"nbf":1800000000.5`, second/2 - 1, 0, errNotYet},
		{expires + `,"nbf":0`, 0, 0, nil},
		// Not issued later than now.
		{expires + `,"iat":1800000000`, 0, 0, nil},
		{expires + `,"iat":1800000000`, -1, 0, errIssuedLate},
		{expires + `,"iat":1800000000`, -leeway, leeway, nil},
		{expires + `,"iat":1800000000`, -leeway - 1, leeway, errIssuedLate},
		// The first of several faults counts.
		{`"exp":1,"nbf":1900000000,"iat":1900000000`, 0, 0, errExpired},
		{expires + `,"nbf":1900000000,"iat":1900000000`, 0, 0, errNotYet},

		{`"x":1`, 0, 0, errNoExpiry},
		{`"EXP":1800000060`, 0, 0, errNoExpiry},
		{`"exp":null`, 0, 0, errTime},
		{`"exp":"1800000060"`, 0, 0, errTime},
		{`"exp":[1800000060]`, 0, 0, errTime},
		{`"exp":true`, 0, 0, errTime},
		{`"exp":-1`, 0, 0, errTime},
		{`"exp":1800000060000`, 0, 0, errTime}, // milliseconds
		{`"exp":253402300800`, 0, 0, errTime},
		{`"exp":1e300`, 0, 0, errTime},
		{`"exp":1e400`, 0, 0, errTime},
		{`"exp":9223372036854775808`, 0, 0, errTime},
		{expires + `,"nbf":"0"`, 0, 0, errTime},
		{expires + `,"nbf":null`, 0, 0, errTime},
		{expires + `,"nbf":-1e300`, 0, 0, errTime},
		{expires + `,"nbf":1e19`, 0, 0, errTime},
		{expires + `,"iat":"0"`, 0, 0, errTime},
		{expires + `,"iat":null`, 0, 0, errTime},
		{expires + `,"iat":{}`, 0, 0, errTime},
		{`"exp":NaN`, 0, 0, errClaims},
		{`"exp":01800000060`, 0, 0, errClaims},
		{`"exp":0x7fffffff`, 0, 0, errClaims},
	} {
		t.Run(fmt.Sprint(c.claims, " at ", c.at, " leeway ", c.leeway), func(t *testing.T) {
			o := goodOptions()
			o.Leeway, o.Now = c.leeway, func() time.Time { return noon.Add(c.at) }
			_, err := newVerifier(t, o).Verify(t.Context(), sign(hs256, `{"sub":"u",`+c.claims+`}`))
			if got, _ := reasonOf(err).(*credential.Error); got != c.want {
				t.Errorf("got error %v, want: %v", err, c.want)
			}
		})
	}
}

func TestIdentityExpiresWithoutLeeway(t *testing.T) {
	o := goodOptions()
	o.Leeway = time.Minute
	for exp, want := range map[string]time.Time{
		"1800000060":   noon.Add(time.Minute),
		"1800000060.5": noon.Add(time.Minute + time.Second/2),
		"253402300799": time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC),
	} {
		token := sign(hs256, `{"sub":"u","exp":`+exp+`}`)
		wantVerify(t, newVerifier(t, o), token, credential.Identity{User: "u", Expires: want}, nil)
	}
}
