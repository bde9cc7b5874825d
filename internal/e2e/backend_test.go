package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/rotation"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
)

// backend is a kind of store that `portcullis serve` runs on.
type backend struct {
	name   string
	open   func(t *testing.T, dir string, masters *sealing.Masters) (setting string, st store.Store)
	sealed bool
}

// backends are all of them, in clear and sealed.
func backends() []backend {
	return []backend{
		{"sqlite", sqliteFor, false}, {"postgres", postgresFor, false},
		{"sqlite-sealed", sqliteFor, true}, {"postgres-sealed", postgresFor, true},
	}
}

// newMaster is a master key as its setting has it, and as the stores take it.
func newMaster(t *testing.T) (string, *sealing.Masters) {
	t.Helper()
	master := sealing.NewMaster()
	masters, err := sealing.ParseMasters(master)
	if err != nil {
		t.Fatal(err)
	}
	return master, masters
}

// make opens an empty store of the kind, sealed under the first master where it is to
// be.
func (b backend) make(t *testing.T, dir string, masters *sealing.Masters) (setting string, st store.Store) {
	t.Helper()
	setting, st = b.open(t, dir, masters)
	if b.sealed {
		if _, err := rotation.Run(t.Context(), rotation.Config{Store: st, Masters: []string{string(masters.First())}, Kind: store.RotateEnable}); err != nil {
			t.Fatal(err)
		}
	}
	return setting, st
}

func sqliteFor(t *testing.T, dir string, masters *sealing.Masters) (string, store.Store) {
	file := filepath.Join(dir, "auth.sqlite3")
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: file, Masters: masters})
	if err != nil {
		t.Fatal(err)
	}
	return "AUTH_SQLITE_PATH=" + file, st
}

func postgresFor(t *testing.T, _ string, masters *sealing.Masters) (string, store.Store) {
	url := testkit.PostgresFrom(t, "migrated", func(url string) error {
		_, err := postgres.Migrate(context.Background(), url)
		return err
	})
	st, err := postgres.Open(t.Context(), postgres.Config{URL: url, Masters: masters})
	if err != nil {
		t.Fatal(err)
	}
	return "AUTH_DATABASE_URL=" + url, st
}

// reopen opens a store by its setting, past the server.
func reopen(t *testing.T, setting string, masters *sealing.Masters) store.Store {
	t.Helper()
	name, value, _ := strings.Cut(setting, "=")
	var st store.Store
	var err error
	if name == "AUTH_SQLITE_PATH" {
		st, err = sqlite.Open(t.Context(), sqlite.Config{Path: value, Masters: masters, AuditKeys: masters})
	} else {
		st, err = postgres.Open(t.Context(), postgres.Config{URL: value, Masters: masters, AuditKeys: masters})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}
