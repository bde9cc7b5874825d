package admin

import (
	"portcullis/cache"
	"portcullis/internal/store"
	"portcullis/policy"
)

// permissionAnswer is the data of a check.
type permissionAnswer struct {
	HasPermission bool `json:"has_permission"`
}

// checkUserPermission is the gate's own decision on a permission: the same
// cached grant, the same role table, the same Allows.
func (a *API) checkUserPermission(c *call) (reply, error) {
	user, permission := c.values[0], c.values[1]
	v, err := a.holdings(c, user)
	if err != nil {
		return reply{}, err
	}
	holds := v.roles.Allows(v.grant, c.began.Wall, permission)
	return reply{
		value:   permissionAnswer{holds},
		message: "Permission check for user '" + user + "' and permission '" + permission + "' completed",
	}, a.recordCheck(c, user, "permission/"+permission, holds, v.revision)
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
	return reply{
		value:   permissionAnswer{holds},
		message: "Membership check for user '" + user + "' and group '" + role + "' completed",
	}, a.recordCheck(c, user, store.MembershipResource(role), holds, v.revision)
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
		v.grant, end = a.cfg.Cache.Grant(s, t, policy.KindUser, user, nil, c.began)
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
