package admin_test

import (
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// A membership that runs out while this process holds it stops granting at that
// moment, without any write.
func TestAMembershipEndsAtItsExpiry(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		h.ask("manager", "POST", "/api/role/editor")
		h.ask("manager", "POST", "/api/permission/editor/edit")
		expires := time.Now().Add(1500 * time.Millisecond)
		h.addMember(policy.KindUser, "alice", "editor", expires)
		h.wantHolds("alice", "true")
		time.Sleep(time.Until(expires) + time.Millisecond)
		h.wantHolds("alice", "false")
	})
}

// A client or a workload that is named like a user is not that user.
func TestOnlyUsersAreMeant(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		h.ask("manager", "POST", "/api/role/editor")
		h.ask("manager", "POST", "/api/permission/editor/edit")
		h.addMember(policy.KindClient, "manager", "editor", time.Time{})
		h.addMember(policy.KindWorkload, "manager", "editor", time.Time{})
		h.wantHolds("manager", "false")

		h.ask("manager", "POST", "/api/membership/manager/editor")
		h.wantHolds("manager", "true")
		h.ask("manager", "DELETE", "/api/membership/manager/editor")
		h.wantHolds("manager", "false")
		for _, kind := range []policy.Kind{policy.KindClient, policy.KindWorkload} {
			if in, err := h.store.HasRole(t.Context(), h.tenants[store.DefaultTenant], kind, "manager", "editor", time.Now()); err != nil || !in {
				t.Errorf("the %s lost its membership with the user: %v", kind, err)
			}
		}
	})
}

// A role that inherits: the permission comes along, the membership does not.
func TestInheritedPermissions(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		for _, target := range []string{"/api/role/viewer", "/api/role/editor", "/api/permission/viewer/view", "/api/membership/alice/editor"} {
			h.ask("manager", "POST", target)
		}
		result, err := h.store.AddParent(t.Context(), store.Actor{Name: "cli"}, h.tenants[store.DefaultTenant], "editor", "viewer")
		must(t, err)
		must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
		for target, want := range map[string]string{
			"/api/has_permission/alice/view": `"has_permission":true`,
			"/api/permission/editor/view":    `"result":true`,
			"/api/membership/alice/editor":   `"has_permission":true`,
			"/api/membership/alice/viewer":   `"has_permission":false`,
		} {
			if got := h.ask("manager", "GET", target); got.status != 200 || !strings.Contains(got.body, want) {
				t.Errorf("%s: %d %s: want %s", target, got.status, got.body, want)
			}
		}
	})
}

func (h *house) addMember(kind policy.Kind, id, role string, expires time.Time) {
	h.t.Helper()
	result, err := h.store.AddMember(h.t.Context(), store.Actor{Name: "cli"}, h.tenants[store.DefaultTenant], kind, id, role, expires)
	must(h.t, err)
	must(h.t, h.cache.CatchUp(h.t.Context(), result.Revision.Number))
}

// wantHolds asks both about the permission edit and about the role editor.
func (h *house) wantHolds(user, want string) {
	h.t.Helper()
	for _, target := range []string{"/api/has_permission/" + user + "/edit", "/api/membership/" + user + "/editor"} {
		if got := h.ask("manager", "GET", target); got.status != 200 || !strings.Contains(got.body, `"has_permission":`+want) {
			h.t.Errorf("%s: %d %s: want %s", target, got.status, got.body, want)
		}
	}
}
