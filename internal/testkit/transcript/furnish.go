package transcript

import (
	"context"
	"fmt"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// callers are whom the transcripts know. The tenant "default" is the one under test;
// "globex" is another one, whose key lacks nothing in it.
var callers = []struct {
	name, tenant string
	scopes       []store.Scope
}{
	{"manager", store.DefaultTenant, store.DefaultScopes()},
	{"check", store.DefaultTenant, []store.Scope{store.ScopeCheck}},
	{"manage", store.DefaultTenant, []store.Scope{store.ScopeManage}},
	{"keys", store.DefaultTenant, []store.Scope{store.ScopeKeys}},
	{"tokens", store.DefaultTenant, []store.Scope{store.ScopeTokens}},
	{"audit", store.DefaultTenant, []store.Scope{store.ScopeAudit}},
	{"operator", store.DefaultTenant, []store.Scope{store.ScopeOperator}},
	{"scopeless", store.DefaultTenant, nil},
	{"stranger", "globex", store.DefaultScopes()},
	{"unadmitted", "umbra", store.DefaultScopes()},
	{"revoked", store.DefaultTenant, store.DefaultScopes()},
	{"expired", store.DefaultTenant, store.DefaultScopes()},
	{"unknown", "", nil}, // a well-formed key that nobody registered
}

// Furnish makes the callers of the transcripts in a store that has been migrated
// and has nothing else: their keys, and their tenants.
func Furnish(ctx context.Context, st store.Store) (keys map[string]string, tenants map[string]store.TenantID, err error) {
	by := store.Actor{Name: "cli"}
	keys, tenants = map[string]string{}, map[string]store.TenantID{}
	for name, admitted := range map[string]bool{"globex": true, "umbra": false} {
		tenant, _, err := st.CreateTenant(ctx, by, store.NewTenant{Name: name, Admitted: admitted})
		if err != nil {
			return nil, nil, err
		}
		tenants[name] = tenant.ID
	}
	tenant, err := st.TenantByName(ctx, store.DefaultTenant)
	if err != nil {
		return nil, nil, err
	}
	tenants[store.DefaultTenant] = tenant.ID
	for _, c := range callers {
		secret := identity.NewClientKey()
		keys[c.name] = string(secret[:])
		if c.tenant == "" {
			continue
		}
		key := store.NewKey{Tenant: tenants[c.tenant], Name: c.name, Digest: identity.KeyDigest(secret), Prefix: string(secret[:8]), Scopes: c.scopes}
		if c.name == "expired" {
			key.Expires = time.Now().Add(-time.Minute)
		}
		if _, _, err := st.CreateKey(ctx, by, key); err != nil {
			return nil, nil, fmt.Errorf("key of %s: %w", c.name, err)
		}
	}
	_, _, err = st.RevokeKeys(ctx, by, tenant.ID, "revoked")
	return keys, tenants, err
}
