package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T) store.Store { return openTest(t, filepath.Join(t.TempDir(), "store.db")) },
		OpenSecond: func(t *testing.T, st store.Store) store.Store {
			return openTest(t, st.(*Store).cfg.Path)
		},
		Touch: func(t *testing.T, st store.Store, by store.Actor, tenant store.TenantID, principals []store.Index) store.Result {
			t.Helper()
			result, err := st.(*Store).write(context.Background(), "touch", by, func(*writeTx) (*store.Written, error) {
				w := &store.Written{Outcome: store.OutcomeDone, Tenant: tenant, Action: "TOUCH", Resource: "test"}
				for _, index := range principals {
					w.Changes.Grant(tenant, index)
				}
				return w, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return result
		},
	})
}

// quickLock is the lock timeout of openQuick.
const quickLock = 400 * time.Millisecond

// openQuick opens a store that gives up on locks soon.
func openQuick(t *testing.T, path string) *Store {
	t.Helper()
	return openWith(t, Config{Path: path, LockTimeout: quickLock})
}

func openTest(t *testing.T, path string) *Store {
	t.Helper()
	return openWith(t, Config{Path: path})
}

func openWith(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
