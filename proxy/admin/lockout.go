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
	// A window begins with a wrong token. An address may send maxWrongPerAddress wrong
	// tokens in it before it is locked out.
	guessWindow        = time.Minute
	maxWrongPerAddress = 10
	// After maxWrongInTotal wrong tokens from all addresses, every address that has sent
	// one is locked out, and all other addresses are locked out together. So an attacker
	// with a thousand addresses does not get a thousand guesses. It also bounds the memory:
	// to maxWrongInTotal addresses, plus one for each second.
	maxWrongInTotal = 100
	// Of a locked-out address one wrong token is checked per checkInterval, and any right
	// token that arrives after that. So an attacker at an operator's address cannot keep
	// the operator out for good. A token has at least 16 bytes: one guess a second gets
	// nowhere.
	checkInterval = time.Second
)

// A lockout compares tokens, and stops checking those of addresses that guess.
type lockout struct {
	log *slog.Logger

	mu        sync.Mutex
	windowEnd time.Time
	total     int                       // wrong tokens in the window
	guessers  map[netip.Prefix]*guesser // the addresses that have sent them
	next      time.Time                 // when to check the next token of any other address
}

// A guesser is an address that has sent wrong tokens in the window.
type guesser struct {
	wrong int       // tokens, at least one
	next  time.Time // when to check the next token, if the address is locked out
}

func newLockout(log *slog.Logger) *lockout {
	return &lockout{log: log, guessers: map[netip.Prefix]*guesser{}}
}

// compare reports whether a token from an address is the right one. If wait is positive,
// the token was not checked; one that is sent after the wait may be.
func (l *lockout) compare(remoteAddr, got, want string) (same bool, wait time.Duration) {
	from := senderOf(remoteAddr)
	// Hashes have the same length, so the time does not reveal the length of the token.
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))

	// All under one lock: of a thousand concurrent guesses ten are checked.
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.windowEnd) {
		clear(l.guessers)
		l.total = 0
	}
	sent, next := l.guessers[from], &l.next
	if sent != nil {
		next = &sent.next
	}
	if out := l.total >= maxWrongInTotal || sent != nil && sent.wrong >= maxWrongPerAddress; out && now.Before(*next) {
		return false, next.Sub(now)
	}
	if subtle.ConstantTimeCompare(g[:], w[:]) == 1 {
		// Earlier wrong tokens still count. Otherwise an attacker who shares an address
		// with an operator would get unlimited guesses.
		return true, 0
	}
	if l.total == 0 {
		l.windowEnd = now.Add(guessWindow)
	}
	*next = now.Add(checkInterval)
	if sent == nil {
		sent = &guesser{next: *next}
		l.guessers[from] = sent
	}
	sent.wrong++
	l.total++
	switch {
	case l.total == maxWrongInTotal:
		l.log.Warn("many wrong tokens for the admin API; only one token a second is checked from each address that has sent one, and one from all other addresses together", "tokens", l.total, "until", l.windowEnd)
	case sent.wrong == maxWrongPerAddress:
		l.log.Warn("wrong tokens for the admin API; only one token a second is checked from this address", "address", from.String(), "tokens", maxWrongPerAddress, "until", l.windowEnd)
	}
	return false, 0
}

// senderOf identifies the sender behind an address. For IPv6 it is the /64 network, the
// smallest that one customer gets. All addresses without an IP, such as a socket's, are
// one sender.
func senderOf(remoteAddr string) netip.Prefix {
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
