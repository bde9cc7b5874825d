package admin_test

import (
	"regexp"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Listings say what the decision says: inherited permissions count, memberships
// that have run out do not, and clients are no users.
func TestListingsFollowTheDecision(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		ctx, by, tenant := t.Context(), store.Actor{Name: "cli"}, h.tenants[store.DefaultTenant]
		var last int64
		apply := func(r store.Result, err error) {
			t.Helper()
			must(t, err)
			last = r.Revision.Number
		}
		apply(h.store.PutRole(ctx, by, tenant, "viewer", nil))
		apply(h.store.PutRole(ctx, by, tenant, "editor", nil))
		apply(h.store.AddParent(ctx, by, tenant, "editor", "viewer"))
		apply(h.store.AddPermission(ctx, by, tenant, "viewer", "view"))
		apply(h.store.AddMember(ctx, by, tenant, policy.KindUser, "amy", "editor", time.Now().Add(time.Hour)))
		apply(h.store.AddMember(ctx, by, tenant, policy.KindUser, "late", "editor", time.Now().Add(-time.Minute)))
		apply(h.store.AddMember(ctx, by, tenant, policy.KindClient, "ci", "editor", time.Time{}))
		must(t, h.cache.CatchUp(ctx, last))
		for target, want := range map[string]string{
			"/api/role_permissions/editor":  `data [{"name": "view"}]`,
			"/api/user_permissions/amy":     `data {"count": 1, "permissions": [{"name": "view"}]}`,
			"/api/user_permissions/late":    `data {"count": 0, "permissions": []}`,
			"/api/user_permissions/ci":      `data {"count": 0, "permissions": []}`,
			"/api/has_permission/amy/view":  `data {"has_permission": true}`,
			"/api/has_permission/late/view": `data {"has_permission": false}`,
			"/api/user_roles/amy":           `{"result": [{"user": "amy", "role": "editor"}]}`,
			"/api/user_roles/late":          `{"result": []}`,
			"/api/members/editor":           `{"result": [{"user": "amy", "role": "editor"}]}`,
			"/api/members/viewer":           `{"result": []}`,
			"/api/which_roles_can/view":     `{"result": [{"role": "editor"}, {"role": "viewer"}]}`,
			"/api/which_users_can/view":     `{"result": [{"user": "amy", "role": "editor"}]}`,
			"/api/workflow/users/view":      `data {"count": 1, "members": [{"user": "amy", "role": "editor"}]}`,

			"/api/workflow/user/amy/can_run/view":  `data {"has_permission": true}`,
			"/api/workflow/user/late/can_run/view": `data {"has_permission": false}`,
		} {
			if err := h.ask("manager", "GET", target).match(200, want); err != nil {
				t.Errorf("%s: %v", target, err)
			}
		}
	})
}

var fingerprinted = regexp.MustCompile(`^\{"fingerprint":"fpr_[0-9a-f]{32}","reason":"unknown_key"\}$`)

// A presented user API key stands in the audit by its fingerprint, which differs
// from tenant to tenant, and never by its text.
func TestPresentedKeysAreAuditedByFingerprint(t *testing.T) {
	h := newHouse(t, options{auditChecks: true})
	const body = `{"api_key": "rak_0000000000000000000000000000000000000000000"}`
	seen := map[string]bool{}
	for _, caller := range []string{"manager", "stranger"} {
		h.askWith(caller, "POST", "/api/apikeys/validate", body)
		tenant := h.tenants[store.DefaultTenant]
		if caller == "stranger" {
			tenant = h.tenants["globex"]
		}
		entries, _, err := h.store.Audit(t.Context(), store.AuditQuery{Tenant: tenant, Actions: []store.Action{"VALIDATE_API_KEY"}, Limit: 10})
		must(t, err)
		if len(entries) != 1 || entries[0].Success || !fingerprinted.MatchString(entries[0].Details) {
			t.Fatalf("%s: %+v", caller, entries)
		}
		seen[entries[0].Details] = true
	}
	if len(seen) != 2 {
		t.Errorf("two tenants see the same fingerprint: %v", seen)
	}
}
