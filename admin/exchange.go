package admin

import (
	"crypto/rand"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/input"
	"portcullis/internal/store"
	"portcullis/policy"
)

// The token types of RFC 8693 (3) that are taken or given, and two of our own.
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
	typeUser        = "urn:portcullis:params:oauth:token-type:user"
	typeAPIKey      = "urn:portcullis:params:oauth:token-type:api_key"
)

// subjectType is one way to name the user whom an exchange is for. user returns ""
// where the token names no user of the client's tenant; why stays inside.
type subjectType struct {
	name string
	user func(c *call, client oauthClient, token string) (string, error)
}

// subjectTypes is the whole list.
func (a *API) subjectTypes() []subjectType {
	return []subjectType{
		{typeUser, a.namedUser},
		{typeAPIKey, a.apiKeyUser},
		{typeAccessToken, a.tokenUser},
		{typeJWT, a.tokenUser},
	}
}

// exchangeToken is the grant token-exchange (RFC 8693): tokens for a user of the
// client's tenant.
func (a *API) exchangeToken(c *call, f form, client oauthClient) (reply, error) {
	token, err := f.required("subject_token")
	if err != nil {
		return reply{}, err
	}
	kind, err := f.required("subject_token_type")
	if err != nil {
		return reply{}, err
	}
	switch {
	case f["actor_token"] != "" || f["actor_token_type"] != "":
		return reply{}, oauthFailure(oauthInvalidRequest, "An actor_token is not taken: a token is its user's alone.")
	case f["requested_token_type"] != "" && f["requested_token_type"] != typeAccessToken:
		return reply{}, oauthFailure(oauthInvalidRequest, "requested_token_type must be "+typeAccessToken+".")
	case f["resource"] != "", f["audience"] != "" && f["audience"] != a.cfg.Tokens.Audience:
		return reply{}, oauthFailure(oauthInvalidTarget, "Tokens are for one audience, that of AUTH_JWT_AUDIENCE.")
	}
	for _, s := range a.subjectTypes() {
		if s.name != kind {
			continue
		}
		user, err := s.user(c, client, token)
		if err != nil {
			return reply{}, err
		}
		if user == "" {
			f := oauthFailure(oauthInvalidRequest, "The subject_token names no user of the client's tenant.")
			f.badGrant = kind != typeUser // which is no secret
			return reply{}, f
		}
		return a.startFamily(c, client, user)
	}
	return reply{}, oauthFailure(oauthInvalidRequest, "subject_token_type is not one that is taken.")
}

// namedUser takes the user's id as it is: a key with the scope tokens may name any.
// Nobody has vouched for the id, so what names no person and is shown to people is
// refused.
func (a *API) namedUser(_ *call, _ oauthClient, id string) (string, error) {
	if !validUser(id) || input.HasScriptTag(id) {
		return "", nil
	}
	if message := a.strict("subject_token", id); message != "" {
		return "", oauthFailure(oauthInvalidRequest, message)
	}
	return id, nil
}

// validUser reports whether a token may carry the id as its subject.
func validUser(id string) bool {
	if id == "" || len(id) > identity.MaxSubjectSize {
		return false
	}
	for i := 0; i < len(id); i++ {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// apiKeyUser takes a live API key of a user.
func (a *API) apiKeyUser(c *call, client oauthClient, text string) (string, error) {
	if !identity.IsUserKey([]byte(text)) {
		return "", nil
	}
	digest := store.Digest(identity.UserKeyDigest([]byte(text)))
	var key *cache.UserKey
	reason := policy.ReasonInternal
	err := a.look(c, func(s *cache.Snapshot) (end cache.Lookup) {
		key, reason, end = a.cfg.Cache.UserKey(s, digest, c.began)
		return end
	})
	switch {
	case err != nil:
		return "", err
	case reason.Effect() == policy.Fault:
		return "", unready(reason)
	case reason != policy.ReasonOK || key.Tenant != client.Tenant || !validUser(key.User):
		return "", nil
	}
	return key.User, nil
}

// tokenUser takes a token that the gate would take: our own, or an outside issuer's
// where this process knows the policy.
func (a *API) tokenUser(c *call, client oauthClient, text string) (string, error) {
	t, live, err := a.verifyToken(c, text)
	if err != nil || !live {
		return "", err
	}
	p := t.Principal
	if p.Kind != policy.KindUser || p.Tenant != client.tenant.Name || !validUser(p.ID) {
		return "", nil
	}
	return p.ID, nil
}

func randomFamily() (family [16]byte) {
	rand.Read(family[:]) // never fails
	return family
}
