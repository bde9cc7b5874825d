package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
)

func TestOpenChecksTheSchemaAndNeverChangesIt(t *testing.T) {
	newer := func(version, reader, writer int) []string {
		return []string{
			fmt.Sprintf(`INSERT INTO portcullis.goose_db_version (version_id, is_applied) VALUES (%d, true)`, version),
			fmt.Sprintf(`UPDATE portcullis.compatibility SET oldest_reader = %d, oldest_writer = %d`, reader, writer),
		}
	}
	const old = 1000 // past any migration that this program knows
	for _, c := range []struct {
		name     string
		url      func(*testing.T) string
		sql      []string
		readOnly bool
		wants    string // "" is an open store
	}{
		{name: "no schema", url: func(t *testing.T) string { return testkit.Postgres(t) }, wants: "run portcullis migrate"},
		{name: "this schema", url: migrated},
		{name: "an older schema", url: migrated, sql: []string{`DELETE FROM portcullis.goose_db_version WHERE version_id > 0`}, wants: "run portcullis migrate"},
		{name: "a newer one that older programs run on", url: migrated, sql: newer(old, int(schemaVersion), int(schemaVersion))},
		{name: "a newer one that older sidecars run on, to a sidecar", url: migrated, sql: newer(old, int(schemaVersion), old), readOnly: true},
		{name: "a newer one that older sidecars run on, to an admin", url: migrated, sql: newer(old, int(schemaVersion), old), wants: "newer than the"},
		{name: "a newer one that no older program runs on", url: migrated, sql: newer(old, old, old), readOnly: true, wants: "install a newer portcullis"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := c.url(t)
			execSQL(t, url, c.sql...)
			st, err := Open(t.Context(), Config{URL: url, ReadOnly: c.readOnly})
			if err == nil {
				defer st.Close()
			}
			switch {
			case c.wants == "" && err != nil:
				t.Errorf("got %v, want an open store", err)
			case c.wants != "" && (!errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), c.wants)):
				t.Errorf("got %v, want store.ErrSchema with %q", err, c.wants)
			}
			if c.wants == "run portcullis migrate" && c.sql == nil {
				var schemas int
				if err := connect(t, url).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'portcullis'`).Scan(&schemas); err != nil || schemas != 0 {
					t.Errorf("Open left %d schemas, error %v", schemas, err)
				}
			}
		})
	}
}

func TestNoPasswordInErrorsOrLogs(t *testing.T) {
	const password = "hunter2-s3cret/word"
	const encoded = "hunter2-s3cret%2Fword"
	server := testkit.PostgresServer(t)
	execSQL(t, server.URL("postgres"), `CREATE ROLE app LOGIN PASSWORD 'another'`)
	hba := filepath.Join(server.SocketDir(), "data", "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hba, append([]byte("local all app scram-sha-256\n"), rules...), 0o600); err != nil {
		t.Fatal(err)
	}
	execSQL(t, server.URL("postgres"), `SELECT pg_reload_conf()`)

	for name, url := range map[string]string{
		"wrong password":           "postgres://app:" + encoded + "@/postgres?host=" + server.SocketDir(),
		"wrong password, keywords": "user=app password='" + password + "' dbname=postgres host=" + server.SocketDir(),
		"no server":                "postgres://app:" + encoded + "@/postgres?host=" + t.TempDir(),
		"unescaped":                "postgres://app:" + password + "@/postgres?host=" + server.SocketDir(),
		"bad port":                 "postgres://app:" + encoded + "@localhost:x/postgres",
		"bad escape":               "postgres://app:%zz" + password + "@localhost/postgres",
		"bad keywords":             "user=app password=" + password + " '",
		"bad sslmode":              "postgres://app:" + encoded + "@localhost/postgres?sslmode=" + password,
		"bad pool size":            "postgres://app:" + encoded + "@localhost/postgres?pool_max_conns=" + password,
		"unescaped, after digits":  "postgres://app:5432/" + password + "@localhost/postgres",
		"standby wanted":           "postgres://app:" + encoded + "@/postgres?target_session_attrs=standby&host=" + server.SocketDir(),
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			st, err := Open(t.Context(), Config{URL: url, Logger: logger})
			if err == nil {
				st.Close()
				t.Fatal("opened")
			}
			_, migrateErr := Migrate(t.Context(), url)
			if migrateErr == nil {
				t.Fatal("migrated")
			}
			for what, text := range map[string]string{
				"Open's error":    fmt.Sprintf("%v %+v %#v", err, err, err.Error()),
				"Migrate's error": fmt.Sprintf("%v %+v", migrateErr, migrateErr),
				"the log":         log.String(),
			} {
				for _, part := range []string{"hunter2", "s3cret"} {
					if strings.Contains(text, part) {
						t.Errorf("%s tells the password: %s", what, text)
					}
				}
			}
		})
	}

	t.Run("a listener that is refused", func(t *testing.T) {
		execSQL(t, server.URL("postgres"), `CREATE ROLE late LOGIN SUPERUSER`)
		if _, err := Migrate(t.Context(), server.URL("postgres")); err != nil {
			t.Fatal(err)
		}
		var log syncBuffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		url := "postgres://late:" + encoded + "@/postgres?host=" + server.SocketDir()
		st, err := Open(t.Context(), Config{URL: url, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		execSQL(t, server.URL("postgres"), `ALTER ROLE late NOLOGIN`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- st.Wait(ctx) }()
		eventually(t, "the refusal is logged", func() bool { return strings.Contains(log.String(), "not listening") })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Wait returned %v, want its context's error", err)
		}
		if text := log.String(); strings.Contains(text, "hunter2") {
			t.Errorf("the log tells the password: %s", text)
		}
	})
}

func TestOpenWantsThePrimary(t *testing.T) {
	primary := testkit.PostgresServer(t)
	url, err := primary.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	standby := testkit.PostgresReplica(t, primary)
	hosts := func(query string, servers ...*testkit.PG) string {
		var dirs, ports []string
		for _, s := range servers {
			dirs, ports = append(dirs, s.SocketDir()), append(ports, "5432")
		}
		return "postgres://postgres@/test_1?host=" + strings.Join(dirs, ",") + "&port=" + strings.Join(ports, ",") + query
	}

	for _, c := range []struct {
		name, url string
		opens     bool
	}{
		{"the primary alone", hosts("", primary), true},
		{"the standby alone", hosts("", standby), false},
		{"the standby first", hosts("", standby, primary), true},
		{"the standby first, read-write wanted", hosts("&target_session_attrs=read-write", standby, primary), true},
		{"the standby first, primary wanted", hosts("&target_session_attrs=primary", standby, primary), true},
		{"any wanted", hosts("&target_session_attrs=any", standby, primary), true},
		{"a standby preferred", hosts("&target_session_attrs=prefer-standby", standby, primary), true},
		{"a standby wanted", hosts("&target_session_attrs=standby", standby, primary), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, err := Open(t.Context(), Config{URL: c.url})
			if (err == nil) != c.opens {
				t.Fatalf("got error %v, want an open store: %v", err, c.opens)
			}
			if err != nil {
				return
			}
			defer st.Close()
			var standby bool
			if err := st.pool.QueryRow(t.Context(), `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil || standby {
				t.Errorf("on a standby: %v, error %v", standby, err)
			}
		})
	}

	t.Run("failover", func(t *testing.T) {
		st, err := Open(t.Context(), Config{URL: hosts("", primary, standby)})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		tenant := tenantID(t, st)
		before, err := st.PutRole(t.Context(), by, tenant, "editor", nil)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the standby has the write", func() bool {
			var number int64
			err := connect(t, standby.URL("test_1")).QueryRow(t.Context(), `SELECT number FROM portcullis.revision`).Scan(&number)
			return err == nil && number == before.Revision.Number
		})
		waited := make(chan error, 1)
		if err := st.Wait(t.Context()); err != nil { // what was before the first one
			t.Fatal(err)
		}
		go func() { waited <- st.Wait(t.Context()) }()
		if err := primary.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := standby.Promote(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a write goes to the new primary", func() bool {
			_, err := st.PutRole(t.Context(), by, tenant, "viewer", nil)
			return err == nil
		})
		if err := <-waited; err != nil {
			t.Errorf("Wait over the failover: %v", err)
		}
		d, err := st.Delta(t.Context(), before.Revision, nil)
		if err != nil || d.Head.Number <= before.Revision.Number {
			t.Errorf("delta over the failover: %+v, %v", d, err)
		}
	})
}
