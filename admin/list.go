package admin

import (
	"strconv"

	"portcullis/cache"
	"portcullis/internal/store"
	"portcullis/policy"
)

// Listings of what a role or a user may do say what the decision says: inherited
// permissions count, memberships that have run out do not. They show users alone;
// clients and workloads are the command line's.

type permissionName struct {
	Name string `json:"name"`
}

type roleName struct {
	Role string `json:"role"`
}

type memberRow struct {
	User string `json:"user"`
	Role string `json:"role"`
}

type permissionList struct {
	Count       int              `json:"count"`
	Permissions []permissionName `json:"permissions"`
	Reason      string           `json:"reason,omitempty"`
}

type memberList struct {
	Count   int         `json:"count"`
	Members []memberRow `json:"members"`
}

// userPermissions lists every permission for which checkUserPermission is true.
func (a *API) userPermissions(c *call) (reply, error) {
	user := c.values[0]
	v, err := a.holdings(c, user)
	if err != nil {
		return reply{}, err
	}
	list := permissionList{Permissions: []permissionName{}}
	if !v.backed {
		list.Reason = reasonNotKeyBacked
	} else {
		list.Permissions = named(v.roles.Permissions(v.grant, c.began.Wall))
	}
	list.Count = len(list.Permissions)
	return reply{
		value:   list,
		message: "Retrieved " + strconv.Itoa(list.Count) + " permissions for user '" + user + "'",
	}, a.recordCheck(c, user, "permissions", v.backed, v.revision)
}

// rolePermissions lists every permission for which checkRolePermission is true. A
// missing role has none.
func (a *API) rolePermissions(c *call) (reply, error) {
	role := c.values[0]
	roles, err := a.roleTable(c)
	if err != nil {
		return reply{}, err
	}
	rows, err := page(c, named(roles.RolePermissions(role)))
	if err != nil {
		return reply{}, err
	}
	return reply{
		value:   rows,
		message: "Retrieved " + strconv.Itoa(len(rows)) + " permissions for role '" + role + "'",
	}, a.recordRead(c, "", store.RoleResource(role))
}

// userRoles lists the roles that the user is in. It is not gated by strict users:
// it says what is written down, not what the user may do.
func (a *API) userRoles(c *call) (reply, error) {
	user := c.values[0]
	v, err := a.holdings(c, user)
	if err != nil {
		return reply{}, err
	}
	rows := []memberRow{}
	for _, m := range v.grant {
		if name, ok := v.roles.RoleName(m.Role); ok && m.Live(c.began.Wall) {
			rows = append(rows, memberRow{User: user, Role: name})
		}
	}
	rows, err = page(c, sorted(rows))
	if err != nil {
		return reply{}, err
	}
	return reply{value: rows}, a.recordRead(c, user, "memberships")
}

// roleMembers lists the users in the role itself.
func (a *API) roleMembers(c *call) (reply, error) {
	role := c.values[0]
	rows, err := a.usersIn(c, []string{role})
	if err == nil {
		rows, err = page(c, rows)
	}
	if err != nil {
		return reply{}, err
	}
	return reply{value: rows}, a.recordRead(c, "", store.MembershipResource(role))
}

// rolesThatCan lists the roles for which checkRolePermission is true.
func (a *API) rolesThatCan(c *call) (reply, error) {
	permission := c.values[0]
	roles, err := a.roleTable(c)
	if err != nil {
		return reply{}, err
	}
	rows := []roleName{}
	for _, name := range roles.RolesHolding(permission) {
		rows = append(rows, roleName{name})
	}
	rows, err = page(c, rows)
	if err != nil {
		return reply{}, err
	}
	return reply{value: rows}, a.recordRead(c, "", permissionResource(permission))
}

// usersThatCan lists who is in a role that has the permission, one row for each
// such role.
func (a *API) usersThatCan(c *call) (reply, error) {
	permission := c.values[0]
	rows, err := a.usersHolding(c, permission)
	if err == nil {
		rows, err = page(c, rows)
	}
	if err != nil {
		return reply{}, err
	}
	return reply{value: rows}, a.recordRead(c, "", permissionResource(permission))
}

// workflowUsers is usersThatCan in the words of workflows.
func (a *API) workflowUsers(c *call) (reply, error) {
	workflow := c.values[0]
	rows, err := a.usersHolding(c, workflow)
	if err != nil {
		return reply{}, err
	}
	return reply{
		value:   memberList{Count: len(rows), Members: rows},
		message: "Retrieved " + strconv.Itoa(len(rows)) + " members for workflow '" + workflow + "'",
	}, a.recordRead(c, "", permissionResource(workflow))
}

func (a *API) usersHolding(c *call, permission string) ([]memberRow, error) {
	roles, err := a.roleTable(c)
	if err != nil {
		return nil, err
	}
	return a.usersIn(c, roles.RolesHolding(permission))
}

// usersIn reads the live memberships of users in the roles, from the store: the
// cache holds what a principal is in, not who is in a role.
func (a *API) usersIn(c *call, roles []string) ([]memberRow, error) {
	rows := []memberRow{}
	for _, role := range roles {
		members, err := a.cfg.Store.MemberList(c.Context(), c.key.Tenant, role)
		if err != nil {
			return nil, err
		}
		for i := range members {
			if m := &members[i]; m.Kind == policy.KindUser && (m.Expires.IsZero() || c.now.Before(m.Expires)) {
				rows = append(rows, memberRow{User: m.ID, Role: m.Role})
			}
		}
	}
	return sorted(rows), nil
}

// roleTable is the caller's, as the gate knows it.
func (a *API) roleTable(c *call) (*policy.RoleTable, error) {
	var roles *policy.RoleTable
	err := a.look(c, func(s *cache.Snapshot) (end cache.Lookup) {
		_, roles, end = a.roles(c, s)
		return end
	})
	if err == nil && roles == nil {
		err = errUnserved
	}
	return roles, err
}
