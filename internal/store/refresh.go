package store

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrReused: the refresh token was used before. Its family is revoked, and the
	// access tokens that were made with it are on the deny-list (RFC 9700, 4.14.2).
	ErrReused = errors.New("refresh token reused")
	// ErrExpired: the token, the family or the reply is past its time.
	ErrExpired = errors.New("expired")
)

// AccessToken is what a store keeps of an access token that was made with a refresh
// token, so that it can be denied with it.
type AccessToken struct {
	Issuer  string
	ID      string // jti
	Expires time.Time
}

// RefreshFamily is one authorization: a user of a tenant, by way of a client, that
// lives on in one refresh token after the other.
type RefreshFamily struct {
	Family  [16]byte // random
	Tenant  TenantID
	Client  string // the name of the client key that exchanged
	User    string
	Scope   string
	Created time.Time
	Expires time.Time // of every token in it
	Revoked time.Time // zero is live
}

// RefreshToken is one refresh token.
type RefreshToken struct {
	RefreshFamily
	Used time.Time // zero: it is the family's live one
}

// RefreshTokens is the part of a store that keeps refresh tokens, as digests.
type RefreshTokens interface {
	// StartFamily begins a family with its first token.
	StartFamily(ctx context.Context, by Actor, family RefreshFamily, token Digest, access AccessToken) (Result, error)
	// UseRefresh replaces the token by the next one of its family. The client must be
	// the family's: another one's is ErrNotFound, and so is an unknown token; ErrRevoked,
	// ErrExpired. A token that was used before is ErrReused, with the Result of the
	// write that revoked the family and denied its access tokens.
	UseRefresh(ctx context.Context, by Actor, tenant TenantID, client string, token, next Digest, access AccessToken) (RefreshFamily, Result, error)
	// Refresh reads a token, for introspection. ErrNotFound.
	Refresh(ctx context.Context, token Digest) (RefreshToken, error)
	// RevokeRefresh revokes the token's family and denies its access tokens.
	// ErrNotFound where the token is not of that tenant and client; a revoked one is
	// OutcomeUnchanged.
	RevokeRefresh(ctx context.Context, by Actor, tenant TenantID, client string, token Digest) (Result, error)
	// PruneRefresh deletes families that have expired. It takes no revision.
	PruneRefresh(ctx context.Context) error
}
