package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// testCancel: a call whose context ends is done whole or not at all, and says
// which.
func testCancel(t *testing.T, h Harness) {
	t.Run("a context that has ended does nothing", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor")
		before, rows := k.head(), k.allAudit(0)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for name, call := range everyCall(k) {
			if err := call(ctx); err == nil {
				t.Errorf("%s: no error", name)
			} else {
				k.wantErr(err, context.Canceled)
			}
		}
		if k.head() != before || k.allAudit(0) != rows {
			t.Errorf("head %v and audit %v, were %v and %v", k.head(), k.allAudit(0), before, rows)
		}
	})

	t.Run("a write is whole or nothing, and its error says which", testCancelWrites(h))
}

// everyCall is each call of the contract but Close.
func everyCall(k *kit) map[string]func(context.Context) error {
	const user = policy.KindUser
	key := keyOf(k.tenant, "ci", "canceled")
	e := func(_ any, err error) error { return err }
	return map[string]func(context.Context) error{
		"Head":      func(ctx context.Context) error { return e(k.Head(ctx)) },
		"Bootstrap": func(ctx context.Context) error { return e(k.Bootstrap(ctx, func(store.Digest) error { return nil })) },
		"Delta":     func(ctx context.Context) error { return e(k.Delta(ctx, store.Revision{}, nil)) },
		"Roles":     func(ctx context.Context) error { return e(k.Roles(ctx, k.tenant)) },
		"Grant":     func(ctx context.Context) error { return e(k.Grant(ctx, k.tenant, policy.KindUser, "alice")) },
		"Key":       func(ctx context.Context) error { return e(k.Key(ctx, key.Digest)) },
		"Report": func(ctx context.Context) error {
			return k.Report(ctx, []store.Report{{Sidecar: "a", Kind: store.ReportHeartbeat, At: time.Now()}})
		},
		"Wait": k.Wait,
		"CreateTenant": func(ctx context.Context) error {
			_, _, err := k.CreateTenant(ctx, k.by, store.NewTenant{Name: "acme", Admitted: true})
			return err
		},
		"RenameTenant":     func(ctx context.Context) error { return e(k.RenameTenant(ctx, k.by, k.tenant, "default")) },
		"AdmitTenant":      func(ctx context.Context) error { return e(k.AdmitTenant(ctx, k.by, k.tenant)) },
		"TenantByName":     func(ctx context.Context) error { return e(k.TenantByName(ctx, "default")) },
		"Tenants":          func(ctx context.Context) error { return e(k.Tenants(ctx)) },
		"PutRole":          func(ctx context.Context) error { return e(k.PutRole(ctx, k.by, k.tenant, "a", nil)) },
		"DeleteRole":       func(ctx context.Context) error { return e(k.DeleteRole(ctx, k.by, k.tenant, "a")) },
		"AddParent":        func(ctx context.Context) error { return e(k.AddParent(ctx, k.by, k.tenant, "a", "b")) },
		"RemoveParent":     func(ctx context.Context) error { return e(k.RemoveParent(ctx, k.by, k.tenant, "a", "b")) },
		"AddPermission":    func(ctx context.Context) error { return e(k.AddPermission(ctx, k.by, k.tenant, "a", "p")) },
		"RemovePermission": func(ctx context.Context) error { return e(k.RemovePermission(ctx, k.by, k.tenant, "a", "p")) },
		"AddMember": func(ctx context.Context) error {
			return e(k.AddMember(ctx, k.by, k.tenant, user, "alice", "a", time.Time{}))
		},
		"RemoveMember":   func(ctx context.Context) error { return e(k.RemoveMember(ctx, k.by, k.tenant, user, "alice", "a")) },
		"RoleList":       func(ctx context.Context) error { return e(k.RoleList(ctx, k.tenant)) },
		"PermissionList": func(ctx context.Context) error { return e(k.PermissionList(ctx, k.tenant, "a")) },
		"MemberList":     func(ctx context.Context) error { return e(k.MemberList(ctx, k.tenant, "a")) },
		"HasRole": func(ctx context.Context) error {
			return e(k.HasRole(ctx, k.tenant, user, "alice", "a", time.Now()))
		},
		"HasPermission": func(ctx context.Context) error { return e(k.HasPermission(ctx, k.tenant, "a", "p")) },
		"CreateKey": func(ctx context.Context) error {
			_, _, err := k.CreateKey(ctx, k.by, key)
			return err
		},
		"RevokeKeys": func(ctx context.Context) error {
			_, _, err := k.RevokeKeys(ctx, k.by, k.tenant, "ci")
			return err
		},
		"RegisterKey": func(ctx context.Context) error { return e(k.RegisterKey(ctx, k.by, key, 0)) },
		"KeyList":     func(ctx context.Context) error { return e(k.KeyList(ctx, k.tenant)) },
		"RecordAudit": func(ctx context.Context) error {
			return k.RecordAudit(ctx, []store.AuditEntry{{Tenant: k.tenant, Actor: "a", Action: store.ActionGetAudit}})
		},
		"Audit": func(ctx context.Context) error {
			_, _, err := k.Audit(ctx, store.AuditQuery{Tenant: k.tenant, Limit: 1})
			return err
		},
		"UserKey": func(ctx context.Context) error { return e(k.UserKey(ctx, key.Digest)) },
		"CreateUserKey": func(ctx context.Context) error {
			_, _, err := k.CreateUserKey(ctx, k.by, userKeyOf(k.tenant, "alice", "canceled"))
			return err
		},
		"RevokeUserKey":   func(ctx context.Context) error { return e(k.RevokeUserKey(ctx, k.by, k.tenant, "alice", "none")) },
		"UserKeyList":     func(ctx context.Context) error { return e(k.UserKeyList(ctx, k.tenant, "alice")) },
		"SetStrictUsers":  func(ctx context.Context) error { return e(k.SetStrictUsers(ctx, k.by, k.tenant, true)) },
		"Encryption":      func(ctx context.Context) error { return e(k.Encryption(ctx)) },
		"RotationTenants": func(ctx context.Context) error { return e(k.RotationTenants(ctx, 10)) },
		"SealCounts":      func(ctx context.Context) error { return e(k.SealCounts(ctx, store.RotateDeep)) },
		"BeginTenant":     func(ctx context.Context) error { return e(k.BeginTenant(ctx, k.by, k.tenant)) },
		"FinishTenant":    func(ctx context.Context) error { return e(k.FinishTenant(ctx, k.by, k.tenant)) },
		"FinishRotation":  func(ctx context.Context) error { return e(k.FinishRotation(ctx, k.by)) },
		"Reseal": func(ctx context.Context) error {
			_, _, _, err := k.Reseal(ctx, k.tenant, store.ResealCursor{}, 10, nil)
			return err
		},
		"Deny": func(ctx context.Context) error {
			_, _, err := k.Deny(ctx, k.by, denyToken(k.tenant, "jti", expiry))
			return err
		},
		"Allow":              func(ctx context.Context) error { return e(k.Allow(ctx, k.by, k.tenant, 1)) },
		"DenialList":         func(ctx context.Context) error { return e(k.DenialList(ctx, k.tenant, 0, 10)) },
		"PruneDenials":       k.PruneDenials,
		"PublishSigningKey":  func(ctx context.Context) error { return e(k.PublishSigningKey(ctx, k.by, signerOf("a"))) },
		"SignWith":           func(ctx context.Context) error { return e(k.SignWith(ctx, k.by, "a", expiry)) },
		"WithdrawSigningKey": func(ctx context.Context) error { return e(k.WithdrawSigningKey(ctx, k.by, "a")) },
		"SigningKeyList":     func(ctx context.Context) error { return e(k.SigningKeyList(ctx)) },
		"PruneSigningKeys":   func(ctx context.Context) error { return k.PruneSigningKeys(ctx, k.by) },
		"StartFamily": func(ctx context.Context) error {
			return e(k.StartFamily(ctx, k.by, familyOf(k.tenant, 1, expiry), digestOf("one"), accessOf("a", expiry)))
		},
		"UseRefresh": func(ctx context.Context) error {
			_, _, err := k.UseRefresh(ctx, k.by, k.tenant, "app", digestOf("one"), digestOf("two"), accessOf("a", expiry))
			return err
		},
		"Refresh": func(ctx context.Context) error { return e(k.Refresh(ctx, digestOf("one"))) },
		"RevokeRefresh": func(ctx context.Context) error {
			return e(k.RevokeRefresh(ctx, k.by, k.tenant, "app", digestOf("one")))
		},
		"PruneRefresh": k.PruneRefresh,
		"RotateKey": func(ctx context.Context) error {
			_, _, err := k.RotateKey(ctx, k.by, rotationOf(k.tenant, "one", "two", "try", 0))
			return err
		},
		"Replay": func(ctx context.Context) error {
			_, _, err := k.Replay(ctx, digestOf("try"))
			return err
		},
		"PruneReplays": k.PruneReplays,
		"Import": func(ctx context.Context) error {
			_, _, err := k.Import(ctx, k.by, "source", store.ImportBatch{}, "cursor", false)
			return err
		},
		"ImportCursor": func(ctx context.Context) error {
			_, _, err := k.ImportCursor(ctx, "source")
			return err
		},
		"OpenTenant": func(ctx context.Context) error {
			_, _, err := k.OpenTenant(ctx, k.by, store.NewTenant{Name: "opened"}, keyOf(0, "ci", "opened"))
			return err
		},
		"FoldReports":  k.FoldReports,
		"Sidecars":     func(ctx context.Context) error { return e(k.Sidecars(ctx)) },
		"PruneChanges": func(ctx context.Context) error { return k.PruneChanges(ctx, 1) },
	}
}

