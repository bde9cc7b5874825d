package admin

import (
	"portcullis/cache"
	"portcullis/internal/store"
	"portcullis/policy"
)

// permissionAnswer is the data of a check.
type permissionAnswer struct {
	HasPermission bool   `json:"has_permission"`
	Reason        string `json:"reason,omitempty"`
}

// reasonNotKeyBacked is Auth's word for policy.ReasonNotKeyBacked.
const reasonNotKeyBacked = "user_not_key_backed"

// answerOf says whether the user holds what was asked for. In a tenant with
// strict users one without an active API key holds nothing, and is told why.
func (v *held) answerOf(holds bool) permissionAnswer {
	if !v.backed {
		return permissionAnswer{Reason: reasonNotKeyBacked}
	}
	return permissionAnswer{HasPermission: holds}
}

// checkUserPermission is the gate's own decision on a permission: the same
// cached grant, the same role table, the same Allows.
func (a *API) checkUserPermission(c *call) (reply, error) {
	user, permission := c.values[0], c.values[1]
	v, err := a.holdings(c, user)
	if err != nil {
		return reply{}, err
	}
	answer := v.answerOf(v.roles.Allows(v.grant, c.began.Wall, permission))
	return reply{
		value:   answer,
		message: "Permission check for user '" + user + "' and permission '" + permission + "' completed",
	}, a.recordCheck(c, user, permissionResource(permission), answer.HasPermission, v.revision)
}

// checkWorkflow is checkUserPermission in the words of workflows.
func (a *API) checkWorkflow(c *call) (reply, error) {
	user, workflow := c.values[0], c.values[1]
	v, err := a.holdings(c, user)
	if err != nil {
		return reply{}, err
	}
	answer := v.answerOf(v.roles.Allows(v.grant, c.began.Wall, workflow))
	return reply{
		value:   answer,
		message: "Workflow check for user '" + user + "' and workflow '" + workflow + "' completed",
	}, a.recordCheck(c, user, permissionResource(workflow), answer.HasPermission, v.revision)
}

// checkMembership says whether the user is in the role itself; a role that
// inherits from it does not count.
func (a *API) checkMembership(c *call) (reply, error) {
	user, role := c.values[0], c.values[1]
	v, err := a.holdings(c, user)
	if err != nil {
		return reply{}, err
	}
	holds := false
	if id, ok := v.roles.Role(role); ok {
		for _, m := range v.grant {
			holds = holds || m.Role == id && m.Live(c.began.Wall)
		}
	}
	answer := v.answerOf(holds)
	return reply{
		value:   answer,
		message: "Membership check for user '" + user + "' and group '" + role + "' completed",
	}, a.recordCheck(c, user, store.MembershipResource(role), answer.HasPermission, v.revision)
}

// checkRolePermission says whether members of the role hold the permission,
// inherited ones included.
func (a *API) checkRolePermission(c *call) (reply, error) {
	role, permission := c.values[0], c.values[1]
	var roles *policy.RoleTable
	var revision int64
	err := a.look(c, func(s *cache.Snapshot) (end cache.Lookup) {
		revision = s.Revision.Number
		_, roles, end = a.roles(c, s)
		return end
	})
	if err != nil {
		return reply{}, err
	}
	if roles == nil {
		return reply{}, errUnserved
	}
	holds := roles.HoldsPermission(role, permission)
	return reply{value: holds}, a.recordCheck(c, "", store.PermissionResource(role, permission), holds, revision)
}

// held is what a user holds, all true at one revision.
type held struct {
	roles    *policy.RoleTable
	grant    policy.Grant
	backed   bool // by an API key, or the tenant does not ask for one
	revision int64
}

// holdings looks a user of the caller's tenant up in the cache.
func (a *API) holdings(c *call, user string) (held, error) {
	var v held
	err := a.look(c, func(s *cache.Snapshot) cache.Lookup {
		t, roles, end := a.roles(c, s)
		v = held{roles: roles, revision: s.Revision.Number}
		if end != cache.Found {
			return end
		}
		h, end := a.cfg.Cache.Grant(s, t, policy.KindUser, user, nil, c.began)
		v.grant = h.Roles
		v.backed = policy.KeyBacked(t.StrictUsers, policy.KindUser, h.KeyBackedUntil, c.began.Wall)
		return end
	})
	if err == nil && v.roles == nil {
		err = errUnserved
	}
	return v, err
}

// roles finds the caller's tenant and its role table; Absent where this process
// does not serve the tenant.
func (a *API) roles(c *call, s *cache.Snapshot) (*cache.Tenant, *policy.RoleTable, cache.Lookup) {
	t, ok := s.TenantByID(c.key.Tenant)
	if !ok {
		return nil, nil, cache.Absent
	}
	roles, end := a.cfg.Cache.Roles(s, t, c.began)
	return t, roles, end
}
