package jwtauth

import (
	"context"
	"crypto"
	"errors"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/jwtauth/jwtrules"
)

// keyFor returns the one key for a token with this header, whose alg is as keyAlgorithm names
// it. Errors: errUnknownKey, errNoKey and
// errSeveralKeys for a token without a kid, errSignature if the key is not for this algorithm,
// ErrNoKeys.
func (s *KeySet) keyFor(ctx context.Context, header map[string]any, algorithm string) (crypto.PublicKey, error) {
	key, err := s.find(header, algorithm)
	if errors.Is(err, jwkset.ErrKeyNotFound) && s.waitForKeys(ctx) {
		key, err = s.find(header, algorithm)
	}
	switch {
	case err == nil && jwtrules.CheckKeyFor(algorithm, key) != nil:
		return nil, errSignature
	case err == nil:
		return key, nil
	case err == errSeveralKeys:
		return nil, err
	case !errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, errSignature
	case !s.isComplete():
		return nil, ErrNoKeys
	case header["kid"] == nil:
		return nil, errNoKey
	}
	return nil, errUnknownKey
}

// replacementFor returns the key for tokens without a kid once the key before has not verified
// one: the issuer may have a new key. Errors: errSignature if it has none, ErrNoKeys.
func (s *KeySet) replacementFor(ctx context.Context, before crypto.PublicKey, algorithm string) (crypto.PublicKey, error) {
	if s.waitForKeys(ctx) {
		if key, err := s.find(nil, algorithm); err == nil && !sameKey(key, before) {
			return key, nil
		}
	}
	if s.isComplete() {
		return nil, errSignature
	}
	return nil, ErrNoKeys
}

// find looks a key up among those that are stored. Errors: jwkset.ErrKeyNotFound, errSeveralKeys,
// and others if the key is not for this algorithm.
func (s *KeySet) find(header map[string]any, algorithm string) (crypto.PublicKey, error) {
	kid := header["kid"]
	if kid != nil {
		if key, err := s.lookUp(&jwt.Token{Header: header}); err == nil || errors.Is(err, jwkset.ErrKeyNotFound) {
			return key, err
		}
		// The key is for another algorithm; another one may have the same kid.
	}
	all, err := s.stored.KeyReadAll(context.Background())
	if err != nil {
		return nil, err
	}
	if kid != nil {
		for _, k := range all {
			if m := k.Marshal(); m.KID == kid && string(m.ALG) == algorithm {
				return k.Key(), nil
			}
		}
		return nil, errSignature
	}
	var only crypto.PublicKey
	for _, k := range all {
		alg := string(k.Marshal().ALG)
		switch {
		case alg != "" && alg != algorithm || jwtrules.CheckKeyFor(algorithm, k.Key()) != nil:
		case only == nil:
			only = k.Key()
		case !sameKey(only, k.Key()):
			return nil, errSeveralKeys
		}
	}
	if only == nil {
		return nil, jwkset.ErrKeyNotFound
	}
	return only, nil
}

// sameKey reports whether two keys are equal, such as one that is published under two names.
func sameKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// waitForKeys requests a fetch and waits a moment for its end. It returns false if the keys
// are still the same.
func (s *KeySet) waitForKeys(ctx context.Context) bool {
	running := s.requestFetch()
	if running == nil {
		return false
	}
	timer := time.NewTimer(maxTokenWait)
	defer timer.Stop()
	select {
	case <-running:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// requestFetch notes that a token needs keys that are not there. It returns a channel that is
// closed at the end of the fetch that runs or begins. The channel is nil if it is too early
// for another fetch.
func (s *KeySet) requestFetch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil || s.ctx.Err() != nil {
		return s.running
	}
	if !s.needed {
		s.needed = true
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	if time.Until(s.nextFetch()) <= 0 {
		s.running = make(chan struct{})
	}
	return s.running
}

// isComplete reports whether the issuer does not have an unknown kid either, as far as it
// could be asked.
func (s *KeySet) isComplete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running == nil && s.fault == nil
}
