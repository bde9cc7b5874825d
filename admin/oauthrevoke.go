package admin

import (
	"context"
	"errors"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// errAnothers is a live token of the client's tenant that was issued to another
// client. To say 200 would claim that it is revoked.
var errAnothers = oauthFailure(oauthUnauthorized, "The token was issued to another client, and this client key lacks the scope tokens.")

// revokeToken is POST /oauth/revoke (RFC 7009). A refresh token goes with its family,
// an access token by its jti. What is no live token of the client's tenant is 200: it
// opens nothing as it is. A client revokes its own; with the scope tokens, any of its
// tenant's. token_type_hint is not needed: the two look different.
func (a *API) revokeToken(c *call) (reply, error) {
	f, client, err := a.readClient(c)
	if err != nil {
		return reply{}, err
	}
	token, err := f.required("token")
	if err != nil {
		return reply{}, err
	}
	if digest, ok := identity.ParseRefreshToken([]byte(token)); ok {
		err = a.revokeFamily(c, client, digest)
	} else {
		err = a.revokeAccess(c, client, token)
	}
	return reply{value: struct{}{}}, err
}

func (a *API) revokeFamily(c *call, client oauthClient, digest store.Digest) error {
	known, err := a.cfg.Store.Refresh(c.Context(), digest)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && known.Tenant != client.Tenant:
		return nil
	case err != nil:
		return err
	case known.Client != client.Name && !permits(client.Scopes, store.ScopeTokens):
		return errAnothers
	}
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.RevokeRefresh(ctx, by, client.Tenant, known.Client, digest)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // pruned in between
	}
	return err
}

func (a *API) revokeAccess(c *call, client oauthClient, text string) error {
	t, live, err := a.verifyToken(c, text)
	if err != nil || !live || t.ID == "" || t.Issuer != a.cfg.Tokens.Name || t.Principal.Tenant != client.tenant.Name {
		return err
	}
	if clientOf(text) != client.id && !permits(client.Scopes, store.ScopeTokens) {
		return errAnothers
	}
	denial := store.NewDenial{
		Kind: store.DenyToken, Tenant: client.Tenant, Issuer: t.Issuer, Value: t.ID,
		Expires: time.Unix(0, t.Expires).Add(tokenSkew),
	}
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		_, result, err := a.cfg.Store.Deny(ctx, by, denial)
		return result, err
	})
	return err
}

// clientOf is the client_id of a token that was verified; "" where it has none.
func clientOf(text string) string {
	claims, _ := identity.ClaimsOf(text, []string{"client_id"})
	id, _ := claims["client_id"].(string)
	return id
}
