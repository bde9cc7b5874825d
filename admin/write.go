package admin

import (
	"context"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// commit makes one write and keeps its revision for the answer. The store's
// audit row is in the same transaction.
func (a *API) commit(c *call, write func(ctx context.Context, by store.Actor) (store.Result, error)) (store.Outcome, error) {
	result, err := write(c.Context(), c.actor())
	if err != nil {
		return 0, err
	}
	c.revision = &result.Revision
	a.metrics.audited(c.route.action)
	return result.Outcome, nil
}

// createRole is idempotent: an existing role keeps its description and links.
func (a *API) createRole(c *call) (reply, error) {
	_, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.PutRole(ctx, by, by.Tenant, c.values[0], nil)
	})
	return reply{value: true}, err
}

func (a *API) deleteRole(c *call) (reply, error) {
	role := c.values[0]
	outcome, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.DeleteRole(ctx, by, by.Tenant, role)
	})
	return reply{
		value:   map[string]bool{"result": outcome == store.OutcomeDone},
		message: "Deletion of role '" + role + "' completed",
	}, err
}

// addPermission is false where the role is missing.
func (a *API) addPermission(c *call) (reply, error) {
	outcome, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.AddPermission(ctx, by, by.Tenant, c.values[0], c.values[1])
	})
	return reply{value: outcome != store.OutcomeMissing}, err
}

// removePermission is true also where there was nothing to remove.
func (a *API) removePermission(c *call) (reply, error) {
	_, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.RemovePermission(ctx, by, by.Tenant, c.values[0], c.values[1])
	})
	return reply{value: true}, err
}

// notKeyBacked is the body of the 409 to a membership for a user whom a tenant
// with strict users does not take.
type notKeyBacked struct {
	Result bool   `json:"result"`
	Reason string `json:"reason"`
	Hint   string `json:"hint"`
}

const hintNotKeyBacked = "The tenant has strict users: give the user an API key first."

// addMembership is false where the role is missing. In a tenant with strict users
// it is 409 for a user without an active API key.
func (a *API) addMembership(c *call) (reply, error) {
	outcome, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.AddMember(ctx, by, by.Tenant, policy.KindUser, c.values[0], c.values[1], time.Time{})
	})
	return reply{value: outcome != store.OutcomeMissing}, err
}

// removeMembership is true also where there was nothing to remove.
func (a *API) removeMembership(c *call) (reply, error) {
	_, err := a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.RemoveMember(ctx, by, by.Tenant, policy.KindUser, c.values[0], c.values[1])
	})
	return reply{value: true}, err
}
