package admin

import (
	"context"

	"portcullis/cache"
	"portcullis/internal/store"
)

// readSettings answers from the snapshot that checks are decided on.
func (a *API) readSettings(c *call) (reply, error) {
	var strict, found bool
	err := a.look(c, func(s *cache.Snapshot) cache.Lookup {
		t, ok := s.TenantByID(c.key.Tenant)
		if found = ok; ok {
			strict = t.StrictUsers
		}
		return cache.Found
	})
	if err == nil && !found {
		err = errUnserved
	}
	if err != nil {
		return reply{}, err
	}
	return reply{value: store.SettingsState{StrictUsers: strict}, message: "Settings retrieved"}, a.recordRead(c, "", store.SettingsResource)
}

func (a *API) writeSettings(c *call) (reply, error) {
	body, err := c.object(false)
	if err != nil {
		return reply{}, err
	}
	strict, err := body.boolean("strict_users")
	if err != nil {
		return reply{}, err
	}
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.SetStrictUsers(ctx, by, by.Tenant, strict)
	})
	return reply{value: store.SettingsState{StrictUsers: strict}, message: "Settings updated"}, err
}
