package jwtauth

import "testing"

// What each request pays before anything else.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			v, r := newVerifier(b, optionsFor(alg)), request("Bearer "+signWith(alg))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
