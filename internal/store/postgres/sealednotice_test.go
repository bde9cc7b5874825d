package postgres

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Whoever listens on a sealed database hears of no user, permission, description or
// label, in no spelling, and no index that could be computed without the tenant's key.
func TestNotificationsOfASealedDatabaseNameNobody(t *testing.T) {
	cfg := Config{URL: migrated(t), Masters: newMasters(t)}
	st := openSealed(t, cfg)
	tenant := tenantID(t, st)
	rotateTest(t, st, store.RotateEnable)
	ear := connect(t, cfg.URL)
	if _, err := ear.Exec(t.Context(), sqlListen); err != nil {
		t.Fatal(err)
	}

	text, later := "zebra-description", time.Now().Add(time.Hour)
	ctx := t.Context()
	var last store.Revision
	made := func(r store.Result, err error) {
		t.Helper()
		if err != nil || r.Outcome != store.OutcomeDone {
			t.Fatalf("outcome %v, error %v", r.Outcome, err)
		}
		last = r.Revision
	}
	made(st.PutRole(ctx, by, tenant, "editor", &text))
	made(st.AddPermission(ctx, by, tenant, "editor", "zebra-permission"))
	for _, kind := range []policy.Kind{policy.KindUser, policy.KindClient, policy.KindWorkload} {
		made(st.AddMember(ctx, by, tenant, kind, "zebra-principal", "editor", time.Time{}))
		made(st.AddMember(ctx, by, tenant, kind, "zebra-principal", "editor", later))
	}
	key, r, err := st.CreateUserKey(ctx, by, store.NewUserKey{Tenant: tenant, User: "zebra-principal", Digest: store.Digest{1}, Prefix: "rak_12345678", Label: "zebra-label"})
	made(r, err)
	held, err := st.PrincipalIndex(ctx, tenant, currentKey(t, st, tenant), policy.KindUser, "zebra-principal")
	if err != nil {
		t.Fatal(err)
	}
	made(st.RevokeUserKey(ctx, by, tenant, "zebra-principal", key.ID))
	made(st.RemovePermission(ctx, by, tenant, "editor", "zebra-permission"))
	made(st.RemoveMember(ctx, by, tenant, policy.KindUser, "zebra-principal", "editor"))
	made(st.DeleteRole(ctx, by, tenant, "editor"))

	secrets := []string{"zebra", base64.StdEncoding.EncodeToString([]byte("zebra-principal"))[:16], hex.EncodeToString([]byte("zebra"))}
	for _, kind := range []policy.Kind{policy.KindUser, policy.KindClient, policy.KindWorkload} {
		plain := store.PlainIndex(tenant, kind, "zebra-principal")
		secrets = append(secrets, hex.EncodeToString(plain[:]))
	}
	var all strings.Builder
	for {
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		heard, err := ear.WaitForNotification(wait)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(heard.Payload), strings.ToLower(secret)) {
				t.Errorf("%s is in %s", secret, heard.Payload)
			}
		}
		all.WriteString(heard.Payload)
		var n notice
		if err := json.Unmarshal([]byte(heard.Payload), &n); err != nil {
			t.Fatalf("%s: %v", heard.Payload, err)
		}
		if n.Revision == last.Number {
			break
		}
	}
	if !strings.Contains(all.String(), hex.EncodeToString(held[:])) {
		t.Errorf("nobody heard of the principal's index under the tenant's key:\n%s", all.String())
	}
}

// currentKey is what the tenant's principals' indexes are computed under.
func currentKey(t *testing.T, st *Store, tenant store.TenantID) store.KeyID {
	t.Helper()
	tenants, err := st.Tenants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range tenants {
		if found.ID == tenant && found.Key != 0 {
			return found.Key
		}
	}
	t.Fatalf("tenant %d has no key", tenant)
	return 0
}
