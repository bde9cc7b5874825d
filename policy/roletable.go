package policy

// RoleTable is the roles of one tenant with inheritance resolved. It is
// immutable and safe for concurrent use. A nil *RoleTable grants nothing.
type RoleTable struct {
	index  map[RoleID]int32 // position in names and rows
	byName map[string]RoleID
	names  []string
	bit    map[string]int32 // number of each permission
	rows   []permissionRow
}

// NewRoleTable resolves the inheritance of roles. What makes no sense adds
// nothing: a parent that is not among them, a role that is its own ancestor
// (every link of such a ring is ignored, links out of it hold), and a role whose
// id has come before.
func NewRoleTable(roles []RoleSpec) *RoleTable {
	t := &RoleTable{
		index:  make(map[RoleID]int32, len(roles)),
		byName: make(map[string]RoleID, len(roles)),
		bit:    map[string]int32{},
	}
	specs := make([]RoleSpec, 0, len(roles))
	for _, spec := range roles {
		if _, ok := t.index[spec.ID]; ok {
			continue
		}
		t.index[spec.ID] = int32(len(specs))
		if _, ok := t.byName[spec.Name]; !ok {
			t.byName[spec.Name] = spec.ID
		}
		specs = append(specs, spec)
		t.names = append(t.names, spec.Name)
		for _, permission := range spec.Permissions {
			if _, ok := t.bit[permission]; !ok {
				t.bit[permission] = int32(len(t.bit))
			}
		}
	}
	t.rows = make([]permissionRow, len(specs))
	scratch := make([]uint64, (len(t.bit)+63)/64)
	closeOver(specs, t.index, func(role int32, parents []int32) {
		clear(scratch)
		for _, permission := range specs[role].Permissions {
			bit := t.bit[permission]
			scratch[bit/64] |= 1 << (bit % 64)
		}
		for _, parent := range parents {
			t.rows[parent].addTo(scratch)
		}
		t.rows[role] = packRow(scratch)
	})
	return t
}

// closeOver calls resolve once for each role with the parents that it inherits
// from, all of which have been resolved before. It finds the rings among the
// roles by Tarjan's algorithm, which finishes a ring only after all that can be
// reached from it, and leaves out the links within one.
func closeOver(specs []RoleSpec, index map[RoleID]int32, resolve func(role int32, parents []int32)) {
	var (
		order  = make([]int32, len(specs)) // when a role was met, from 1; 0 is not yet
		low    = make([]int32, len(specs)) // the earliest role on the stack that it reaches
		ring   = make([]int32, len(specs)) // number of its ring, from 1; 0 is on the stack
		stack  []int32
		clock  int32
		rings  int32
		follow func(role int32)
	)
	follow = func(role int32) {
		clock++
		order[role], low[role] = clock, clock
		stack = append(stack, role)
		for _, id := range specs[role].Parents {
			parent, ok := index[id]
			if !ok {
				continue
			}
			if order[parent] == 0 {
				follow(parent)
				low[role] = min(low[role], low[parent])
			} else if ring[parent] == 0 {
				low[role] = min(low[role], order[parent])
			}
		}
		if low[role] != order[role] {
			return
		}
		rings++
		at := len(stack) - 1
		for stack[at] != role {
			at--
		}
		members := stack[at:]
		stack = stack[:at]
		for _, member := range members {
			ring[member] = rings
		}
		for _, member := range members {
			var parents []int32
			for _, id := range specs[member].Parents {
				if parent, ok := index[id]; ok && ring[parent] != rings {
					parents = append(parents, parent)
				}
			}
			resolve(member, parents)
		}
	}
	for role := range specs {
		if order[role] == 0 {
			follow(int32(role))
		}
	}
}

// Len returns the number of roles.
func (t *RoleTable) Len() int {
	if t == nil {
		return 0
	}
	return len(t.names)
}

// RoleName returns the name of a role.
func (t *RoleTable) RoleName(id RoleID) (string, bool) {
	if t == nil {
		return "", false
	}
	at, ok := t.index[id]
	if !ok {
		return "", false
	}
	return t.names[at], true
}

// Role returns the id of the role of that name.
func (t *RoleTable) Role(name string) (RoleID, bool) {
	if t == nil {
		return 0, false
	}
	id, ok := t.byName[name]
	return id, ok
}

// Allows reports whether a membership of g that is live at now (Unix
// nanoseconds) gives the permission, by its role or an inherited one. It
// allocates nothing.
func (t *RoleTable) Allows(g Grant, now int64, permission string) bool {
	if t == nil {
		return false
	}
	bit, ok := t.bit[permission]
	if !ok {
		return false
	}
	for i := range g {
		if at, ok := t.index[g[i].Role]; ok && g[i].Live(now) && t.rows[at].has(bit) {
			return true
		}
	}
	return false
}

// HoldsPermission reports whether the role of that name has the permission,
// its own or inherited.
func (t *RoleTable) HoldsPermission(role, permission string) bool {
	if t == nil {
		return false
	}
	id, ok := t.byName[role]
	if !ok {
		return false
	}
	bit, ok := t.bit[permission]
	return ok && t.rows[t.index[id]].has(bit)
}
