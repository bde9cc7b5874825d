package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func jsonNumber(n int64) string { return strconv.FormatInt(n, 10) }

// hostile are names that a store which builds SQL from text, folds case or
// trims would mix up.
func hostile() []string {
	return []string{
		"alice", "Alice", "ALICE", "alice ", " alice", "a_ice", "a%ice", "alice\t", "alic\u00e9", "alice\u0301", "alic",
		"' OR '1'='1", `"; DROP TABLE roles; --`, `back\slash`, `{"json": true}`, "$1", "?1", ":name", "line\nbreak",
		"auth0|65f", "client:ci", "日本語", "\U0001F510", strings.Repeat("x", 4000),
	}
}

func testRoles(t *testing.T, h Harness) {
	t.Run("the role table is what was written", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "viewer", "editor", "admin", "loner")
		for _, link := range [][2]string{{"editor", "viewer"}, {"admin", "editor"}, {"admin", "viewer"}} {
			k.done(k.AddParent(k.ctx, k.by, k.tenant, link[0], link[1]))
		}
		for _, p := range [][2]string{{"viewer", "read"}, {"editor", "write"}, {"editor", "delete"}, {"admin", "read"}} {
			k.done(k.AddPermission(k.ctx, k.by, k.tenant, p[0], p[1]))
		}
		want := map[string]string{
			"viewer": "parents [] permissions [read]",
			"editor": "parents [viewer] permissions [delete write]",
			"admin":  "parents [editor viewer] permissions [read]",
			"loner":  "parents [] permissions []",
		}
		table := must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant))
		if got := describe(table.Roles); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v\nwant %v", got, want)
		}
		if table.Revision != k.head() || table.Tenant != k.tenant {
			t.Errorf("table of tenant %d as at %v, want %d at %v", table.Tenant, table.Revision, k.tenant, k.head())
		}
		if got := describe(must[store.TenantRoles](k)(k.second().Roles(k.ctx, k.tenant)).Roles); !reflect.DeepEqual(got, want) {
			t.Errorf("second handle: %v", got)
		}
		// A role's own permissions, without the inherited ones.
		for role, want := range map[string][]string{"admin": {"read"}, "editor": {"delete", "write"}, "loner": nil} {
			if got := must[[]string](k)(k.PermissionList(k.ctx, k.tenant, role)); !slices.Equal(got, want) {
				t.Errorf("%s has %v, want %v", role, got, want)
			}
		}
		if !must[bool](k)(k.HasPermission(k.ctx, k.tenant, "editor", "write")) || must[bool](k)(k.HasPermission(k.ctx, k.tenant, "admin", "write")) {
			t.Error("editor has write of its own, admin by inheritance only")
		}
		k.done(k.RemoveParent(k.ctx, k.by, k.tenant, "admin", "editor"))
		k.done(k.RemovePermission(k.ctx, k.by, k.tenant, "editor", "write"))
		want["admin"] = "parents [viewer] permissions [read]"
		want["editor"] = "parents [viewer] permissions [delete]"
		if got := describe(must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant)).Roles); !reflect.DeepEqual(got, want) {
			t.Errorf("after removals\n got %v\nwant %v", got, want)
		}
	})

	t.Run("the list is by name, with descriptions and parents", func(t *testing.T) {
		k := newKit(t, h)
		for name, description := range map[string]string{"b": "Bees", "a": "", "B": "Capital", "a-b": "Dash", "ab": "Plain"} {
			k.done(k.PutRole(k.ctx, k.by, k.tenant, name, &description))
		}
		for _, parent := range []string{"b", "B", "a"} {
			k.done(k.AddParent(k.ctx, k.by, k.tenant, "ab", parent))
		}
		var got []string
		for _, r := range must[[]store.Role](k)(k.RoleList(k.ctx, k.tenant)) {
			if r.ID != k.roleID(k.tenant, r.Name) {
				t.Errorf("%s is %d in the list, %d in the table", r.Name, r.ID, k.roleID(k.tenant, r.Name))
			}
			got = append(got, fmt.Sprint(r.Name, " ", r.Description, " ", r.Parents))
		}
		if want := []string{"B Capital []", "a  []", "a-b Dash []", "ab Plain [B a b]", "b Bees []"}; !slices.Equal(got, want) {
			t.Errorf("list %q, want %q", got, want)
		}
	})

	t.Run("deleting a role purges it, making it again restores nothing", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor", "above", "below")
		k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write"))
		k.done(k.AddParent(k.ctx, k.by, k.tenant, "editor", "above"))
		k.done(k.AddParent(k.ctx, k.by, k.tenant, "below", "editor"))
		for _, kind := range []policy.Kind{policy.KindUser, policy.KindClient, policy.KindWorkload} {
			k.done(k.AddMember(k.ctx, k.by, k.tenant, kind, "alice", "editor", time.Time{}))
		}
		first := k.roleID(k.tenant, "editor")
		k.done(k.DeleteRole(k.ctx, k.by, k.tenant, "editor"))
		if got := k.grant(k.tenant, policy.KindUser, "alice"); len(got) > 0 {
			t.Errorf("alice still holds %v", got)
		}
		k.role(k.tenant, "editor")
		if second := k.roleID(k.tenant, "editor"); second <= first {
			t.Errorf("the new role has id %d, the old one had %d", second, first)
		}
		want := map[string]string{
			"editor": "parents [] permissions []",
			"above":  "parents [] permissions []",
			"below":  "parents [] permissions []",
		}
		if got := describe(must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant)).Roles); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if list := must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, "editor")); len(list) > 0 {
			t.Errorf("members came back: %v", list)
		}
		if must[bool](k)(k.HasRole(k.ctx, k.tenant, policy.KindUser, "alice", "editor", time.Now())) {
			t.Error("alice is an editor again")
		}
	})

	t.Run("an id is never used again", func(t *testing.T) {
		k := newKit(t, h)
		last := policy.RoleID(0)
		for i := range 5 {
			if i == 3 {
				k = k.second() // nor by a process that began after the deletion
			}
			k.role(k.tenant, "editor")
			id := k.roleID(k.tenant, "editor")
			if id <= last {
				t.Fatalf("id %d after %d", id, last)
			}
			last = id
			k.done(k.DeleteRole(k.ctx, k.by, k.tenant, "editor")) // the highest id of all
		}
	})

	t.Run("a removed link of a cycle opens the way", func(t *testing.T) {
		k := newKit(t, h)
		const depth = 40
		name := func(i int) string { return fmt.Sprintf("r%02d", i) }
		for i := range depth {
			k.role(k.tenant, name(i))
			if i > 0 {
				k.done(k.AddParent(k.ctx, k.by, k.tenant, name(i-1), name(i)))
			}
		}
		_, err := k.AddParent(k.ctx, k.by, k.tenant, name(depth-1), name(0))
		k.wantErr(err, store.ErrCycle)
		// A diamond is no cycle.
		k.done(k.AddParent(k.ctx, k.by, k.tenant, name(0), name(depth-1)))
		k.done(k.RemoveParent(k.ctx, k.by, k.tenant, name(0), name(depth-1)))
		k.done(k.RemoveParent(k.ctx, k.by, k.tenant, name(20), name(21)))
		k.done(k.AddParent(k.ctx, k.by, k.tenant, name(depth-1), name(0)))
	})

	t.Run("names are kept to the byte", func(t *testing.T) {
		k := newKit(t, h)
		var want []string
		for _, name := range hostile() {
			description := "about " + name
			k.done(k.PutRole(k.ctx, k.by, k.tenant, name, &description))
			k.done(k.AddPermission(k.ctx, k.by, k.tenant, name, name))
			want = append(want, name)
		}
		slices.Sort(want)
		var got []string
		for _, r := range must[[]store.Role](k)(k.RoleList(k.ctx, k.tenant)) {
			got = append(got, r.Name)
			if r.Description != "about "+r.Name {
				t.Errorf("role %q is %q", r.Name, r.Description)
			}
			if own := must[[]string](k)(k.PermissionList(k.ctx, k.tenant, r.Name)); !slices.Equal(own, []string{r.Name}) {
				t.Errorf("role %q may %q", r.Name, own)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("roles %q, want %q", got, want)
		}
		for _, role := range hostile() {
			for _, permission := range hostile() {
				if has := must[bool](k)(k.HasPermission(k.ctx, k.tenant, role, permission)); has != (role == permission) {
					t.Errorf("role %q has %q: %v", role, permission, has)
				}
			}
		}
	})
}

// describe puts a role table into words, with names for ids.
func describe(specs []policy.RoleSpec) map[string]string {
	names := make(map[policy.RoleID]string)
	for _, s := range specs {
		names[s.ID] = s.Name
	}
	out := make(map[string]string)
	for _, s := range specs {
		parents := []string{}
		for _, id := range s.Parents {
			parents = append(parents, names[id])
		}
		permissions := slices.Clone(s.Permissions)
		slices.Sort(parents)
		slices.Sort(permissions)
		out[s.Name] = fmt.Sprint("parents ", parents, " permissions ", permissions)
	}
	return out
}
