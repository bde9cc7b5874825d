package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"portcullis/internal/identity"
)

// publicKeys is GET /.well-known/jwks.json: the keys that verify our own tokens, 404
// where a secret signs them.
func (a *API) publicKeys(c *call) (reply, error) {
	if !a.signing.asymmetric() {
		return reply{}, noPath()
	}
	known, err := a.signing.follow(c.Context(), a.cfg.Cache.Applied())
	if err != nil {
		return reply{}, err
	}
	keys := make([]identity.PublicKey, 0, len(known))
	for _, k := range known {
		public := identity.PublicKey{KeyID: k.KeyID, Algorithm: k.Algorithm, JWK: []byte(k.JWK)}
		if !k.Expires.IsZero() {
			public.Expires = k.Expires.UnixNano()
		}
		keys = append(keys, public)
	}
	set, err := identity.JWKS(keys, c.began.Wall)
	if err != nil {
		return reply{}, err
	}
	c.out.Set("Cache-Control", "public, max-age=60")
	return reply{value: json.RawMessage(set)}, nil
}

// metadata is RFC 8414's, with what this server has.
type metadata struct {
	Issuer        string   `json:"issuer"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Revocation    string   `json:"revocation_endpoint"`
	Introspection string   `json:"introspection_endpoint"`
	ResponseTypes []string `json:"response_types_supported"`
	Grants        []string `json:"grant_types_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	RevokeAuth    []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectAs  []string `json:"introspection_endpoint_auth_methods_supported"`
}

// serverMetadata is GET /.well-known/oauth-authorization-server. Its addresses are
// under AUTH_JWT_ISSUER; 404 where that is no URL, or a secret signs.
func (a *API) serverMetadata(c *call) (reply, error) {
	if !a.signing.asymmetric() {
		return reply{}, noPath()
	}
	issuer, err := url.Parse(a.cfg.Tokens.Name)
	if err != nil || issuer.Scheme != "https" && issuer.Scheme != "http" || issuer.Host == "" || issuer.RawQuery != "" || issuer.Fragment != "" {
		return reply{}, noPath()
	}
	base := strings.TrimSuffix(a.cfg.Tokens.Name, "/")
	var grants []string
	for _, g := range a.grants() {
		grants = append(grants, g.name)
	}
	methods := []string{"client_secret_basic", "client_secret_post"}
	c.out.Set("Cache-Control", "public, max-age=60")
	return reply{value: metadata{
		Issuer: a.cfg.Tokens.Name, Token: base + pathToken, Keys: base + pathJWKS,
		Revocation: base + pathRevoke, Introspection: base + pathIntrospect,
		ResponseTypes: []string{}, Grants: grants, AuthMethods: methods, RevokeAuth: methods, IntrospectAs: methods,
	}}, nil
}

func noPath() *failure { return &failure{status: http.StatusNotFound, message: "No such path."} }