// testClose: Close ends what is in flight, and nothing works after it.
func testClose(t *testing.T, h Harness) {
	t.Run("calls in flight fail", func(t *testing.T) {
		k := newKit(t, h)
		if err := k.Wait(k.ctx); err != nil { // what was before the first one
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() {
			for {
				if err := k.Wait(k.ctx); err != nil {
					waiting <- err
					return
				}
			}
		}()
		writing := make(chan error, 4)
		for i := range cap(writing) {
			go func() {
				for n := 0; ; n++ {
					if _, err := k.PutRole(k.ctx, k.by, k.tenant, fmt.Sprintf("role-%d-%d", i, n), nil); err != nil {
						writing <- err
						return
					}
				}
			}()
		}
		time.Sleep(50 * time.Millisecond)
		closed := make(chan error, 1)
		go func() { closed <- k.Close() }()
		for range cap(writing) + 2 {
			select {
			case err := <-closed:
				if err != nil {
					t.Errorf("close: %v", err)
				}
			case <-waiting:
			case <-writing:
			case <-time.After(callTimeout):
				t.Fatal("Close, a Wait or a write goes on")
			}
		}
	})

	t.Run("nothing works afterwards, and what was written stays", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor")
		head := k.head()
		other := k.second()
		for range 2 {
			if err := k.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		for name, call := range everyCall(k) {
			if err := call(k.ctx); err == nil {
				t.Errorf("%s on a closed store: no error", name)
			}
		}
		if other.head() != head {
			t.Errorf("another process is at %v, the store was closed at %v", other.head(), head)
		}
		other.roleID(k.tenant, "editor")
	})
}
