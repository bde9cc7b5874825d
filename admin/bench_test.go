package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// BenchmarkHasPermission is a denied check, the dearest, of a user with so many
// roles of 20 permissions each, through the whole handler and without a network.
func BenchmarkHasPermission(b *testing.B) {
	for _, roles := range []int{1, 20} {
		b.Run(fmt.Sprintf("roles=%d", roles), func(b *testing.B) {
			h := newHouse(b, options{})
			tenant, by := h.tenants[store.DefaultTenant], store.Actor{Name: "cli"}
			var last store.Result
			for r := range roles {
				role := fmt.Sprintf("role%d", r)
				_, err := h.store.PutRole(b.Context(), by, tenant, role, nil)
				must(b, err)
				for p := range 20 {
					_, err := h.store.AddPermission(b.Context(), by, tenant, role, fmt.Sprintf("permission%d-%d", r, p))
					must(b, err)
				}
				last, err = h.store.AddMember(b.Context(), by, tenant, policy.KindUser, "alice", role, time.Time{})
				must(b, err)
			}
			must(b, h.cache.CatchUp(b.Context(), last.Revision.Number))
			request := httptest.NewRequest(http.MethodGet, "/api/has_permission/alice/absent", nil)
			request.Header.Set("Authorization", "Bearer "+h.keys["check"])
			handler := h.api.Handler()
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, request)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}
