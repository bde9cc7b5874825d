package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/storetest"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

// What a cold check, a sidecar's catching up and an admin write cost over a unix
// socket, without syncing to disk.
func Benchmark(b *testing.B) {
	url := testkit.Postgres(b)
	if _, err := Migrate(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	st, err := Open(b.Context(), Config{URL: url})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	ctx := context.Background()
	tenant, err := st.TenantByName(ctx, store.DefaultTenant)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 5 {
		role := fmt.Sprintf("role-%d", i)
		if _, err := st.PutRole(ctx, by, tenant.ID, role, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := st.AddMember(ctx, by, tenant.ID, policy.KindUser, "alice", role, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
	head, err := st.Head(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := st.AddMember(ctx, by, tenant.ID, policy.KindUser, "bob", "role-1", time.Time{}); err != nil {
		b.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"Head":  func() error { _, err := st.Head(ctx); return err },
		"Grant": func() error { _, err := st.Grant(ctx, tenant.ID, policy.KindUser, "alice"); return err },
		"Key":   func() error { _, err := st.Key(ctx, store.Digest{1}); return err },
		"Delta": func() error { _, err := st.Delta(ctx, head.Revision, []store.TenantID{tenant.ID}); return err },
		"Write": func() error { _, err := st.PutRole(ctx, by, tenant.ID, "role-1", nil); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What sealing costs where a grant is not in memory.
func BenchmarkColdGrant(b *testing.B) {
	storetest.BenchmarkColdGrant(b, func(b *testing.B, masters *sealing.Masters) store.Store {
		url := testkit.Postgres(b)
		if _, err := Migrate(b.Context(), url); err != nil {
			b.Fatal(err)
		}
		st, err := Open(b.Context(), Config{URL: url, Masters: masters})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = st.Close() })
		return st
	})
}
