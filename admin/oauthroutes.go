package admin

import (
	"net/http"
	"slices"

	"portcullis/internal/store"
)

// The paths of OAuth's endpoints.
const (
	pathToken      = "/oauth/token"
	pathRevoke     = "/oauth/revoke"
	pathIntrospect = "/oauth/introspect"
	pathJWKS       = "/.well-known/jwks.json"
	pathMetadata   = "/.well-known/oauth-authorization-server"
	pathRotate     = "/api/keys/rotate"
)

// allRoutes is every row of the API.
func (a *API) allRoutes() []route {
	table := slices.Concat(a.routeTable(), a.keyRoutes(), a.denyRoutes())
	if a.cfg.Tokens.Issuer != nil {
		table = append(table, a.oauthRoutes()...)
	}
	return table
}

// oauthRoutes are OAuth's endpoints. Their rows have no scope: a client proves
// itself in OAuth's own way (oauthclient.go), and what it needs beyond that stands
// beside each grant (grants).
func (a *API) oauthRoutes() []route {
	const get, post, raw = http.MethodGet, http.MethodPost, envelopeRaw
	return []route{
		{post, pathToken, nil, "", true, raw, store.ActionIssueToken, a.issueToken},
		{post, pathRevoke, nil, "", true, raw, store.ActionRevokeToken, a.revokeToken},
		{post, pathIntrospect, nil, "", false, raw, store.ActionIntrospect, a.introspect},
		{get, pathJWKS, nil, "", false, raw, "", a.publicKeys},
		{get, pathMetadata, nil, "", false, raw, "", a.serverMetadata},
	}
}

// grant is one way to a token.
type grant struct {
	name  string
	scope store.Scope // that the client's key must hold; "" is none
	issue func(*call, form, oauthClient) (reply, error)
}

// grants is the whole list. What issues tokens for users needs the scope tokens.
func (a *API) grants() []grant {
	return []grant{
		{"client_credentials", "", a.issueToClient},
		{"refresh_token", store.ScopeTokens, a.refreshToken},
		{"urn:ietf:params:oauth:grant-type:token-exchange", store.ScopeTokens, a.exchangeToken},
	}
}

func (a *API) keyRoutes() []route {
	return []route{
		{http.MethodPost, pathRotate, nil, store.ScopeKeys, true, envelopeWrapped, store.ActionRotateKey, a.rotateKey},
	}
}

// denyRoutes are the deny-list. Rows with {tenant}, and signing keys, which are of
// no tenant, are the operator's.
func (a *API) denyRoutes() []route {
	const (
		get, post, del   = http.MethodGet, http.MethodPost, http.MethodDelete
		tokens, operator = store.ScopeTokens, store.ScopeOperator
		deny, allow      = store.ActionDeny, store.ActionAllow
		wrapped          = envelopeWrapped
	)
	tenant := []nameRule{ruleTenant}
	entry := []nameRule{ruleEntry}
	tenantEntry := []nameRule{ruleTenant, ruleEntry}
	return []route{
		{post, "/api/deny/token", nil, tokens, true, wrapped, deny, a.denyToken},
		{post, "/api/deny/subject", nil, tokens, true, wrapped, deny, a.denySubject},
		{get, "/api/deny", nil, tokens, false, wrapped, store.ActionListDenials, a.listDenials},
		{post, "/api/deny/key", nil, operator, true, wrapped, deny, a.denyKey},
		{get, "/api/deny/key", nil, operator, false, wrapped, store.ActionListDenials, a.listDeniedKeys},
		{del, "/api/deny/key/{id}", entry, operator, true, wrapped, allow, a.allowKey},
		{post, "/api/deny/tenant/{tenant}/token", tenant, operator, true, wrapped, deny, a.denyToken},
		{post, "/api/deny/tenant/{tenant}/subject", tenant, operator, true, wrapped, deny, a.denySubject},
		{get, "/api/deny/tenant/{tenant}", tenant, operator, false, wrapped, store.ActionListDenials, a.listDenials},
		{del, "/api/deny/tenant/{tenant}/{id}", tenantEntry, operator, true, wrapped, allow, a.allow},
		{del, "/api/deny/{id}", entry, tokens, true, wrapped, allow, a.allow},
	}
}
