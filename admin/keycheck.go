package admin

import (
	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// The reasons for which a user API key is not valid.
const (
	keyUnknown = "unknown_key" // another tenant's too
	keyRevoked = "revoked"
	keyExpired = "expired"
)

type invalidKey struct {
	Valid  bool   `json:"valid"`
	Reason string `json:"reason"`
}

type validKey struct {
	Valid     bool    `json:"valid"`
	User      string  `json:"user"`
	KeyID     string  `json:"key_id"`
	Label     *string `json:"label"`
	ExpiresAt *string `json:"expires_at"`
}

type keyPermission struct {
	Valid         bool   `json:"valid"`
	User          string `json:"user"`
	KeyID         string `json:"key_id"`
	HasPermission bool   `json:"has_permission"`
}

// validateKey says whose key it is. It needs no answer from the store for a live
// one.
func (a *API) validateKey(c *call) (reply, error) {
	const message = "API key validation completed"
	body, err := c.object(false)
	if err != nil {
		return reply{}, err
	}
	text, err := body.apiKey()
	if err != nil {
		return reply{}, err
	}
	digest := store.Digest(identity.UserKeyDigest([]byte(text)))
	key, reason, err := a.presentedKey(c, digest)
	if err != nil {
		return reply{}, err
	}
	if key == nil {
		return reply{value: invalidKey{Reason: reason}, message: message}, a.recordKeyCheck(c, nil, digest, false, reason)
	}
	return reply{
		value: validKey{
			Valid: true, User: key.User, KeyID: key.ID, Label: orNull(key.Label), ExpiresAt: timeOrNull(key.Expires),
		},
		message: message,
	}, a.recordKeyCheck(c, key, digest, true, "")
}

// checkKeyPermission is checkUserPermission for the user whose key it is.
func (a *API) checkKeyPermission(c *call) (reply, error) {
	const message = "API key permission check completed"
	body, err := c.object(false)
	if err != nil {
		return reply{}, err
	}
	text, err := body.apiKey()
	if err != nil {
		return reply{}, err
	}
	permission, err := body.permission()
	if err == nil {
		err = a.strictly(rulePermission.what, permission)
	}
	if err != nil {
		return reply{}, err
	}
	digest := store.Digest(identity.UserKeyDigest([]byte(text)))
	key, reason, err := a.presentedKey(c, digest)
	if err != nil {
		return reply{}, err
	}
	if key == nil {
		return reply{value: invalidKey{Reason: reason}, message: message}, a.recordKeyCheck(c, nil, digest, false, reason)
	}
	v, err := a.holdings(c, key.User)
	if err != nil {
		return reply{}, err
	}
	answer := v.answerOf(v.roles.Allows(v.grant, c.began.Wall, permission))
	return reply{
		value:   keyPermission{Valid: true, User: key.User, KeyID: key.ID, HasPermission: answer.HasPermission},
		message: message,
	}, a.recordKeyCheck(c, key, digest, answer.HasPermission, "")
}

// presentedKey finds the user API key with the digest among the caller's tenant's:
// nil and the reason where it opens nothing. A live one comes from memory, and
// its use is noted, at most once a minute.
func (a *API) presentedKey(c *call, digest store.Digest) (*store.UserKey, string, error) {
	key, why, err := a.cachedKey(c, digest)
	if err != nil {
		return nil, "", err
	}
	if why == policy.ReasonBadKey {
		// Memory holds the live ones alone. The store says whether it was one once, or
		// is one since a moment ago.
		row, err := a.cfg.Store.UserKey(c.Context(), digest)
		if err != nil {
			return nil, "", err
		}
		switch {
		case row.Key == nil || row.Key.Tenant != c.key.Tenant:
			return nil, keyUnknown, nil
		case !row.Key.Revoked.IsZero():
			return nil, keyRevoked, nil
		case !row.Key.Active(c.now):
			return nil, keyExpired, nil
		}
		if err := a.cfg.Cache.CatchUp(c.Context(), row.Revision.Number); err != nil {
			return nil, "", err
		}
		if key, why, err = a.cachedKey(c, digest); err != nil {
			return nil, "", err
		}
	}
	switch {
	case why != policy.ReasonBadKey && key.Tenant != c.key.Tenant:
		return nil, keyUnknown, nil
	case why == policy.ReasonOK:
		return &key.UserKey, "", nil
	case why == policy.ReasonRevoked:
		return nil, keyRevoked, nil
	case why == policy.ReasonExpired:
		return nil, keyExpired, nil
	}
	return nil, "", unready(why)
}

// cachedKey is ReasonBadKey, without a key, where the cache knows of no live one.
func (a *API) cachedKey(c *call, digest store.Digest) (key *cache.UserKey, why policy.Reason, err error) {
	err = a.look(c, func(s *cache.Snapshot) (end cache.Lookup) {
		key, why, end = a.cfg.Cache.UserKey(s, digest, c.began)
		return end
	})
	return key, why, err
}
