package policy_test

import (
	"slices"
	"strings"
	"testing"

	"portcullis/policy"
)

// A listing names exactly what the decision allows.
func TestListingsAgreeWithTheDecision(t *testing.T) {
	const now = 100
	table := policy.NewRoleTable([]policy.RoleSpec{
		{ID: 1, Name: "viewer", Permissions: []string{"view"}},
		{ID: 2, Name: "editor", Parents: []policy.RoleID{1}, Permissions: []string{"edit", "draft"}},
		{ID: 3, Name: "admin", Parents: []policy.RoleID{2}, Permissions: []string{"delete", "view"}},
		{ID: 4, Name: "empty"},
	})
	all := []string{"delete", "draft", "edit", "view", "unknown"}
	for _, role := range []string{"viewer", "editor", "admin", "empty", "missing"} {
		var want []string
		for _, p := range all {
			if table.HoldsPermission(role, p) {
				want = append(want, p)
			}
		}
		if got := table.RolePermissions(role); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", role, got, want)
		}
	}
	for _, c := range []struct {
		grant policy.Grant
		want  string
	}{
		{nil, ""},
		{policy.Grant{{Role: 1}}, "view"},
		{policy.Grant{{Role: 2}, {Role: 1}}, "draft edit view"},
		{policy.Grant{{Role: 3, Expires: now}, {Role: 1, Expires: now + 1}}, "view"},
		{policy.Grant{{Role: 99}}, ""},
	} {
		got := table.Permissions(c.grant, now)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v gives %q, want %q", c.grant, got, c.want)
		}
		for _, p := range all {
			if table.Allows(c.grant, now, p) != slices.Contains(got, p) {
				t.Errorf("%v: the listing and the decision differ on %s", c.grant, p)
			}
		}
	}
	for p, want := range map[string]string{"view": "admin editor viewer", "edit": "admin editor", "delete": "admin", "unknown": ""} {
		if got := table.RolesHolding(p); strings.Join(got, " ") != want {
			t.Errorf("%s is held by %q, want %q", p, got, want)
		}
	}
	var none *policy.RoleTable
	if none.Permissions(policy.Grant{{Role: 1}}, now) != nil || none.RolePermissions("viewer") != nil || none.RolesHolding("view") != nil {
		t.Error("a nil table lists something")
	}
}
