package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
	"portcullis/internal/testkit/transcript"
)

// Every transcript of the admin API, played against a running `portcullis serve`,
// each on a store of its own.
func TestTranscripts(t *testing.T) {
	binary, err := portcullis()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../admin/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, backend := range []struct {
		name string
		open func(t *testing.T, dir string) (setting string, st store.Store)
	}{
		{"sqlite", sqliteFor}, {"postgres", postgresFor},
	} {
		for _, file := range files {
			t.Run(backend.name+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				dir, err := os.MkdirTemp("", "pc-") // the path of a unix socket has little room
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				setting, st := backend.open(t, dir)
				keys, _, err := transcript.Furnish(t.Context(), st)
				if err != nil {
					t.Fatal(err)
				}
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
				gate, err := testkit.StartGate(t.Context(), testkit.GateConfig{Binary: binary, Dir: dir, Env: []string{
					setting, "AUTH_EXTAUTHZ_LISTEN=unix://" + filepath.Join(dir, "gate.sock"), "AUTH_SERVER_PORT=0",
					"AUTH_METRICS_LISTEN=127.0.0.1:0", "AUTH_DRAIN_DELAY=0s", "GORACE=halt_on_error=1 atexit_sleep_ms=0",
				}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(gate.Kill)
				transcript.Play(t, transcript.Server{Addr: gate.Admin(), Keys: keys}, file)
			})
		}
	}
}

func sqliteFor(t *testing.T, dir string) (string, store.Store) {
	file := filepath.Join(dir, "auth.sqlite3")
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	return "AUTH_SQLITE_PATH=" + file, st
}

func postgresFor(t *testing.T, _ string) (string, store.Store) {
	url := testkit.PostgresFrom(t, "migrated", func(url string) error {
		_, err := postgres.Migrate(context.Background(), url)
		return err
	})
	st, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return "AUTH_DATABASE_URL=" + url, st
}
