package upstream

import "math"

// The balance by user.
//
// Each target has a score for each user, and a user's requests go to the target with the highest
// score of those that can be picked: rendezvous hashing (Thaler and Ravishankar, "Using name-based
// mappings to increase hit rates", 1998). Weights come in by the logarithmic method (Schindelhauer
// and Schomaker, "Weighted distributed hash tables", 2005):
//
//	score = share / -ln(h)    h: a hash of user and target, between 0 and 1
//
// So a target gets its share of the users. Because no score depends on another target, a target that
// leaves gives away only its own users, to the next in the order of each, and one that comes, or gets
// a larger share, takes only those that it is to have. Nothing is stored, and all gateways with the
// same targets choose the same.
//
// The hash is FNV-1a of the user and of the target's URL, whose exclusive or goes through the
// finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
// 2014). FNV alone leaves similar names too close to each other.

// A userKey is the hash of a user; 0: there is no user.
type userKey uint64

func (p *Pool) keyOf(user string) userKey {
	if p.options.Balance != ByUser || user == "" {
		return 0
	}
	return max(userKey(fnv1a(user)), 1)
}

// highestScore returns the candidate to which a user's requests go.
func highestScore(candidates []candidate, user userKey) candidate {
	best, highest := candidates[0], math.Inf(-1)
	for _, c := range candidates {
		h := splitMix64(uint64(user) ^ c.hash)
		// The upper 53 bits, in the middle of their interval, so that it is neither 0 nor 1.
		unit := (float64(h>>11) + 0.5) / (1 << 53)
		if score := float64(c.share) / -math.Log(unit); score > highest {
			best, highest = c, score
		}
	}
	return best
}

func fnv1a(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func splitMix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
