package jwtauth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/proxy/credential"
)

// size returns the number of verdicts in a cache.
func (c *cache) size() (n int) {
	for i := range c.slots {
		if c.slots[i].Load() != nil {
			n++
		}
	}
	return n
}

// moving returns a Verifier of HS256 and its clock, which a test moves.
func moving(t testing.TB, leeway time.Duration) (v *Verifier, now *time.Time) {
	now = new(time.Time)
	*now = noon
	o := goodOptions()
	o.Leeway, o.Now = leeway, func() time.Time { return *now }
	return newVerifier(t, o), now
}

// Without keys a second verification would fail.
func TestVerifyRemembersGoodToken(t *testing.T) {
	v, now := moving(t, 5*time.Second)
	first, other := sign(hs256, `{"sub":"u","plan":"pro",`+expires+`}`), sign(hs256, `{"sub":"v",`+expires+`}`)
	id := credential.Identity{User: "u", Plan: "pro", Expires: noon.Add(time.Minute)}
	wantVerify(t, v, first, id, nil)
	v.issuers[0].schemes = nil
	wantVerify(t, v, first, id, nil)
	wantVerify(t, v, other, credential.Identity{}, errSignature)
	*now = noon.Add(65*time.Second - 1)
	wantVerify(t, v, first, id, nil)
	*now = noon.Add(65 * time.Second)
	wantVerify(t, v, first, credential.Identity{}, errSignature) // it was verified again
}

// At any time, whichever way the clock moves, a Verifier that has seen a token returns the
// same as one that has not.
func TestCacheNeverChangesVerdict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.Int64Range(-20, 20)
		leeway := time.Duration(rapid.Int64Range(0, 7).Draw(t, "leeway")) * time.Second
		claims := fmt.Sprintf(`{"sub":"u","exp":%d.5`, noon.Unix()+offset.Draw(t, "exp"))
		for _, name := range []string{"nbf", "iat"} {
			if rapid.Bool().Draw(t, name+" is there") {
				claims += fmt.Sprintf(`,%q:%d`, name, noon.Unix()+offset.Draw(t, name))
			}
		}
		token := sign(hs256, claims+"}")
		now := noon
		o := goodOptions()
		o.Leeway, o.Now = leeway, func() time.Time { return now }
		v, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			now = noon.Add(time.Duration(offset.Draw(t, "now"))*time.Second + time.Duration(rapid.SampledFrom([]int{-1, 0, 1, 5e8}).Draw(t, "and")))
			fresh, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			want, wantErr := fresh.Verify(t.Context(), token)
			if got, err := v.Verify(t.Context(), token); got != want || reasonOf(err) != reasonOf(wantErr) {
				t.Fatalf("%s at %v, leeway %v: %+v, %v; without a cache %+v, %v", claims, now.Sub(noon), leeway, got, err, want, wantErr)
			}
		}
	})
}

// A text that resembles a remembered token is not that token, and bad tokens leave no
// verdict.
func TestCacheKnowsOnlyWholeToken(t *testing.T) {
	v := newVerifier(t, goodOptions())
	token := sign(hs256, `{"sub":"u",`+expires+`}`)
	wantVerify(t, v, token, credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, nil)
	for i := range len(token) {
		for _, c := range "Aa0-_." {
			if changed := token[:i] + string(c) + token[i+1:]; changed != token {
				if id, err := v.Verify(t.Context(), changed); err == nil {
					t.Errorf("%s is %+v", changed, id)
				}
			}
		}
	}
	for _, changed := range []string{token[:len(token)-1], token + "A", token + ".", "A" + token, ""} {
		if id, err := v.Verify(t.Context(), changed); err == nil {
			t.Errorf("%s is %+v", changed, id)
		}
	}
	if n := v.cache.size(); n != 1 {
		t.Errorf("%d verdicts are kept, want 1", n)
	}
}

