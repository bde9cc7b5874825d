package policy

import "slices"

// Permissions lists what the memberships of g that are live at now (Unix
// nanoseconds) give, inherited permissions included: exactly the names for which
// Allows is true. Sorted, each once.
func (t *RoleTable) Permissions(g Grant, now int64) []string {
	if t == nil {
		return nil
	}
	set := t.noPermissions()
	for i := range g {
		if at, ok := t.index[g[i].Role]; ok && g[i].Live(now) {
			t.rows[at].addTo(set)
		}
	}
	return t.permissionNames(set)
}

// RolePermissions lists what the role of that name has, inherited permissions
// included: exactly the names for which HoldsPermission is true. Sorted, each once.
func (t *RoleTable) RolePermissions(role string) []string {
	id, ok := t.Role(role)
	if !ok {
		return nil
	}
	set := t.noPermissions()
	t.rows[t.index[id]].addTo(set)
	return t.permissionNames(set)
}

// RolesHolding lists the names of the roles for which HoldsPermission is true.
// Sorted, each once.
func (t *RoleTable) RolesHolding(permission string) []string {
	if t == nil {
		return nil
	}
	bit, ok := t.bit[permission]
	if !ok {
		return nil
	}
	var names []string
	for name, id := range t.byName {
		if t.rows[t.index[id]].has(bit) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// noPermissions is an empty set of bits, with room for every permission.
func (t *RoleTable) noPermissions() []uint64 { return make([]uint64, (len(t.bit)+63)/64) }

func (t *RoleTable) permissionNames(set []uint64) []string {
	var names []string
	for name, bit := range t.bit {
		if set[bit/64]&(1<<(bit%64)) != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
