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
	// After manyGuesses from all addresses, each that has sent one is locked out, and all
	// that have sent none are, together: who has a thousand addresses does not have a
	// thousand guesses. It bounds the memory as well: to manyGuesses addresses, and one
	// more a second.
	manyGuesses = 100
	// Of who is locked out one wrong token is looked at in lookEvery, and any right one
	// that comes when that is over: others at an operator's address do not keep him out
	// for good. A token has 16 bytes at least: one a second is no guessing.
	lookEvery = time.Second
)

// A lockout compares tokens, and stops listening to who guesses.
type lockout struct {
	log *slog.Logger

	mu    sync.Mutex
	ends  time.Time                 // of the window
	total int                       // wrong tokens in it
	known map[netip.Prefix]*guessed // the addresses that have sent them
	next  time.Time                 // when to look at a token of an address that has not
}

// guessed is what an address has sent in the window.
type guessed struct {
	wrong int       // tokens, at least one
	next  time.Time // when to look at another one, if it is locked out
}

func newLockout(log *slog.Logger) *lockout {
	return &lockout{log: log, known: map[netip.Prefix]*guessed{}}
}

// compare says whether a token from an address is the one that is wanted. With a wait the
// token was not looked at; one that comes after that may be.
func (l *lockout) compare(remoteAddr, got, want string) (same bool, wait time.Duration) {
	from := guesser(remoteAddr)
	// Hashes have one length, so that the time says nothing about the token's.
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))

	// Under the lock as a whole: of a thousand guesses at once ten are looked at.
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.ends) {
		clear(l.known)
		l.total = 0
	}
	sent, next := l.known[from], &l.next
	if sent != nil {
		next = &sent.next
	}
	if out := l.total >= manyGuesses || sent != nil && sent.wrong >= guesses; out && now.Before(*next) {
		return false, next.Sub(now)
	}
	if subtle.ConstantTimeCompare(g[:], w[:]) == 1 {
		// What was wrong before still counts, else it would pay to sit behind one
		// address with somebody who has the token.
		return true, 0
	}
	if l.total == 0 {
		l.ends = now.Add(guessWindow)
	}
	*next = now.Add(lookEvery)
	if sent == nil {
		sent = &guessed{next: *next}
		l.known[from] = sent
	}
	sent.wrong++
	l.total++
	switch {
	case l.total == manyGuesses:
		l.log.Warn("many wrong tokens for the admin API; one a second is looked at of each address that has sent one, and of all others together", "tokens", l.total, "until", l.ends)
	case sent.wrong == guesses:
		l.log.Warn("wrong tokens for the admin API; one a second of their address is looked at", "address", from.String(), "tokens", guesses, "until", l.ends)
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
