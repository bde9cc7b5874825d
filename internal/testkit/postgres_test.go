package testkit

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var out string
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func run(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestPostgresGivesEachTestADatabase(t *testing.T) {
	a, b := Postgres(t), Postgres(t)
	if a == b {
		t.Fatalf("two databases at %s", a)
	}
	run(t, a, `CREATE TABLE mine AS SELECT 1`)
	if got := query(t, b, `SELECT coalesce(to_regclass('mine')::text, 'empty')`); got != "empty" {
		t.Errorf("the other database has %s", got)
	}
	for setting, want := range map[string]string{"server_encoding": "UTF8", "TimeZone": "UTC", "listen_addresses": ""} {
		if got := query(t, a, `SELECT current_setting('`+setting+`')`); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	t.Log(query(t, a, `SELECT version()`))

	var url string
	t.Run("inner", func(t *testing.T) { url = Postgres(t) })
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Error("the database of a test that has ended is still there")
	}
}

func TestPostgresFromPreparesOnce(t *testing.T) {
	calls := 0
	prepare := func(url string) error {
		calls++
		run(t, url, `CREATE TABLE prepared AS SELECT 1`)
		return nil
	}
	name := t.Name() + time.Now().String() // -count runs it again on the same server
	a, b := PostgresFrom(t, name, prepare), PostgresFrom(t, name, prepare)
	run(t, a, `DROP TABLE prepared`)
	if got := query(t, b, `SELECT to_regclass('prepared')::text`); got != "prepared" || calls != 1 {
		t.Errorf("the second copy has %q, after %d preparations; want prepared, after 1", got, calls)
	}
}

func TestPostgresServerIsStoppedCrashedAndCopied(t *testing.T) {
	p := PostgresServer(t)
	url, err := p.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, url, `CREATE TABLE kept AS SELECT 1`)
	for name, end := range map[string]func() error{"stop": p.Stop, "crash": p.Crash, "kill": p.Kill} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if conn, err := pgx.Connect(t.Context(), url); err == nil {
			conn.Close(t.Context())
			t.Fatalf("%s: the server answers", name)
		}
		if err := end(); err != nil {
			t.Errorf("%s of an ended server: %v", name, err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatalf("start after %s: %v", name, err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Errorf("start of a running server: %v", err)
		}
		if got := query(t, url, `SELECT to_regclass('kept')::text`); got != "kept" {
			t.Errorf("after %s the table is gone", name)
		}
	}

	r := PostgresReplica(t, p)
	standby := r.URL("test_1")
	if got := query(t, standby, `SELECT pg_is_in_recovery()::text`); got != "true" {
		t.Error("the copy is no standby")
	}
	run(t, url, `CREATE TABLE late AS SELECT 1`)
	for deadline := time.Now().Add(20 * time.Second); query(t, standby, `SELECT coalesce(to_regclass('late')::text, '')`) != "late"; {
		if time.Now().After(deadline) {
			t.Fatal("the standby does not follow")
		}
	}
	if err := r.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, standby, `CREATE TABLE own AS SELECT 1`)
}

// However the process ends that started a server, nothing stays behind. The
// test runs itself as that process.
func TestNoServerOutlivesItsProcess(t *testing.T) {
	if how := os.Getenv("PORTCULLIS_TESTKIT_END"); how != "" {
		p := PostgresServer(t)
		os.Stdout.WriteString("dir " + p.SocketDir() + "\n")
		switch how {
		case "panic":
			go panic("as the test wants it")
		case "exit":
			os.Exit(0)
		}
		time.Sleep(time.Minute)
		return
	}
	if _, err := FindPostgres(); err != nil {
		Unavailable(t, "PORTCULLIS_REQUIRE_POSTGRES", err)
	}
	for _, how := range []string{"kill", "panic", "exit"} {
		t.Run(how, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNoServerOutlivesItsProcess$")
			cmd.Env = append(os.Environ(), "PORTCULLIS_TESTKIT_END="+how)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			dir := ""
			for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
				dir, _ = strings.CutPrefix(lines.Text(), "dir ")
				if dir == lines.Text() {
					dir = ""
				}
			}
			if dir == "" {
				t.Fatal("the process started no server")
			}
			pid, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
			if err != nil && how == "kill" {
				t.Fatal(err)
			}
			if how == "kill" {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait() // it fails, as it was told to
			gone := func() bool {
				_, err := os.Stat(dir)
				return errors.Is(err, os.ErrNotExist) && !runs(pid)
			}
			for deadline := time.Now().Add(20 * time.Second); !gone(); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s or its server is still there", dir)
				}
			}
		})
	}
}

// runs reports whether the process of a postmaster.pid is a running postgres.
func runs(pidFile []byte) bool {
	pid, _, _ := strings.Cut(string(pidFile), "\n")
	cmdline, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	return pid != "" && err == nil && strings.Contains(string(cmdline), "postgres")
}

func TestTheNewestInstalledPostgresIsTaken(t *testing.T) {
	root := t.TempDir()
	install := func(version string, programs ...string) {
		t.Helper()
		bin := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range programs {
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if bin, err := installedPostgres(root); err == nil {
		t.Errorf("found %s in an empty folder", bin)
	}
	install("9", "postgres", "initdb", "pg_basebackup")
	install("15", "postgres", "initdb", "pg_basebackup")
	install("16", "initdb") // the client's package alone
	install("beta", "postgres", "initdb", "pg_basebackup")
	if bin, err := installedPostgres(root); err != nil || bin != filepath.Join(root, "15", "bin") {
		t.Errorf("got %s, %v; want 15", bin, err)
	}
}

func TestPostgresIsFoundWhereTheEnvironmentSays(t *testing.T) {
	t.Setenv("PG_BIN", t.TempDir())
	if bin, err := FindPostgres(); err == nil || !strings.Contains(err.Error(), "PG_BIN") {
		t.Errorf("an empty PG_BIN: got %s, %v", bin, err)
	}
	t.Setenv("PG_BIN", "")
	t.Setenv("PORTCULLIS_PG_SOURCE", "elsewhere")
	if bin, err := FindPostgres(); err == nil || !strings.Contains(err.Error(), "PORTCULLIS_PG_SOURCE") {
		t.Errorf("an unknown source: got %s, %v", bin, err)
	}
}

func TestAFolderThatOthersMayNotEnterIsSeen(t *testing.T) {
	if os.Getuid() != 0 {
		if !reachable("/") {
			t.Error("the root folder is out of reach")
		}
		return
	}
	dir, err := os.MkdirTemp("/tmp", "reach-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if reachable(inner) {
		t.Error("a folder inside one of mode 0700 is in reach")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !reachable(inner) || reachable(filepath.Join(dir, "absent")) {
		t.Error("an open folder is out of reach, or an absent one in reach")
	}
}
