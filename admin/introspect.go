package admin

import (
	"errors"
	"time"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// tokenInfo is the 200 of /oauth/introspect (RFC 7662, 2.2). An inactive one holds
// nothing but that.
type tokenInfo struct {
	Active    bool   `json:"active"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitempty"` // Unix seconds, as the others
	IssuedAt  int64  `json:"iat,omitempty"`
	NotBefore int64  `json:"nbf,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	ID        string `json:"jti,omitempty"`
	Tenant    string `json:"tenant,omitempty"`
	Kind      string `json:"kind,omitempty"`
}

// introspect is POST /oauth/introspect: is this token of ours live, and whose is it.
// A client sees the tokens of its own tenant; all else is inactive, without a reason.
func (a *API) introspect(c *call) (reply, error) {
	f, client, err := a.readClient(c)
	if err != nil {
		return reply{}, err
	}
	token, err := f.required("token")
	if err != nil {
		return reply{}, err
	}
	var info tokenInfo
	if digest, ok := identity.ParseRefreshToken([]byte(token)); ok {
		info, err = a.refreshInfo(c, client, digest)
	} else {
		info, err = a.accessInfo(c, client, token)
	}
	if err == nil && a.cfg.AuditChecks {
		err = a.record(c, store.AuditEntry{
			User: info.Subject, Resource: "token", Outcome: store.OutcomeDone.String(), Success: info.Active, Revision: a.cfg.Cache.Applied(),
		})
	}
	return reply{value: info}, err
}

func (a *API) refreshInfo(c *call, client oauthClient, digest store.Digest) (tokenInfo, error) {
	known, err := a.cfg.Store.Refresh(c.Context(), digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return tokenInfo{}, nil
	case err != nil:
		return tokenInfo{}, err
	case known.Tenant != client.Tenant, !known.Used.IsZero(), !known.Revoked.IsZero(), !c.now.Before(known.Expires):
		return tokenInfo{}, nil
	}
	if denied, err := a.familyDenied(c.Context(), &known.RefreshFamily); err != nil || denied {
		return tokenInfo{}, err
	}
	return tokenInfo{
		Active: true, ClientID: client.tenant.Name + "/" + known.Client, TokenType: "refresh_token",
		Expires: known.Expires.Unix(), IssuedAt: known.Created.Unix(),
		Subject: known.User, Issuer: a.cfg.Tokens.Name, Tenant: client.tenant.Name, Kind: "user",
	}, nil
}

func (a *API) accessInfo(c *call, client oauthClient, text string) (tokenInfo, error) {
	t, live, err := a.verifyToken(c, text)
	if err != nil || !live || t.Issuer != a.cfg.Tokens.Name || t.Principal.Tenant != client.tenant.Name {
		return tokenInfo{}, err
	}
	return infoOf(t, text, a.cfg.Tokens.Audience), nil
}

func infoOf(t *cache.Token, text, audience string) tokenInfo {
	second := int64(time.Second)
	return tokenInfo{
		Active: true, ClientID: clientOf(text), TokenType: "Bearer",
		Expires: t.Expires / second, IssuedAt: t.IssuedAt / second, NotBefore: t.NotBefore / second,
		Subject: t.Principal.ID, Audience: audience, Issuer: t.Issuer, ID: t.ID,
		Tenant: t.Principal.Tenant, Kind: t.Principal.Kind.String(),
	}
}
