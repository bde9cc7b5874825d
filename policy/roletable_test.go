package policy_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"portcullis/policy"
)

func TestRoleTable(t *testing.T) {
	table := policy.NewRoleTable([]policy.RoleSpec{
		{ID: 30, Name: "admin", Parents: []policy.RoleID{20}, Permissions: []string{"delete"}},
		{ID: 10, Name: "viewer", Permissions: []string{"view"}},
		{ID: 20, Name: "editor", Parents: []policy.RoleID{10, 99}, Permissions: []string{"edit", "edit"}},
		{ID: 40, Name: "nothing"},

		// A ring: its links add nothing, but a link out of it holds.
		{ID: 51, Name: "ring-a", Parents: []policy.RoleID{52}, Permissions: []string{"a"}},
		{ID: 52, Name: "ring-b", Parents: []policy.RoleID{53, 10}, Permissions: []string{"b"}},
		{ID: 53, Name: "ring-c", Parents: []policy.RoleID{51}, Permissions: []string{"c"}},
		{ID: 54, Name: "below-ring", Parents: []policy.RoleID{51}, Permissions: []string{"d"}},
		{ID: 60, Name: "self", Parents: []policy.RoleID{60, 10}, Permissions: []string{"s"}},

		// An id or a name that has come before.
		{ID: 10, Name: "usurper", Permissions: []string{"root"}},
		{ID: 70, Name: "viewer", Permissions: []string{"other"}},
	})
	holds := map[string]string{
		"viewer": "view", "editor": "view edit", "admin": "view edit delete", "nothing": "",
		"ring-a": "a", "ring-b": "b view", "ring-c": "c", "below-ring": "d a", "self": "s view",
		"usurper": "", "unknown": "", "": "",
	}
	permissions := []string{"view", "edit", "delete", "a", "b", "c", "d", "s", "root", "other", "unknown", ""}
	for role, want := range holds {
		for _, permission := range permissions {
			expected := slices.Contains(strings.Fields(want), permission)
			if got := table.HoldsPermission(role, permission); got != expected {
				t.Errorf("%s holds %q: %v", role, permission, got)
			}
			if id, found := table.Role(role); found {
				if got := table.Allows(policy.Grant{{Role: id}}, 0, permission); got != expected {
					t.Errorf("member of %s is allowed %q: %v", role, permission, got)
				}
			}
		}
	}
	if !table.Allows(policy.Grant{{Role: 70}}, 0, "other") {
		t.Error("role 70 lost its permission to its namesake")
	}
	for id, want := range map[policy.RoleID]string{10: "viewer", 70: "viewer", 30: "admin", 99: "", 0: "", -1: ""} {
		if name, found := table.RoleName(id); name != want || found != (want != "") {
			t.Errorf("role %d is named %q %v", id, name, found)
		}
	}
	if id, found := table.Role("viewer"); id != 10 || !found {
		t.Errorf("viewer is %d %v", id, found)
	}
	if _, found := table.Role("usurper"); found {
		t.Error("usurper is a role")
	}
	if table.Len() != 10 {
		t.Errorf("%d roles", table.Len())
	}
}

func TestNilRoleTable(t *testing.T) {
	for name, table := range map[string]*policy.RoleTable{"nil": nil, "empty": policy.NewRoleTable(nil), "no permissions": policy.NewRoleTable([]policy.RoleSpec{{ID: 1, Name: "r"}})} {
		if table.Allows(policy.Grant{{Role: 1}, {}}, 0, "view") || table.Allows(policy.Grant{{Role: 1}, {}}, 0, "") || table.HoldsPermission("r", "") || table.HoldsPermission("", "") {
			t.Errorf("%s grants something", name)
		}
		if _, found := table.RoleName(0); found {
			t.Errorf("%s has a role 0", name)
		}
		if _, found := table.Role(""); found {
			t.Errorf("%s has a role", name)
		}
	}
	if (*policy.RoleTable)(nil).Len() != 0 {
		t.Error("nil has roles")
	}
}

