package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// BenchmarkColdGrant measures what loading a principal's memberships costs on a
// sealed database, beside one in clear in the same run: each is asked in turn.
func BenchmarkColdGrant(b *testing.B, open func(b *testing.B, masters *sealing.Masters) store.Store) {
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		b.Fatal(err)
	}
	clear, sealed := open(b, nil), open(b, masters)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(enable(b.Context(), sealed))
	by := store.Actor{Name: "cli"}
	for _, memberships := range []int{1, 20} {
		user := fmt.Sprintf("user-%d", memberships)
		for _, st := range []store.Store{clear, sealed} {
			tenant, err := st.TenantByName(b.Context(), store.DefaultTenant)
			must(err)
			for n := range memberships {
				role := fmt.Sprintf("role-%d", n)
				_, err := st.PutRole(b.Context(), by, tenant.ID, role, nil)
				must(err)
				_, err = st.AddMember(b.Context(), by, tenant.ID, policy.KindUser, user, role, time.Time{})
				must(err)
			}
		}
		b.Run(fmt.Sprintf("memberships=%d", memberships), func(b *testing.B) {
			var took [2]time.Duration
			for b.Loop() {
				for i, st := range []store.Store{clear, sealed} {
					began := time.Now()
					row, err := st.Grant(b.Context(), 1, policy.KindUser, user)
					took[i] += time.Since(began)
					if err != nil || len(row.Grant) != memberships {
						b.Fatalf("%d memberships, error %v", len(row.Grant), err)
					}
				}
			}
			n := float64(b.N)
			b.ReportMetric(0, "ns/op") // of both together: it says nothing
			b.ReportMetric(float64(took[0].Microseconds())/n, "µs-clear")
			b.ReportMetric(float64(took[1].Microseconds())/n, "µs-sealed")
			b.ReportMetric(float64(took[1])/float64(took[0]), "sealed/clear")
		})
	}
}

// enable seals an empty database.
func enable(ctx context.Context, st store.Store) error {
	by := store.Actor{Name: "cli"}
	if _, err := st.BeginRotation(ctx, by, store.RotateEnable); err != nil {
		return err
	}
	tenants, err := st.RotationTenants(ctx, 100)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		if _, err := st.BeginTenant(ctx, by, tenant); err != nil {
			return err
		}
		if _, _, done, err := st.Reseal(ctx, tenant, store.ResealCursor{}, 1000, nil); err != nil || !done {
			return fmt.Errorf("reseal tenant %d: done %v, %w", tenant, done, err)
		}
		if _, err := st.FinishTenant(ctx, by, tenant); err != nil {
			return err
		}
	}
	_, err = st.FinishRotation(ctx, by)
	return err
}
