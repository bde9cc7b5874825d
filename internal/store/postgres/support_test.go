package postgres

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"portcullis/internal/store"
)

// eventually waits for ok, and ends the test after 20 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// by is who makes the writes of these tests.
var by = store.Actor{Name: "cli"}

// tenantID is tenant default's.
func tenantID(t *testing.T, st *Store) store.TenantID {
	t.Helper()
	tenant, err := st.TenantByName(t.Context(), store.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	return tenant.ID
}

// putRole makes a role of tenant default.
func putRole(t *testing.T, st *Store, role string) store.Result {
	t.Helper()
	result, err := st.PutRole(t.Context(), by, tenantID(t, st), role, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
