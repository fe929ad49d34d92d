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
	// A window begins with a wrong token. After maxWrongPerAddress wrong tokens from an
	// address, or maxWrongInTotal from all addresses, further wrong tokens in the window are
	// answered 429. The total also bounds how many addresses are remembered.
	wrongTokenWindow   = time.Minute
	maxWrongPerAddress = 10
	maxWrongInTotal    = 100
)

// isSameToken compares tokens. Hashes have the same length, so the time does not reveal the
// length of the token.
func isSameToken(got, want string) bool {
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], w[:]) == 1
}

// wrongTokens counts the wrong tokens of each address. It never sees a right one: if it
// could keep one from being checked, anybody who guesses could keep the operator out.
// Guessing is hopeless because of the token's length, not because of this limit. The limit
// makes clients with an old token slow down, and tells the operator of those who guess.
type wrongTokens struct {
	log *slog.Logger

	mu        sync.Mutex
	windowEnd time.Time
	total     int                  // in the window
	senders   map[netip.Prefix]int // wrong tokens in the window
}

func newWrongTokens(log *slog.Logger) *wrongTokens {
	return &wrongTokens{log: log, senders: map[netip.Prefix]int{}}
}

// add counts a wrong token from an address. If wait is positive, too many have come, and
// the client should not send another one before the wait is over.
func (t *wrongTokens) add(remoteAddr string) (wait time.Duration) {
	from := senderOf(remoteAddr)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if !now.Before(t.windowEnd) {
		clear(t.senders)
		t.total, t.windowEnd = 0, now.Add(wrongTokenWindow)
	}
	if t.total >= maxWrongInTotal || t.senders[from] >= maxWrongPerAddress {
		return t.windowEnd.Sub(now)
	}
	t.senders[from]++
	t.total++
	switch {
	case t.total == maxWrongInTotal:
		t.log.Warn("many wrong tokens for the admin API; further wrong ones are answered 429", "tokens", t.total, "until", t.windowEnd)
	case t.senders[from] == maxWrongPerAddress:
		t.log.Warn("wrong tokens for the admin API; further wrong ones from this address are answered 429", "address", from.String(), "tokens", maxWrongPerAddress, "until", t.windowEnd)
	}
	return 0
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
