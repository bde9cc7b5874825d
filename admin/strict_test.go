package admin_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// What the API says of users in a tenant with strict users, before and after they
// have an API key. The gate's decision is the same one.
func TestStrictUsers(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		ctx, by, tenant := context.Background(), store.Actor{Name: "cli"}, h.tenants[store.DefaultTenant]
		apply := func(r store.Result, err error) {
			t.Helper()
			must(t, err)
			eventually(t, "the cache has applied it", func() bool { return h.cache.Applied() >= r.Revision.Number })
		}
		newKey := func(tenant store.TenantID, expires time.Time) store.UserKey {
			t.Helper()
			text := identity.NewUserKey()
			key, r, err := h.store.CreateUserKey(ctx, by, store.NewUserKey{Tenant: tenant, User: "amy", Digest: identity.UserKeyDigest(text[:]), Expires: expires})
			apply(r, err)
			return key
		}
		says := func(method, path string, status int, want string) {
			t.Helper()
			a := h.ask("manager", method, path)
			var got struct {
				Data   json.RawMessage `json:"data"`
				Result json.RawMessage `json:"result"`
			}
			must(t, json.Unmarshal([]byte(a.body), &got))
			text := string(got.Data)
			if text == "" {
				text = string(got.Result)
			}
			if a.status != status || text != want {
				t.Errorf("%s %s: %d %s, want %d with %s", method, path, a.status, a.body, status, want)
			}
		}
		const (
			yes, no   = `{"has_permission":true}`, `{"has_permission":false}`
			notBacked = `{"has_permission":false,"reason":"user_not_key_backed"}`
		)
		apply(h.store.PutRole(ctx, by, tenant, "editor", nil))
		apply(h.store.AddPermission(ctx, by, tenant, "editor", "edit"))
		apply(h.store.AddMember(ctx, by, tenant, policy.KindUser, "amy", "editor", time.Time{}))
		says("GET", "/api/has_permission/amy/edit", 200, yes)

		apply(h.store.SetStrictUsers(ctx, by, tenant, true))
		says("GET", "/api/has_permission/amy/edit", 200, notBacked)
		says("GET", "/api/has_permission/amy/other", 200, notBacked)
		says("GET", "/api/membership/amy/editor", 200, notBacked)
		says("GET", "/api/permission/editor/edit", 200, "true") // of a role: nobody's keys matter
		before := h.revision()
		for _, role := range []string{"editor", "missing"} {
			a := h.ask("manager", "POST", "/api/membership/amy/"+role)
			var body map[string]any
			must(t, json.Unmarshal([]byte(a.body), &body))
			if a.status != 409 || len(body) != 3 || body["result"] != false || body["reason"] != "user_not_key_backed" || body["hint"] == "" {
				t.Errorf("a membership in %s: %d %s", role, a.status, a.body)
			}
			if got := a.header.Get("X-Auth-Revision"); got != "" {
				t.Errorf("a refusal names revision %s", got)
			}
		}
		if h.revision() != before {
			t.Error("a refusal took a revision")
		}

		newKey(h.tenants["globex"], time.Time{})
		newKey(tenant, time.Now().Add(-time.Minute))
		says("GET", "/api/has_permission/amy/edit", 200, notBacked)
		key := newKey(tenant, time.Time{})
		says("GET", "/api/has_permission/amy/edit", 200, yes)
		says("GET", "/api/has_permission/amy/other", 200, no)
		says("GET", "/api/membership/amy/editor", 200, yes)
		says("POST", "/api/membership/amy/editor", 200, "true")
		says("POST", "/api/membership/amy/missing", 200, "false")
		apply(h.store.RevokeUserKey(ctx, by, tenant, "amy", key.ID))
		says("GET", "/api/has_permission/amy/edit", 200, notBacked)
		says("DELETE", "/api/membership/amy/editor", 200, "true") // never gated
	})
}

// A user API key opens nothing of the admin API.
func TestUserKeyIsNoClientKey(t *testing.T) {
	h := newHouse(t, options{})
	text := identity.NewUserKey()
	_, r, err := h.store.CreateUserKey(context.Background(), store.Actor{Name: "cli"},
		store.NewUserKey{Tenant: h.tenants[store.DefaultTenant], User: "amy", Digest: identity.UserKeyDigest(text[:])})
	must(t, err)
	eventually(t, "the cache has applied it", func() bool { return h.cache.Applied() >= r.Revision.Number })
	h.keys["amy"] = string(text[:])
	if a := h.ask("amy", "GET", "/api/roles"); a.status != 400 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
