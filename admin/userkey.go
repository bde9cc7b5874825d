package admin

import (
	"context"
	"strconv"
	"strings"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// madeKey is the one answer that shows a user API key's secret.
type madeKey struct {
	APIKey    string  `json:"api_key"`
	KeyID     string  `json:"key_id"`
	User      string  `json:"user"`
	Label     *string `json:"label"`
	KeyPrefix string  `json:"key_prefix"`
	Created   string  `json:"created"`
	ExpiresAt *string `json:"expires_at"`
}

type userKeyRow struct {
	KeyID      string  `json:"key_id"`
	KeyPrefix  string  `json:"key_prefix"`
	Label      *string `json:"label"`
	IsActive   bool    `json:"is_active"`
	Created    string  `json:"created"`
	RevokedAt  *string `json:"revoked_at"`
	ExpiresAt  *string `json:"expires_at"`
	LastUsedAt *string `json:"last_used_at"`
}

type userKeyList struct {
	Count int          `json:"count"`
	Keys  []userKeyRow `json:"keys"`
}

type revokedKey struct {
	Revoked        bool `json:"revoked"`
	AlreadyRevoked bool `json:"already_revoked"`
}

// createUserKey makes a secret that never expires; the store keeps its digest
// alone. It is the one write that is not idempotent.
func (a *API) createUserKey(c *call) (reply, error) {
	user := c.values[0]
	body, err := c.object(true)
	if err != nil {
		return reply{}, err
	}
	label, err := body.label()
	if err == nil {
		err = a.strictly("label", label)
	}
	if err != nil {
		return reply{}, err
	}
	secret := identity.NewUserKey()
	var key store.UserKey
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (result store.Result, err error) {
		key, result, err = a.cfg.Store.CreateUserKey(ctx, by, store.NewUserKey{
			Tenant: by.Tenant,
			User:   user,
			Digest: identity.UserKeyDigest(secret[:]),
			Prefix: string(secret[:identity.UserKeyShown]),
			Label:  label,
		})
		return result, err
	})
	return reply{
		value: madeKey{
			APIKey:    string(secret[:]),
			KeyID:     key.ID,
			User:      user,
			Label:     orNull(label),
			KeyPrefix: key.Prefix,
			Created:   timestamp(key.Created),
			ExpiresAt: timeOrNull(key.Expires),
		},
		message: "API key created for user '" + user + "'. Store it now: it is not shown again.",
	}, err
}

func (a *API) listUserKeys(c *call) (reply, error) {
	user := c.values[0]
	keys, err := a.cfg.Store.UserKeyList(c.Context(), c.key.Tenant, user)
	if err != nil {
		return reply{}, err
	}
	list := userKeyList{Keys: make([]userKeyRow, 0, len(keys))}
	for i := range keys {
		k := &keys[i]
		list.Keys = append(list.Keys, userKeyRow{
			KeyID:      k.ID,
			KeyPrefix:  k.Prefix,
			Label:      orNull(k.Label),
			IsActive:   k.Active(c.now),
			Created:    timestamp(k.Created),
			RevokedAt:  timeOrNull(k.Revoked),
			ExpiresAt:  timeOrNull(k.Expires),
			LastUsedAt: timeOrNull(k.LastUsed),
		})
	}
	list.Count = len(list.Keys)
	return reply{
		value:   list,
		message: "Retrieved " + strconv.Itoa(list.Count) + " API keys for user '" + user + "'",
	}, a.recordRead(c, user, "api_keys")
}

// revokeUserKey is idempotent. A key of another user, or of another tenant, is not
// found.
func (a *API) revokeUserKey(c *call) (reply, error) {
	user, id := c.values[0], strings.ToLower(c.values[1])
	outcome, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.RevokeUserKey(ctx, by, by.Tenant, user, id)
	})
	return reply{
		value:   revokedKey{Revoked: true, AlreadyRevoked: outcome == store.OutcomeUnchanged},
		message: "API key revoked for user '" + user + "'",
	}, err
}