// However many tokens arrive, and however long their texts are, the memory is bounded and
// most of the latest verdicts are there.
func TestCacheIsBounded(t *testing.T) {
	var c cache
	random := rand.NewChaCha8([32]byte{})
	put := func(user string) *verdict {
		d := &verdict{id: credential.Identity{User: strings.Clone(user), Plan: strings.Clone(user)}, until: noon.Add(time.Hour)}
		random.Read(d.sum[:])
		c.put(d, noon, issuerList{{}})
		return d
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	longest := strings.Repeat("x", 256)
	for range 4 * cacheSize {
		put(longest)
	}
	if grown := heap() - before; grown > 24<<20 {
		t.Errorf("the cache takes %d bytes", grown)
	}
	if n := c.size(); n > 32768 || n < 32000 {
		t.Errorf("%d verdicts are kept", n)
	}
	var last [cacheSize / 4]*verdict
	for i := range last {
		last[i] = put("u")
	}
	there := 0
	for _, d := range last {
		if c.get(&d.sum, noon, issuerList{{}}) == d {
			there++
		}
	}
	if there < len(last)*3/4 {
		t.Errorf("%[2]d of the last %[1]d verdicts are there", len(last), there)
	}
}

func TestCacheKeepsNoLongPlans(t *testing.T) {
	v := newVerifier(t, goodOptions())
	for n, kept := range map[int]int{257: 0, 256: 1} {
		plan := strings.Repeat("p", n)
		token := sign(hs256, `{"sub":"u","plan":"`+plan+`",`+expires+`}`)
		for range 2 {
			wantVerify(t, v, token, credential.Identity{User: "u", Plan: plan, Expires: noon.Add(time.Minute)}, nil)
		}
		if got := v.cache.size(); got != kept {
			t.Errorf("%d bytes: %d verdicts are kept, want %d", n, got, kept)
		}
		v.cache = new(cache)
	}
}

// sumIn returns a hash whose slots begin at the first one.
func sumIn(n uint64) (sum [sha256.Size]byte) {
	binary.LittleEndian.PutUint64(sum[8:], n)
	return sum
}

// A slot is free again when its verdict ends or the keys change. Two tokens in use find a
// slot each, even among others that are not in use.
func TestCacheReusesPlacesOfEndedVerdicts(t *testing.T) {
	var c cache
	issuers := func(keys uint64) issuerList {
		s := new(KeySet)
		s.change.Store(keys)
		return issuerList{{id: 6}, {id: 7, keys: s}}
	}
	put := func(n uint64, until time.Time, now time.Time, keys uint64) {
		c.put(&verdict{sum: sumIn(n), until: until, issuer: 7, keys: keys}, now, issuers(keys))
	}
	there := func(n uint64, now time.Time, keys uint64) bool {
		sum := sumIn(n)
		return c.get(&sum, now, issuers(keys)) != nil
	}
	for n := range uint64(cacheWays) {
		put(n, noon.Add(time.Duration(n+1)*time.Minute), noon, 1)
	}
	later := noon.Add(time.Minute) // the first has ended
	put(9, noon.Add(time.Hour), later, 1)
	for _, n := range []uint64{1, 2, 3, 9} {
		if !there(n, later, 1) {
			t.Errorf("%d is not there", n)
		}
		if there(n, later, 2) || there(n, later, 0) {
			t.Errorf("%d is there for other keys", n)
		}
	}
	if there(0, later, 1) {
		t.Error("one that has ended is there")
	}
	put(9, noon.Add(2*time.Hour), later, 1) // again: in its own slot
	if !there(1, later, 1) || !there(2, later, 1) || !there(3, later, 1) {
		t.Error("a token that was there took another's slot")
	}
	hits := 0
	for range 1000 {
		for _, n := range []uint64{20, 21} {
			if there(n, later, 1) {
				hits++
			} else {
				put(n, noon.Add(time.Second+time.Minute), later, 1)
			}
		}
	}
	if hits < 1900 {
		t.Errorf("%d of 2000 lookups of two tokens in use found them", hits)
	}
}

// Many users share the same slots; each of them only finds their own verdict.
func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	var c cache
	var wait sync.WaitGroup
	for n := range uint64(8) {
		wait.Go(func() {
			user, sum := fmt.Sprint("u-", n), sumIn(n)
			for range 5000 {
				if d := c.get(&sum, noon, issuerList{{}}); d == nil {
					c.put(&verdict{sum: sum, id: credential.Identity{User: user}, until: noon.Add(time.Hour)}, noon, issuerList{{}})
				} else if d.id.User != user {
					t.Errorf("got %q, want %q", d.id.User, user)
				}
			}
		})
	}
	wait.Wait()
}
