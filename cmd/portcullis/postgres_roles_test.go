package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store/postgres"
	"portcullis/internal/testkit"
)

const rolesPolicy = `version: 1
rules:
  - {name: me, path: /me, allow: authenticated}
  - {name: read, methods: [GET], path: "/posts/{id}", require: view_content}
`

// An installation as docs/postgres.md has it: the schema's owner migrates, a DBA
// runs what --print-roles prints, and admin and sidecar log in over TCP as its two
// users.
func TestProcessesRunAsTheirRoles(t *testing.T) {
	database := testkit.PostgresServer(t)
	super := database.URL("gate")
	superSQL(t, database.URL("postgres"), `CREATE DATABASE gate`)
	superSQL(t, database.URL("postgres"), `CREATE ROLE schema_owner LOGIN`)
	superSQL(t, super, `CREATE SCHEMA portcullis AUTHORIZATION schema_owner`)

	owner := newPlace(t, "AUTH_DATABASE_URL="+strings.Replace(super, "postgres://postgres@", "postgres://schema_owner@", 1))
	if out := owner.run("migrate"); !strings.Contains(out, "MISSING: the role portcullis_admin and the role portcullis_sidecar") {
		t.Errorf("migrate by an owner who may make no roles says\n%s", out)
	}
	script := owner.run("migrate", "--print-roles", "--subnet", "127.0.0.1/32")
	adminFill, sidecarFill := postgres.PasswordToFillIn()
	superSQL(t, super, strings.NewReplacer(adminFill, "of-the-admin", sidecarFill, "of-the-sidecar").Replace(script))
	if out := owner.run("migrate"); strings.TrimSpace(out) != "nothing to do: the schema is this version's" {
		t.Errorf("after the DBA, migrate says\n%s", out)
	}

	address := listenAsPrinted(t, database, super, script)
	as := func(user, password string, env ...string) *place {
		return newPlace(t, append(env, "AUTH_DATABASE_URL=postgres://"+user+":"+password+address)...)
	}
	adminPlace := as("portcullis_admin_login", "of-the-admin", "AUTH_CLIENT_KEY=11111111-1111-4111-8111-111111111111")
	admin := adminPlace.start("admin")
	sidecarPlace := as("portcullis_sidecar_login", "of-the-sidecar")
	sidecar := sidecarPlace.start("sidecar", "--policy-file", sidecarPlace.write("policy.yaml", rolesPolicy))

	// What the admin's user writes reaches the sidecar's, which reports that it has it.
	for _, args := range [][]string{
		{"role", "add", "reader"}, {"permission", "add", "reader", "view_content"},
		{"user-key", "new", "--user", "amy"}, {"tenant", "strict", "on"},
	} {
		adminPlace.run(args...)
	}
	if out := adminPlace.run("member", "add", "amy", "reader", "--wait=30s"); !strings.Contains(out, "applied by 2 live sidecars") {
		t.Errorf("member add --wait says %s", out)
	}
	token := strings.TrimSpace(adminPlace.run("token", "issue", "amy"))
	conn := sidecar.dial()
	allowed := func(q question) bool {
		t.Helper()
		v, err := ask(t.Context(), conn, q)
		if err != nil {
			t.Fatal(err)
		}
		return v.Effect == "allow"
	}
	read := question{method: "GET", path: "/posts/1", headers: [][2]string{{"authorization", "Bearer " + token}}}
	if !allowed(read) {
		t.Error("amy may read, and was denied")
	}
	if !allowed(question{method: "GET", path: "/me", headers: [][2]string{{"x-client-key", "11111111-1111-4111-8111-111111111111"}}}) {
		t.Error("the client key of the admin process was denied")
	}
	adminPlace.run("member", "remove", "amy", "reader", "--wait=30s")
	if allowed(read) {
		t.Error("amy may read no more, and was allowed")
	}

	// The upkeep folds what the sidecar reported: the last use of the key among it.
	watch := connectSuper(t, database.URL("gate"))
	admin.eventually("the key's last use is folded in", func() bool {
		var used bool
		err := watch.QueryRow(t.Context(), `SELECT last_used_at IS NOT NULL FROM portcullis.client_keys WHERE name = 'env'`).Scan(&used)
		return err == nil && used
	})

	// With the sidecar's user nothing can be written, and the audit cannot be read.
	for _, args := range [][]string{{"role", "add", "mine"}, {"audit", "list"}, {"key", "new", "--name", "mine"}} {
		if code, _, stderr := sidecarPlace.try(args...); code == 0 || !strings.Contains(stderr, "permission denied") {
			t.Errorf("portcullis %s as the sidecar's user: exit code %d\n%s", strings.Join(args, " "), code, stderr)
		}
	}
	if code, _, stderr := sidecarPlace.try("admin"); code == 0 || !strings.Contains(stderr, "admin processes need a user in the admin role") {
		t.Errorf("portcullis admin as the sidecar's user: exit code %d\n%s", code, stderr)
	}
	if code, _, stderr := adminPlace.try("migrate"); code == 0 || !strings.Contains(stderr, "run portcullis migrate as schema_owner") {
		t.Errorf("portcullis migrate as the admin's user: exit code %d\n%s", code, stderr)
	}

	sidecar.signal(syscall.SIGTERM)
	if err := sidecar.ended(); err != nil {
		t.Errorf("the sidecar ended with %v", err)
	}
	admin.signal(syscall.SIGTERM)
	if err := admin.ended(); err != nil {
		t.Errorf("the admin process ended with %v", err)
	}
	for name, s := range map[string]*server{"admin": admin, "sidecar": sidecar} {
		if strings.Contains(s.stderr.String(), "permission denied") || strings.Contains(s.stderr.String(), `"level":"ERROR"`) {
			t.Errorf("%s lacked something:\n%s", name, s.stderr)
		}
	}
}

// listenAsPrinted has the server listen on 127.0.0.1 under the lines of pg_hba.conf
// that the script carries, and returns the end of a URL to the database there.
func listenAsPrinted(t *testing.T, server *testkit.PG, super, script string) string {
	t.Helper()
	var rules []string
	for line := range strings.Lines(script) {
		if rule, ok := strings.CutPrefix(line, "--hba "); ok {
			rules = append(rules, strings.TrimSpace(rule))
		}
	}
	if len(rules) != 2 {
		t.Fatalf("the script has lines %q for pg_hba.conf", rules)
	}
	var library string
	if err := connectSuper(t, super).QueryRow(t.Context(), `SELECT current_setting('ssl_library')`).Scan(&library); err != nil {
		t.Fatal(err)
	}
	var files *testkit.TLSFiles
	query := "?sslmode=disable"
	if library == "" {
		t.Log("this Postgres was built without TLS: the printed line says host in place of hostssl here")
		rules[0] = strings.Replace(rules[0], "hostssl", "host", 1)
	} else {
		dir := t.TempDir()
		newAuthority(t, dir, "ca").issue("database")
		files = &testkit.TLSFiles{Cert: filepath.Join(dir, "database.pem"), Key: filepath.Join(dir, "database.key")}
		query = "?sslmode=verify-full&sslrootcert=" + url.QueryEscape(filepath.Join(dir, "ca.pem"))
	}
	port, err := server.ListenTCP(t.Context(), files, rules...)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("@127.0.0.1:%d/gate%s", port, query)
}

func connectSuper(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func superSQL(t *testing.T, url, sql string) {
	t.Helper()
	if _, err := connectSuper(t, url).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
