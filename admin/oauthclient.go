package admin

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/policy"
)

// oauthClient is the client that a request to an OAuth endpoint proves to be: a live
// client key and its tenant.
type oauthClient struct {
	*cache.Key
	tenant *cache.Tenant
	id     string // client_id: tenant/name
}

// readClient reads the form and authenticates the client by it or by HTTP Basic. It
// counts the request under the client's limit, or under its address's.
func (a *API) readClient(c *call) (form, oauthClient, error) {
	f, client, err := a.provenClient(c)
	if err != nil {
		return nil, oauthClient{}, a.limitStranger(c, err)
	}
	return f, client, a.limitKey(c, client.Key, c.route)
}

func (a *API) provenClient(c *call) (form, oauthClient, error) {
	f, err := readForm(c)
	if err != nil {
		return nil, oauthClient{}, err
	}
	id, secret, err := clientCredentials(c.Header["Authorization"], f)
	if err != nil {
		return nil, oauthClient{}, err
	}
	client, err := a.authenticateClient(c, id, secret)
	return f, client, err
}

// clientCredentials finds client_id and client_secret in exactly one place, as RFC
// 6749 (2.3) asks.
func clientCredentials(authorization []string, f form) (id, secret string, err error) {
	switch {
	case len(authorization) > 1:
		return "", "", invalidClient(policy.ReasonConflictingCredentials)
	case len(authorization) == 0:
		if f["client_id"] == "" || f["client_secret"] == "" {
			return "", "", invalidClient(policy.ReasonMissingCredential)
		}
		return f["client_id"], f["client_secret"], nil
	case f["client_secret"] != "":
		return "", "", oauthFailure(oauthInvalidRequest, "The client authenticates in two ways: use HTTP Basic or the form.")
	}
	id, secret, ok := basicCredentials(authorization[0])
	if !ok {
		return "", "", invalidClient(policy.ReasonInvalidToken)
	}
	if f["client_id"] != "" && f["client_id"] != id {
		return "", "", oauthFailure(oauthInvalidRequest, "client_id is not the one of HTTP Basic.")
	}
	return id, secret, nil
}

// basicCredentials reads HTTP Basic as RFC 6749 (2.3.1) has it: both parts are
// form-encoded first. A slash may come as it is.
func basicCredentials(header string) (id, secret string, ok bool) {
	scheme, encoded, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	text, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	id, secret, ok = strings.Cut(string(text), ":")
	if !ok {
		return "", "", false
	}
	id, idErr := url.QueryUnescape(id)
	secret, secretErr := url.QueryUnescape(secret)
	return id, secret, idErr == nil && secretErr == nil
}

// authenticateClient checks that the secret is a live key of that tenant and name.
// Whatever is wrong, the answer is one and the same.
func (a *API) authenticateClient(c *call, id, secret string) (oauthClient, error) {
	canonical, ok := identity.ParseClientKey([]byte(secret))
	if !ok {
		return oauthClient{}, invalidClient(policy.ReasonBadKey)
	}
	key, reason, err := a.lookKey(c, canonical)
	if err != nil {
		return oauthClient{}, err
	}
	if reason.Effect() == policy.Fault {
		return oauthClient{}, unready(reason)
	}
	if reason != policy.ReasonOK {
		return oauthClient{}, invalidClient(reason)
	}
	tenant, ok := a.cfg.Cache.Snapshot().TenantByID(key.Tenant)
	if !ok {
		return oauthClient{}, errUnserved
	}
	client := oauthClient{Key: key, tenant: tenant, id: tenant.Name + "/" + key.Name}
	if client.id != id {
		return oauthClient{}, invalidClient(policy.ReasonBadKey)
	}
	c.secret, c.key = canonical, key
	return client, nil
}

func invalidClient(reason policy.Reason) *failure {
	return &failure{
		status: http.StatusUnauthorized, oauth: oauthInvalidClient, reason: reason,
		message: "The client is unknown, or its secret is not valid. client_id is tenant/name, client_secret its key.",
	}
}
