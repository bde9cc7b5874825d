package admin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// mostOpened is how many tenants a process opens a minute. Anyone who reaches the API
// may open one, and each is rows that nobody deletes.
const mostOpened = 600

// openKeyName is the name of a tenant's key that opened it.
const openKeyName = "open"

// openTenant makes a tenant of the caller's key, which no live key is
// (AUTH_OPEN_TENANCY), and returns the key. A key that was revoked stays so. Two first
// uses at once make one tenant.
func (a *API) openTenant(c *call) (*cache.Key, policy.Reason, error) {
	if !a.opening.take(c.began.Mono) {
		c.out.Set("Retry-After", "60")
		return nil, 0, &failure{status: http.StatusTooManyRequests, message: "Too many new tenants. Try again in a minute."}
	}
	by := store.Actor{
		Name: "open-tenancy", Address: c.client.String(), UserAgent: userAgent(c.Header), RequestID: c.id,
	}
	key := store.NewKey{
		Name: openKeyName, Digest: identity.KeyDigest(c.secret), Prefix: string(c.secret[:8]), Scopes: store.DefaultScopes(),
	}
	_, result, err := a.cfg.Store.OpenTenant(c.Context(), by, store.NewTenant{Name: openTenantName(), StrictUsers: a.cfg.StrictUsers}, key)
	switch {
	case errors.Is(err, store.ErrRevoked):
		return nil, policy.ReasonBadKey, nil
	case err != nil:
		return nil, 0, err
	case result.Outcome == store.OutcomeDone:
		a.metrics.audited(store.ActionCreateTenant)
	}
	if err := a.cfg.Cache.CatchUp(c.Context(), result.Revision.Number); err != nil {
		return nil, 0, err
	}
	return a.lookKey(c, c.secret)
}

// openTenantName never tells the key: t- and 16 random hex digits.
func openTenantName() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return "t-" + hex.EncodeToString(b[:])
}
