package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	// In a window that begins with a wrong token, an address can send guesses of them.
	guessWindow = time.Minute
	guesses     = 10
	// After manyGuesses from all addresses, one that has sent any can send no more: who
	// has a thousand addresses has a thousand guesses. One that has sent none is always
	// heard, so that strangers keep nobody out who has the token.
	manyGuesses = 100
	// maxAddresses bounds the memory. When they are more, one of them is forgotten.
	maxAddresses = 10_000
)

// A lockout compares tokens, and stops listening to who guesses.
type lockout struct {
	log *slog.Logger

	mu    sync.Mutex
	ends  time.Time            // of the window
	wrong map[netip.Prefix]int // tokens in the window, by address
	total int                  // of all addresses, also those that were forgotten
}

func newLockout(log *slog.Logger) *lockout {
	return &lockout{log: log, wrong: map[netip.Prefix]int{}}
}

// compare says whether a token from an address is the one that is wanted. With a wait the
// token was not looked at, nor will one be until that is over.
func (l *lockout) compare(remoteAddr, got, want string) (same bool, wait time.Duration) {
	from := guesser(remoteAddr)
	// Hashes have one length, so that the time says nothing about the token's.
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))

	// Under the lock as a whole: of a thousand guesses at once ten are looked at.
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.ends) {
		l.wrong, l.total = map[netip.Prefix]int{}, 0
	}
	sent := l.wrong[from]
	if sent >= guesses || sent > 0 && l.total >= manyGuesses {
		return false, l.ends.Sub(now)
	}
	if subtle.ConstantTimeCompare(g[:], w[:]) == 1 {
		// What was wrong before still counts, else it would pay to sit behind one
		// address with somebody who has the token.
		return true, 0
	}
	if l.total == 0 {
		l.ends = now.Add(guessWindow)
	}
	if sent == 0 && len(l.wrong) == maxAddresses {
		for other := range l.wrong { // any
			delete(l.wrong, other)
			break
		}
	}
	l.wrong[from] = sent + 1
	l.total++
	switch {
	case l.total == manyGuesses:
		l.log.Warn("many wrong tokens for the admin API; who has sent one is locked out", "tokens", l.total, "until", l.ends)
	case sent+1 == guesses:
		l.log.Warn("wrong tokens for the admin API; their address is locked out", "address", from.String(), "tokens", guesses, "until", l.ends)
	}
	return false, 0
}

// guesser is who is behind an address: of IPv6 a network of 64 bits, which is what one
// customer gets at least. Addresses that are none, such as a socket's, are one.
func guesser(remoteAddr string) netip.Prefix {
	a, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := a.Addr().Unmap(), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}
