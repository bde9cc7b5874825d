package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"portcullis/internal/store"
)

const importedMembers = 2500

// auths are rows as another program has them, for a tenant.
func auths(tenant store.TenantID, at time.Time) store.ImportBatch {
	b := store.ImportBatch{
		Roles:       []store.ImportRole{{Tenant: tenant, Name: "editor", Description: "imported-description"}},
		Permissions: []store.ImportPermission{{Tenant: tenant, Role: "editor", Name: "imported-permission"}},
	}
	for i := range importedMembers {
		user := fmt.Sprintf("imported-user-%d", i)
		b.Members = append(b.Members, store.ImportMember{Tenant: tenant, User: user, Role: "editor"})
		key := store.ImportUserKey{NewUserKey: store.NewUserKey{Tenant: tenant, User: user, Prefix: "sk_", Label: "imported-label"}, Created: at}
		binary.BigEndian.PutUint64(key.Digest[:], uint64(i)+1)
		if i%2 == 1 {
			key.Revoked = at.Add(time.Hour)
		}
		b.UserKeys = append(b.UserKeys, key)
		// Two rows that say the same are two.
		b.Audit = append(b.Audit, store.AuditEntry{Tenant: tenant, Time: at.Add(time.Duration(i/2) * time.Second), User: "imported-user", Action: "GET", Outcome: "done"})
	}
	return b
}

// An import that runs twice leaves what one leaves, in clear, sealed, and where the
// key changed between; and it names the tenant, not thousands of principals.
func TestImportTwice(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sealed %v", sealed), func(t *testing.T) {
			s, clock := openSealable(t)
			ctx := context.Background()
			if sealed {
				rotateEach(t, s, store.RotateEnable, nil)
			}
			head, err := s.Head(ctx)
			check(t, err)
			batch := auths(defaultTenant(t, s).ID, clock.at.Add(-time.Hour*1000))
			counts, _, err := s.Import(ctx, tester, "auth", batch, "1", false)
			check(t, err)
			if want := (store.ImportCounts{Roles: 1, Permissions: 1, Members: importedMembers, UserKeys: importedMembers, Audit: importedMembers}); counts != want {
				t.Errorf("the first time %+v, want %+v", counts, want)
			}
			delta, err := s.Delta(ctx, head.Revision, nil)
			check(t, err)
			grants, whole := 0, 0
			for _, c := range delta.Changes {
				switch c.Kind {
				case store.ChangeGrant:
					grants++
				case store.ChangeTenantGrants:
					whole++
				}
			}
			if grants != 0 || whole != 1 {
				t.Errorf("%d principals and %d tenants are named, want the tenant", grants, whole)
			}
			if sealed {
				for _, name := range []string{s.cfg.Path, s.cfg.Path + "-wal"} {
					content, err := os.ReadFile(name)
					check(t, err)
					if bytes.Contains(content, []byte("imported-")) {
						t.Errorf("%s holds what was imported in clear", name)
					}
				}
				_, err = s.BeginRotation(ctx, tester, store.RotateDeep)
				check(t, err)
				_, err = s.BeginTenant(ctx, tester, defaultTenant(t, s).ID)
				check(t, err)
			}
			counts, _, err = s.Import(ctx, tester, "auth", batch, "2", true)
			check(t, err)
			if counts != (store.ImportCounts{}) {
				t.Errorf("the second time %+v, want none", counts)
			}
			// One more of a row that is there twice is one more.
			more := store.ImportBatch{Audit: append(batch.Audit[:2:2], batch.Audit[0])}
			counts, _, err = s.Import(ctx, tester, "auth", more, "2", true)
			check(t, err)
			if counts != (store.ImportCounts{Audit: 1}) {
				t.Errorf("a row more: %+v, want one", counts)
			}
			if cursor, done, err := s.ImportCursor(ctx, "auth"); cursor != "2" || !done || err != nil {
				t.Errorf("the cursor is %q, %v, %v", cursor, done, err)
			}
		})
	}
}

func BenchmarkImport(b *testing.B) {
	b.Run("clear", func(b *testing.B) { benchmarkImport(b, false) })
	b.Run("sealed", func(b *testing.B) { benchmarkImport(b, true) })
}

func benchmarkImport(b *testing.B, sealed bool) {
	s, _ := openSealable(b)
	if sealed {
		rotateEach(b, s, store.RotateEnable, nil)
	}
	tenant, err := s.TenantByName(context.Background(), store.DefaultTenant)
	if err != nil {
		b.Fatal(err)
	}
	rows := 0
	for i := 0; b.Loop(); i++ {
		batch := auths(tenant.ID, time.Unix(int64(i+1)*1e6, 0))
		for j := range batch.Members {
			batch.Members[j].User = fmt.Sprintf("%s-%d", batch.Members[j].User, i)
			binary.BigEndian.PutUint64(batch.UserKeys[j].Digest[8:], uint64(i))
		}
		counts, _, err := s.Import(context.Background(), tester, "auth", batch, fmt.Sprint(i), false)
		if err != nil {
			b.Fatal(err)
		}
		rows += counts.Members + counts.UserKeys + counts.Audit
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
