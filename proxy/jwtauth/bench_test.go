package jwtauth

import "testing"

// What each request pays before anything else: the first with a token, and all the
// others.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		v, token := newVerifier(b, optionsFor(alg)), signWith(alg)
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+" cached", func(b *testing.B) {
			r := request("Bearer " + token)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