// Inheritance agrees with walking the links at random: a role has what it or an
// ancestor has, links between two roles that reach each other left out. Many
// permissions make both forms of a row occur.
func TestRoleTableAgreesWithWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "roles")
		count := rapid.SampledFrom([]int{3, 64, 65, 300}).Draw(t, "permissions")
		var roles []policy.RoleSpec
		for i := range n {
			spec := policy.RoleSpec{ID: policy.RoleID(i), Name: fmt.Sprint("r", i)}
			for _, parent := range rapid.SliceOfN(rapid.IntRange(0, n), 0, 3).Draw(t, "parents") {
				spec.Parents = append(spec.Parents, policy.RoleID(parent))
			}
			for _, permission := range rapid.SliceOfN(rapid.IntRange(0, count-1), 0, rapid.SampledFrom([]int{1, 40}).Draw(t, "most")).Draw(t, "own") {
				spec.Permissions = append(spec.Permissions, fmt.Sprint("p", permission))
			}
			roles = append(roles, spec)
		}
		// One role holds every permission, so that rows are as long as they can be.
		all := policy.RoleSpec{ID: policy.RoleID(n + 1), Name: "all"}
		for i := range count {
			all.Permissions = append(all.Permissions, fmt.Sprint("p", i))
		}
		table := policy.NewRoleTable(append(slices.Clone(roles), all))

		reach := make([][]bool, n)
		for i := range reach {
			reach[i] = make([]bool, n)
			var walk func(int)
			walk = func(at int) {
				for _, parent := range roles[at].Parents {
					if int(parent) < n && !reach[i][parent] {
						reach[i][parent] = true
						walk(int(parent))
					}
				}
			}
			walk(i)
		}
		var own func(role int, seen map[int]bool) map[string]bool
		own = func(role int, seen map[int]bool) map[string]bool {
			set := map[string]bool{}
			seen[role] = true
			for _, permission := range roles[role].Permissions {
				set[permission] = true
			}
			for _, parent := range roles[role].Parents {
				if p := int(parent); p < n && !reach[p][role] && !seen[p] {
					for permission := range own(p, seen) {
						set[permission] = true
					}
				}
			}
			return set
		}
		for i := range n {
			want := own(i, map[int]bool{})
			for k := range count {
				permission := fmt.Sprint("p", k)
				if got := table.Allows(policy.Grant{{Role: policy.RoleID(i)}}, 0, permission); got != want[permission] {
					t.Fatalf("role %d, %s: %v; roles %+v", i, permission, got, roles)
				}
			}
		}
	})
}

// A role and some permissions for each of many projects take little memory, and
// a long chain of inheritance is no trouble.
func TestRoleTableAtScale(t *testing.T) {
	var roles []policy.RoleSpec
	for i := range 20_000 {
		roles = append(roles, policy.RoleSpec{ID: policy.RoleID(i + 1), Name: fmt.Sprint("r", i), Permissions: []string{fmt.Sprint("read-", i), fmt.Sprint("write-", i)}})
	}
	for i := range 1000 {
		roles = append(roles, policy.RoleSpec{ID: policy.RoleID(100_000 + i), Name: fmt.Sprint("c", i), Parents: []policy.RoleID{policy.RoleID(100_000 + i + 1)}, Permissions: []string{fmt.Sprint("chain-", i)}})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table := policy.NewRoleTable(roles)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
		t.Errorf("building took %d MiB", took>>20)
	}
	if !table.HoldsPermission("r7", "write-7") || table.HoldsPermission("r7", "write-8") || !table.HoldsPermission("c0", "chain-999") || table.HoldsPermission("c999", "chain-0") {
		t.Error("wrong permissions")
	}
}

func TestAllowsAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		decideRoles.Allows(both, 0, "view")
		decideRoles.Allows(both, 0, "unknown")
		decideRoles.HoldsPermission("editor", "view")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
