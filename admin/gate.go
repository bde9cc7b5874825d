package admin

import (
	"strings"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// authenticate returns the live client key that the request brings in its one
// Authorization header. A key that was never made costs the store nothing: the
// cache knows every live one.
func (a *API) authenticate(c *call) (*cache.Key, error) {
	values := c.Header["Authorization"]
	switch {
	case len(values) == 0:
		return nil, authFailure(policy.ReasonMissingCredential)
	case len(values) > 1:
		return nil, authFailure(policy.ReasonConflictingCredentials)
	case strings.TrimSpace(values[0]) == "":
		return nil, authFailure(policy.ReasonMissingCredential)
	}
	fields := strings.Fields(values[0])
	if len(fields) != 2 || !strings.EqualFold(fields[0], "Bearer") {
		return nil, authFailure(policy.ReasonInvalidToken)
	}
	canonical, ok := identity.ParseClientKey([]byte(fields[1]))
	if !ok {
		f := badRequest(messageInvalidKey)
		f.reason = policy.ReasonBadKey
		return nil, f
	}
	c.secret = canonical
	key, reason, err := a.lookKey(c, canonical)
	if err == nil && reason == policy.ReasonBadKey && a.cfg.OpenTenancy {
		key, reason, err = a.openTenant(c)
	}
	if err != nil {
		return nil, err
	}
	if reason != policy.ReasonOK {
		return nil, authFailure(reason)
	}
	return key, nil
}

// clientSecret is a client key's canonical text.
type clientSecret = [identity.ClientKeySize]byte

// lookKey finds a client key in the cache. Any reason but ReasonOK refuses it.
func (a *API) lookKey(c *call, canonical clientSecret) (key *cache.Key, reason policy.Reason, err error) {
	reason = policy.ReasonInternal
	if err := a.fresh(c); err != nil {
		return nil, reason, err
	}
	digest := store.Digest(identity.KeyDigest(canonical))
	err = a.look(c, func(s *cache.Snapshot) (end cache.Lookup) {
		key, reason, end = a.cfg.Cache.Key(s, digest, c.began)
		return end
	})
	return key, reason, err
}
