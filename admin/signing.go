package admin

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// signing makes the issuer sign with the key that the store says signs, and remembers
// the public keys as at one revision. It is safe for concurrent use.
type signing struct {
	store  store.SigningKeys
	issuer *identity.Issuer

	mu       sync.Mutex // guards what follows, and is held while the store is asked
	read     bool
	revision int64
	keys     []store.SigningKey
}

// asymmetric reports whether a private key signs.
func (s *signing) asymmetric() bool {
	_, algorithm := s.issuer.Signer()
	return slices.Contains(identity.OwnAlgorithms(), algorithm)
}

// follow returns the public keys, expired ones included, and sees to the signer. The
// store is asked once for each revision that this process has applied. With a secret
// there are no keys and nothing to do.
func (s *signing) follow(ctx context.Context, revision int64) ([]store.SigningKey, error) {
	if !s.asymmetric() {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read && s.revision == revision {
		return s.keys, nil
	}
	keys, err := s.store.SigningKeyList(ctx)
	if err != nil {
		return nil, err
	}
	if signs := newestSigner(keys); signs != "" {
		if err := s.issuer.SetSigner(signs); err != nil {
			return nil, fmt.Errorf("the key that signs since the last `portcullis rotate signing`: %w", err)
		}
	}
	s.read, s.revision, s.keys = true, revision, keys
	return keys, nil
}

// newestSigner is the id of the key that was made to sign last; "" for none.
func newestSigner(keys []store.SigningKey) string {
	at := -1
	for i, k := range keys {
		if !k.Signs.IsZero() && k.Expires.IsZero() && (at < 0 || k.Signs.After(keys[at].Signs)) {
			at = i
		}
	}
	if at < 0 {
		return ""
	}
	return keys[at].KeyID
}
