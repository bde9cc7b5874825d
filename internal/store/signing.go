package store

import (
	"context"
	"time"
)

// SigningKey is the public half of a key that signs, signed or will sign our own
// access tokens.
type SigningKey struct {
	KeyID     string // RFC 7638 thumbprint
	Algorithm string // RS256, ES256 or EdDSA
	JWK       string // RFC 7517, public members only
	Created   time.Time
	Signs     time.Time // since when it signs; zero: it is published, and signs nothing yet
	Expires   time.Time // after it nothing verifies with it; zero: not retired
}

// SigningKeys is the part of a store that keeps public signing keys. They belong
// to no tenant, and the feed carries them.
type SigningKeys interface {
	// PublishSigningKey adds a key that signs nothing yet. One that is there is
	// OutcomeUnchanged; one of that id with another JWK is ErrExists.
	PublishSigningKey(ctx context.Context, by Actor, key SigningKey) (Result, error)
	// SignWith makes a published key the one that signs, and lets every other that
	// signed expire at the given time. ErrNotFound.
	SignWith(ctx context.Context, by Actor, keyID string, othersExpire time.Time) (Result, error)
	// WithdrawSigningKey deletes a key at once: nothing verifies with it any more.
	WithdrawSigningKey(ctx context.Context, by Actor, keyID string) (Result, error) // ErrNotFound
	SigningKeyList(ctx context.Context) ([]SigningKey, error)                       // by created, id; expired ones included
	// PruneSigningKeys deletes keys that have expired, with a revision where there
	// was one.
	PruneSigningKeys(ctx context.Context, by Actor) error
}
