package postgres

import (
	"context"
	"reflect"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

func newMasters(t *testing.T) *sealing.Masters {
	t.Helper()
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	return masters
}

func openSealed(t *testing.T, cfg Config) *Store {
	t.Helper()
	st, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, st)
	return st
}

// rotateTest takes the database through a whole rotation.
func rotateTest(t *testing.T, st *Store, kind store.RotationKind) {
	t.Helper()
	if _, err := st.BeginRotation(t.Context(), by, kind); err != nil {
		t.Fatal(err)
	}
	tenants, err := st.RotationTenants(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range tenants {
		if _, err := st.BeginTenant(t.Context(), by, tenant); err != nil {
			t.Fatal(err)
		}
		finishTenant(t, st, tenant)
	}
	if _, err := st.FinishRotation(t.Context(), by); err != nil {
		t.Fatal(err)
	}
}

// finishTenant seals a begun tenant's rows anew, and takes its former key away.
func finishTenant(t *testing.T, st *Store, tenant store.TenantID) {
	t.Helper()
	if _, _, done, err := st.Reseal(t.Context(), tenant, store.ResealCursor{}, 1000, nil); err != nil || !done {
		t.Fatalf("reseal tenant %d: done %v, %v", tenant, done, err)
	}
	if _, err := st.FinishTenant(t.Context(), by, tenant); err != nil {
		t.Fatal(err)
	}
}

// sealedCall is one call of the contract on a store that has heard nothing yet.
type sealedCall struct {
	method string
	do     func(ctx context.Context, st *Store) error
}

func errOf[T any](_ T, err error) error { return err }

// sealedCalls are every call of the contract on tenant, in an order in which each
// has something to do. Wait holds a connection of its own, and Close none.
func sealedCalls(tenant store.TenantID) []sealedCall {
	const user = policy.KindUser
	text := "may edit"
	key := store.NewKey{Tenant: tenant, Name: "ci", Digest: store.Digest{1}, Prefix: "12345678", Scopes: []store.Scope{store.ScopeCheck}}
	registered := store.NewKey{Tenant: tenant, Name: "env", Digest: store.Digest{2}, Prefix: "12345678", Scopes: []store.Scope{store.ScopeCheck}}
	hers := store.NewUserKey{Tenant: tenant, User: "alice", Digest: store.Digest{3}, Prefix: "rak_12345678", Label: "laptop"}
	later := time.Now().Add(time.Hour)
	access := func(id string) store.AccessToken { return store.AccessToken{ID: id, Expires: later} }
	var tenantKey store.KeyID
	var denied int64
	return []sealedCall{
		{"CreateTenant", func(ctx context.Context, st *Store) error {
			_, _, err := st.CreateTenant(ctx, by, store.NewTenant{Name: "acme"})
			return err
		}},
		{"TenantByName", func(ctx context.Context, st *Store) error { return errOf(st.TenantByName(ctx, "acme")) }},
		{"AdmitTenant", func(ctx context.Context, st *Store) error {
			acme, err := st.TenantByName(ctx, "acme")
			if err != nil {
				return err
			}
			return errOf(st.AdmitTenant(ctx, by, acme.ID))
		}},
		{"RenameTenant", func(ctx context.Context, st *Store) error {
			acme, err := st.TenantByName(ctx, "acme")
			if err != nil {
				return err
			}
			return errOf(st.RenameTenant(ctx, by, acme.ID, "globex"))
		}},
		{"Tenants", func(ctx context.Context, st *Store) error {
			all, err := st.Tenants(ctx)
			for _, t := range all {
				if t.ID == tenant {
					tenantKey = t.Key
				}
			}
			return err
		}},
		{"PrincipalIndex", func(ctx context.Context, st *Store) error {
			return errOf(st.PrincipalIndex(ctx, tenant, tenantKey, user, "alice"))
		}},
		{"PutRole", func(ctx context.Context, st *Store) error { return errOf(st.PutRole(ctx, by, tenant, "editor", &text)) }},
		{"PutRole", func(ctx context.Context, st *Store) error { return errOf(st.PutRole(ctx, by, tenant, "owner", nil)) }},
		{"AddParent", func(ctx context.Context, st *Store) error {
			return errOf(st.AddParent(ctx, by, tenant, "owner", "editor"))
		}},
		{"AddPermission", func(ctx context.Context, st *Store) error {
			return errOf(st.AddPermission(ctx, by, tenant, "editor", "write"))
		}},
		{"AddMember", func(ctx context.Context, st *Store) error {
			return errOf(st.AddMember(ctx, by, tenant, user, "alice", "editor", time.Time{}))
		}},
		{"CreateKey", func(ctx context.Context, st *Store) error {
			_, _, err := st.CreateKey(ctx, by, key)
			return err
		}},
		{"RegisterKey", func(ctx context.Context, st *Store) error { return errOf(st.RegisterKey(ctx, by, registered, 0)) }},
		{"CreateUserKey", func(ctx context.Context, st *Store) error {
			_, _, err := st.CreateUserKey(ctx, by, hers)
			return err
		}},
		{"SetStrictUsers", func(ctx context.Context, st *Store) error { return errOf(st.SetStrictUsers(ctx, by, tenant, true)) }},
		{"RecordAudit", func(ctx context.Context, st *Store) error {
			return st.RecordAudit(ctx, []store.AuditEntry{{Tenant: tenant, Actor: "cli", User: "alice", Action: store.ActionGetAudit}, {Actor: "unknown", Action: store.ActionAuthFailed}})
		}},
		{"Report", func(ctx context.Context, st *Store) error {
			return st.Report(ctx, []store.Report{{Sidecar: "s", Kind: store.ReportApplied, At: st.now(), Applied: 1, Staleness: time.Second}})
		}},
		{"FoldReports", func(ctx context.Context, st *Store) error { return st.FoldReports(ctx) }},
		{"Sidecars", func(ctx context.Context, st *Store) error { return errOf(st.Sidecars(ctx)) }},
		{"Head", func(ctx context.Context, st *Store) error { return errOf(st.Head(ctx)) }},
		{"Bootstrap", func(ctx context.Context, st *Store) error {
			return errOf(st.Bootstrap(ctx, func(store.Digest) error { return nil }))
		}},
		{"Delta", func(ctx context.Context, st *Store) error {
			head, err := st.Head(ctx)
			if err != nil {
				return err
			}
			return errOf(st.Delta(ctx, head.Revision, []store.TenantID{tenant}))
		}},
		{"Roles", func(ctx context.Context, st *Store) error { return errOf(st.Roles(ctx, tenant)) }},
		{"Grant", func(ctx context.Context, st *Store) error { return errOf(st.Grant(ctx, tenant, user, "alice")) }},
		{"Key", func(ctx context.Context, st *Store) error { return errOf(st.Key(ctx, key.Digest)) }},
		{"UserKey", func(ctx context.Context, st *Store) error { return errOf(st.UserKey(ctx, hers.Digest)) }},
		{"RoleList", func(ctx context.Context, st *Store) error { return errOf(st.RoleList(ctx, tenant)) }},
		{"PermissionList", func(ctx context.Context, st *Store) error { return errOf(st.PermissionList(ctx, tenant, "editor")) }},
		{"MemberList", func(ctx context.Context, st *Store) error { return errOf(st.MemberList(ctx, tenant, "editor")) }},
		{"HasRole", func(ctx context.Context, st *Store) error {
			return errOf(st.HasRole(ctx, tenant, user, "alice", "editor", st.now()))
		}},
		{"HasPermission", func(ctx context.Context, st *Store) error {
			return errOf(st.HasPermission(ctx, tenant, "editor", "write"))
		}},
		{"KeyList", func(ctx context.Context, st *Store) error { return errOf(st.KeyList(ctx, tenant)) }},
		{"UserKeyList", func(ctx context.Context, st *Store) error { return errOf(st.UserKeyList(ctx, tenant, "alice")) }},
		{"Audit", func(ctx context.Context, st *Store) error {
			_, _, err := st.Audit(ctx, store.AuditQuery{Tenant: tenant, Limit: 500})
			return err
		}},
		{"Deny", func(ctx context.Context, st *Store) error {
			_, _, err := st.Deny(ctx, by, store.NewDenial{
				Kind: store.DenySubject, Tenant: tenant, Value: "alice", Principal: user, Before: st.now(), Expires: later,
			})
			return err
		}},
		{"DenialList", func(ctx context.Context, st *Store) error {
			all, err := st.DenialList(ctx, tenant, 0, 10)
			if err == nil {
				denied = all[0].ID
			}
			return err
		}},
		{"Allow", func(ctx context.Context, st *Store) error { return errOf(st.Allow(ctx, by, tenant, denied)) }},
		{"PruneDenials", func(ctx context.Context, st *Store) error { return st.PruneDenials(ctx) }},
		{"PublishSigningKey", func(ctx context.Context, st *Store) error {
			return errOf(st.PublishSigningKey(ctx, by, store.SigningKey{KeyID: "k", Algorithm: "EdDSA", JWK: `{"kty":"OKP"}`}))
		}},
		{"SignWith", func(ctx context.Context, st *Store) error { return errOf(st.SignWith(ctx, by, "k", later)) }},
		{"SigningKeyList", func(ctx context.Context, st *Store) error { return errOf(st.SigningKeyList(ctx)) }},
		{"PruneSigningKeys", func(ctx context.Context, st *Store) error { return st.PruneSigningKeys(ctx, by) }},
		{"WithdrawSigningKey", func(ctx context.Context, st *Store) error { return errOf(st.WithdrawSigningKey(ctx, by, "k")) }},
		{"StartFamily", func(ctx context.Context, st *Store) error {
			family := store.RefreshFamily{Family: [16]byte{1}, Tenant: tenant, Client: "ci", User: "alice", Expires: later}
			return errOf(st.StartFamily(ctx, by, family, store.Digest{5}, access("a")))
		}},
		{"UseRefresh", func(ctx context.Context, st *Store) error {
			_, _, err := st.UseRefresh(ctx, by, tenant, "ci", store.Digest{5}, store.Digest{6}, access("b"))
			return err
		}},
		{"Refresh", func(ctx context.Context, st *Store) error { return errOf(st.Refresh(ctx, store.Digest{6})) }},
		{"RevokeRefresh", func(ctx context.Context, st *Store) error {
			return errOf(st.RevokeRefresh(ctx, by, tenant, "ci", store.Digest{6}))
		}},
		{"PruneRefresh", func(ctx context.Context, st *Store) error { return st.PruneRefresh(ctx) }},
		{"RotateKey", func(ctx context.Context, st *Store) error {
			next := key
			next.Digest = store.Digest{7}
			_, _, err := st.RotateKey(ctx, by, store.KeyRotation{
				Tenant: tenant, Name: "ci", Presented: key.Digest, New: next, ReplayID: store.Digest{8}, Reply: "sealed", ReplayUntil: later,
			})
			return err
		}},
		{"Replay", func(ctx context.Context, st *Store) error {
			_, _, err := st.Replay(ctx, store.Digest{8})
			return err
		}},
		{"PruneReplays", func(ctx context.Context, st *Store) error { return st.PruneReplays(ctx) }},
		{"OpenTenant", func(ctx context.Context, st *Store) error {
			_, _, err := st.OpenTenant(ctx, by, store.NewTenant{Name: "opened"}, store.NewKey{Name: "first", Digest: store.Digest{9}, Prefix: "12345678"})
			return err
		}},
		{"Import", func(ctx context.Context, st *Store) error {
			_, _, err := st.Import(ctx, by, "source", store.ImportBatch{
				Tenants:  []store.ImportTenant{{Tenant: store.NewTenant{Name: "imported"}, Key: store.NewKey{Name: "first", Digest: store.Digest{10}, Prefix: "12345678"}}},
				Members:  []store.ImportMember{{Tenant: tenant, User: "carol", Role: "editor"}},
				UserKeys: []store.ImportUserKey{{NewUserKey: store.NewUserKey{Tenant: tenant, User: "carol", Digest: store.Digest{11}, Prefix: "rak_12345678"}}},
				Audit:    []store.AuditEntry{{Tenant: tenant, Actor: "cli", User: "carol", Action: store.ActionGetAudit, Time: st.now()}},
			}, "cursor", true)
			return err
		}},
		{"ImportCursor", func(ctx context.Context, st *Store) error {
			_, _, err := st.ImportCursor(ctx, "source")
			return err
		}},
		{"StartChain", func(ctx context.Context, st *Store) error { return errOf(st.StartChain(ctx, by)) }},
		{"RewrapChain", func(ctx context.Context, st *Store) error { return errOf(st.RewrapChain(ctx, by)) }},
		{"SetAudit", func(ctx context.Context, st *Store) error { return errOf(st.SetAudit(ctx, by, false)) }},
		{"SetAudit", func(ctx context.Context, st *Store) error { return errOf(st.SetAudit(ctx, by, true)) }},
		{"AuditState", func(ctx context.Context, st *Store) error { return errOf(st.AuditState(ctx)) }},
		{"ChainKey", func(ctx context.Context, st *Store) error { return errOf(st.ChainKey(ctx)) }},
		{"AuditTenants", func(ctx context.Context, st *Store) error { return errOf(st.AuditTenants(ctx)) }},
		{"ChainHead", func(ctx context.Context, st *Store) error { return errOf(st.ChainHead(ctx, tenant)) }},
		{"ChainHeads", func(ctx context.Context, st *Store) error { return errOf(st.ChainHeads(ctx)) }},
		{"ChainAnchor", func(ctx context.Context, st *Store) error {
			_, _, err := st.ChainAnchor(ctx, tenant)
			return err
		}},
		{"WalkAudit", func(ctx context.Context, st *Store) error { return errOf(st.WalkAudit(ctx, tenant, 0, 1000)) }},
		{"RecordAudit", func(ctx context.Context, st *Store) error { // in chains, of which one is new
			return st.RecordAudit(ctx, []store.AuditEntry{{Tenant: tenant, Actor: "cli", User: "alice", Action: store.ActionGetAudit}, {Tenant: 99, Action: store.ActionAuthFailed}})
		}},
		{"PruneAudit", func(ctx context.Context, st *Store) error {
			_, _, err := st.PruneAudit(ctx, by, tenant, st.now())
			return err
		}},
		{"RevokeUserKey", func(ctx context.Context, st *Store) error {
			keys, err := st.UserKeyList(ctx, tenant, "alice")
			if err != nil {
				return err
			}
			return errOf(st.RevokeUserKey(ctx, by, tenant, "alice", keys[0].ID))
		}},
		{"RevokeKeys", func(ctx context.Context, st *Store) error {
			_, _, err := st.RevokeKeys(ctx, by, tenant, "ci")
			return err
		}},
		{"RemoveMember", func(ctx context.Context, st *Store) error {
			return errOf(st.RemoveMember(ctx, by, tenant, user, "alice", "editor"))
		}},
		{"RemovePermission", func(ctx context.Context, st *Store) error {
			return errOf(st.RemovePermission(ctx, by, tenant, "editor", "write"))
		}},
		{"RemoveParent", func(ctx context.Context, st *Store) error {
			return errOf(st.RemoveParent(ctx, by, tenant, "owner", "editor"))
		}},
		{"DeleteRole", func(ctx context.Context, st *Store) error { return errOf(st.DeleteRole(ctx, by, tenant, "editor")) }},
		{"PruneChanges", func(ctx context.Context, st *Store) error { return st.PruneChanges(ctx, 1) }},
		{"Encryption", func(ctx context.Context, st *Store) error { return errOf(st.Encryption(ctx)) }},
		{"SealCounts", func(ctx context.Context, st *Store) error { return errOf(st.SealCounts(ctx, store.RotateDeep)) }},
		{"Rewrap", func(ctx context.Context, st *Store) error {
			_, _, err := st.Rewrap(ctx, by)
			return err
		}},
		{"Reseal", func(ctx context.Context, st *Store) error {
			_, _, _, err := st.Reseal(ctx, tenant, store.ResealCursor{}, 1000, nil)
			return err
		}},
		{"FinishTenant", func(ctx context.Context, st *Store) error { return errOf(st.FinishTenant(ctx, by, tenant)) }},
		{"RotationTenants", func(ctx context.Context, st *Store) error { return errOf(st.RotationTenants(ctx, 10)) }},
		{"BeginTenant", func(ctx context.Context, st *Store) error { return errOf(st.BeginTenant(ctx, by, 0)) }},
		{"FinishRotation", func(ctx context.Context, st *Store) error {
			if _, _, _, err := st.Reseal(ctx, 0, store.ResealCursor{}, 1000, nil); err != nil {
				return err
			}
			if _, err := st.FinishTenant(ctx, by, 0); err != nil {
				return err
			}
			return errOf(st.FinishRotation(ctx, by))
		}},
		{"BeginRotation", func(ctx context.Context, st *Store) error {
			return errOf(st.BeginRotation(ctx, by, store.RotateDisable))
		}},
	}
}

// A call needs one connection at a time, in the middle of a rotation too, where it
// has both of the tenant's keys to load: a pool of one is enough, and a busy pool whose
// every connection waits for a second one cannot come about.
func TestAPoolOfOneConnectionIsEnough(t *testing.T) {
	cfg := Config{URL: migrated(t), Masters: newMasters(t)}
	st := openSealed(t, cfg)
	cfg.MaxConns = 1
	tenant := tenantID(t, st)
	rotateTest(t, st, store.RotateEnable)
	if _, err := st.AddMember(t.Context(), by, tenant, policy.KindUser, "bob", "viewer", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.BeginRotation(t.Context(), by, store.RotateDeep); err != nil {
		t.Fatal(err)
	}
	if _, err := st.BeginTenant(t.Context(), by, tenant); err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{"Wait": true, "Close": true}
	for _, call := range sealedCalls(tenant) {
		called[call.method] = true
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := call.do(ctx, openSealed(t, cfg))
		cancel()
		if err != nil { // the calls after it need what it was to do
			t.Fatalf("%s: %v", call.method, err)
		}
	}
	contract := reflect.TypeFor[store.Store]()
	for i := range contract.NumMethod() {
		if name := contract.Method(i).Name; !called[name] {
			t.Errorf("%s is not called", name)
		}
	}
}
