package admin_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"portcullis/internal/identity"
)

func TestAnyKeyOpensATenant(t *testing.T) {
	h := newHouse(t, options{openTenancy: true})
	before, err := h.store.Tenants(t.Context())
	must(t, err)
	key := identity.NewClientKey()
	bearer := "Authorization: Bearer " + strings.ToUpper(string(key[:]))
	var wait sync.WaitGroup
	for range 8 { // first uses at once
		wait.Go(func() {
			if got := h.send("POST /api/role/editor HTTP/1.1", []string{bearer}, ""); got.status != 200 {
				t.Errorf("first use: %d %s", got.status, got.body)
			}
		})
	}
	wait.Wait()
	after, err := h.store.Tenants(t.Context())
	must(t, err)
	if len(after) != len(before)+1 {
		t.Fatalf("%d tenants became %d", len(before), len(after))
	}
	for _, tenant := range after {
		if !strings.HasPrefix(tenant.Name, "t-") {
			continue
		}
		if !regexp.MustCompile(`^t-[0-9a-f]{16}$`).MatchString(tenant.Name) || strings.Contains(string(key[:]), tenant.Name[2:10]) || tenant.Admitted {
			t.Errorf("the tenant is %+v", tenant)
		}
		keys, err := h.store.KeyList(t.Context(), tenant.ID)
		must(t, err)
		if len(keys) != 1 || len(keys[0].Scopes) != 4 {
			t.Errorf("its keys are %+v", keys)
		}
	}
	if got := h.send("POST /api/deny/token HTTP/1.1", []string{bearer}, `{"jti":"x"}`); got.status != 403 {
		t.Errorf("a scope that open tenancy does not give: %d", got.status)
	}
}

// What is no UUID4, was revoked, or expired opens no tenant.
func TestOpenTenancyRefuses(t *testing.T) {
	h := newHouse(t, options{openTenancy: true})
	before, err := h.store.Tenants(t.Context())
	must(t, err)
	for _, key := range []string{"3f2504e0-4f89-11d3-9a0c-0305e82c3301", "00000000-0000-0000-0000-000000000000", "3f2504e0-4f89-41d3-1a0c-0305e82c3301"} {
		if got := h.send("GET /api/roles HTTP/1.1", []string{"Authorization: Bearer " + key}, ""); got.status != 400 {
			t.Errorf("%s: %d %s", key, got.status, got.body)
		}
	}
	for _, caller := range []string{"revoked", "expired"} {
		if got := h.ask(caller, "GET", "/api/roles"); got.status != 401 {
			t.Errorf("%s: %d %s", caller, got.status, got.body)
		}
	}
	if got, _ := h.post("/oauth/token", refreshForm("x"), h.as("unknown")); got.status != 401 {
		t.Errorf("OAuth opened a tenant: %d", got.status)
	}
	after, err := h.store.Tenants(t.Context())
	must(t, err)
	if len(after) != len(before) {
		t.Errorf("%d tenants became %d", len(before), len(after))
	}
}

// A key that was rotated away gets the reply of its rotation, and no new tenant.
func TestARotatedKeyOpensNoTenant(t *testing.T) {
	h := newHouse(t, options{openTenancy: true})
	old := h.keys["manager"]
	_, next := h.rotate(old, "")
	if got, again := h.rotate(old, ""); got.status != 200 || again != next {
		t.Errorf("a retry: %d %s", got.status, got.body)
	}
	if h.opens(old) {
		t.Error("the old key opens")
	}
	tenants, err := h.store.Tenants(t.Context())
	must(t, err)
	for _, tenant := range tenants {
		if strings.HasPrefix(tenant.Name, "t-") {
			t.Errorf("tenant %s was opened", tenant.Name)
		}
	}
}
