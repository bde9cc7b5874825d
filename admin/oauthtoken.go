package admin

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// tokenReply is the 200 of /oauth/token (RFC 6749, 5.1; RFC 8693, 2.2.1).
type tokenReply struct {
	AccessToken  string `json:"access_token"`
	IssuedType   string `json:"issued_token_type,omitempty"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
}

// issueToken is POST /oauth/token.
func (a *API) issueToken(c *call) (reply, error) {
	c.out.Set("Pragma", "no-cache")
	f, client, err := a.readClient(c)
	if err != nil {
		return reply{}, err
	}
	name, err := f.required("grant_type")
	if err != nil {
		return reply{}, err
	}
	for _, g := range a.grants() {
		if g.name != name {
			continue
		}
		if g.scope != "" && !permits(client.Scopes, g.scope) {
			return reply{}, oauthFailure(oauthUnauthorized, "This client key lacks the scope "+string(g.scope)+".")
		}
		// A token says who its bearer is, and roles say what that one may do.
		if f["scope"] != "" {
			return reply{}, oauthFailure(oauthInvalidScope, "Tokens have no scopes here: roles decide. Leave scope out.")
		}
		return g.issue(c, f, client)
	}
	return reply{}, oauthFailure(oauthUnsupportedGrant, "grant_type is none of client_credentials, refresh_token and token-exchange.")
}

// issueToClient is the grant client_credentials: a token for the client itself.
func (a *API) issueToClient(c *call, _ form, client oauthClient) (reply, error) {
	issued, err := a.sign(c, client, policy.KindClient, client.Name)
	if err != nil {
		return reply{}, err
	}
	details, err := json.Marshal(map[string]string{"grant_type": "client_credentials", "jti": issued.ID, "kid": issued.KeyID})
	if err != nil {
		return reply{}, err
	}
	err = a.record(c, store.AuditEntry{
		User: store.AuditUser(policy.KindClient, client.Name), Resource: store.ClientKeyResource(client.Name),
		Details: string(details), Outcome: store.OutcomeDone.String(), Success: true, Revision: a.cfg.Cache.Applied(),
	})
	return reply{value: tokenReplyOf(issued)}, err
}

func tokenReplyOf(issued identity.IssuedToken) tokenReply {
	return tokenReply{
		AccessToken: issued.Text, TokenType: "Bearer",
		ExpiresIn: (issued.Expires - issued.IssuedAt) / int64(time.Second),
	}
}

// sign signs an access token for a principal of the client's tenant. It does not
// outlive the key that asked for it.
func (a *API) sign(c *call, client oauthClient, kind policy.Kind, id string) (identity.IssuedToken, error) {
	if _, err := a.signing.follow(c.Context(), a.cfg.Cache.Applied()); err != nil {
		return identity.IssuedToken{}, err
	}
	life := a.cfg.Tokens.Lifetime
	if !client.Expires.IsZero() {
		life = max(time.Second, min(life, client.Expires.Sub(c.now)))
	}
	return a.cfg.Tokens.Issuer.IssueToken(identity.TokenRequest{
		Principal: policy.Principal{Tenant: client.tenant.Name, Kind: kind, ID: id}, Lifetime: life, ClientID: client.id,
	})
}

// kept is what the store keeps of an access token that came with a refresh token.
func (a *API) kept(issued identity.IssuedToken) store.AccessToken {
	return store.AccessToken{Issuer: a.cfg.Tokens.Name, ID: issued.ID, Expires: time.Unix(0, issued.Expires)}
}

// refreshToken is the grant refresh_token: the token is replaced by the next one. One
// that was used before kills its whole family, since one of its two users is a thief
// (RFC 9700, 4.14.2).
func (a *API) refreshToken(c *call, f form, client oauthClient) (reply, error) {
	text, err := f.required("refresh_token")
	if err != nil {
		return reply{}, err
	}
	digest, ok := identity.ParseRefreshToken([]byte(text))
	if !ok {
		return reply{}, invalidGrant(nil)
	}
	// Who it is for is known only from the store, and the store wants the access token
	// with the use: what is read here is checked once more in that write.
	known, err := a.cfg.Store.Refresh(c.Context(), digest)
	if errors.Is(err, store.ErrNotFound) {
		return reply{}, invalidGrant(err)
	}
	if err != nil {
		return reply{}, err
	}
	if known.Tenant != client.Tenant || known.Client != client.Name {
		return reply{}, invalidGrant(nil)
	}
	if known.Used.IsZero() {
		denied, err := a.familyDenied(c.Context(), &known.RefreshFamily)
		if err != nil {
			return reply{}, err
		}
		if denied {
			return reply{}, invalidGrant(nil)
		}
	}
	issued, err := a.sign(c, client, policy.KindUser, known.User)
	if err != nil {
		return reply{}, err
	}
	next := identity.NewRefreshToken()
	family, result, err := a.cfg.Store.UseRefresh(c.Context(), c.actor(), client.Tenant, client.Name,
		digest, identity.RefreshTokenDigest(next[:]), a.kept(issued))
	switch {
	case errors.Is(err, store.ErrReused):
		c.revision = &result.Revision
		a.metrics.audited(store.ActionRefreshToken)
		a.cfg.Logger.Warn("a refresh token was used twice: its family is revoked", "request_id", c.id, "client", client.id)
		return reply{}, invalidGrant(err)
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrRevoked), errors.Is(err, store.ErrExpired):
		return reply{}, invalidGrant(err)
	case err != nil:
		return reply{}, err
	}
	c.revision = &result.Revision
	a.metrics.audited(store.ActionRefreshToken)
	if family.User != known.User {
		return reply{}, errors.New("the refresh token changed its user between two reads")
	}
	answer := tokenReplyOf(issued)
	answer.RefreshToken = string(next[:])
	return reply{value: answer}, nil
}

// startFamily issues the first access and refresh token for a user.
func (a *API) startFamily(c *call, client oauthClient, user string) (reply, error) {
	issued, err := a.sign(c, client, policy.KindUser, user)
	if err != nil {
		return reply{}, err
	}
	refresh := identity.NewRefreshToken()
	family := store.RefreshFamily{
		Family: randomFamily(), Tenant: client.Tenant, Client: client.Name, User: user,
		Created: c.now, Expires: c.now.Add(a.cfg.Tokens.RefreshLifetime),
	}
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.StartFamily(ctx, by, family, identity.RefreshTokenDigest(refresh[:]), a.kept(issued))
	})
	if err != nil {
		return reply{}, err
	}
	answer := tokenReplyOf(issued)
	answer.IssuedType = typeAccessToken
	answer.RefreshToken = string(refresh[:])
	return reply{value: answer}, nil
}
