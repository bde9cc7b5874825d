package admin

import (
	"errors"
	"time"

	"portcullis/internal/identity"
)

// MaxAccessTokenLifetime is the longest life of an access token of our own. What
// denies a client or a user needs to be kept no longer than that.
const MaxAccessTokenLifetime = 24 * time.Hour

// tokenSkew is how long beyond its end a token may still be taken: the deny-list
// keeps its entries for so much longer.
const tokenSkew = identity.MaxLeeway

// Tokens says what /oauth/token issues.
type Tokens struct {
	// Issuer signs; nil issues nothing.
	Issuer *identity.Issuer
	// Name is the `iss` of the tokens (AUTH_JWT_ISSUER), Audience their `aud`, as
	// Issuer has them; "" for none.
	Name, Audience string
	// Lifetime is the access tokens', 1 s to MaxAccessTokenLifetime; 0 is 15 minutes.
	Lifetime time.Duration
	// RefreshLifetime is how long an authorization lives, whichever of its refresh
	// tokens is the live one; 0 is 7 days.
	RefreshLifetime time.Duration
}

func (t *Tokens) check() error {
	if t.Lifetime == 0 {
		t.Lifetime = 15 * time.Minute
	}
	if t.RefreshLifetime == 0 {
		t.RefreshLifetime = 7 * 24 * time.Hour
	}
	switch {
	case t.Lifetime < time.Second || t.Lifetime > MaxAccessTokenLifetime:
		return errors.New("admin: Config.Tokens.Lifetime is not from 1s to 24h")
	case t.RefreshLifetime < time.Second:
		return errors.New("admin: Config.Tokens.RefreshLifetime is below 1s")
	}
	return nil
}
