package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
)

func TestSubnets(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.0.3.0/24": true, "127.0.0.1/32": true, "0.0.0.0/0": true, "fd00:1::/64": true, "::1/128": true,
		"": false, "10.0.3.0": false, "10.0.3.1/24": false, "10.0.3.0/33": false, "10.0.3/24": false, "example.com": false,
		"fd00::1/64": false, "fe80::%eth0/64": false, "::ffff:10.0.0.0/104": false, "10.0.3.0/24 trust": false, "10.0.3.0/24\nhost": false,
	} {
		if _, err := ParseSubnet(text); (err == nil) != ok {
			t.Errorf("%q: got %v, want it taken: %v", text, err, ok)
		}
	}
}

func TestRoleSQLRefusesWhatItCannotWrite(t *testing.T) {
	roles := DefaultGroupRoles()
	for name, cfg := range map[string]RoleSQLConfig{
		"a bad role":      {Database: "d", Roles: GroupRoles{Admin: `x"; DROP`, Sidecar: roles.Sidecar}},
		"no database":     {Roles: roles},
		"a line break":    {Database: "d\n;", Roles: roles},
		"its own quoting": {Database: "d$guard$", Roles: roles},
		"a wrong subnet":  {Database: "d", Roles: roles, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}},
		"no subnet":       {Database: "d", Roles: roles, Subnets: []netip.Prefix{{}}},
	} {
		if text, err := RoleSQL(cfg); err == nil {
			t.Errorf("%s: written:\n%s", name, text)
		}
	}
}

// dba is a server on which nothing but a migrated schema is, as a DBA finds it.
type dba struct {
	server        *testkit.PG
	url, database string
	owner         string // URL of the schema's owner
	cfg           RoleSQLConfig
}

// newDBA has a database whose name has to be quoted everywhere.
func newDBA(t *testing.T) *dba {
	t.Helper()
	server := testkit.PostgresServer(t)
	d := &dba{server: server, database: `My "own" db's, all`}
	execSQL(t, server.URL("postgres"), `CREATE DATABASE `+pgx.Identifier{d.database}.Sanitize(), `CREATE ROLE `+ownerUser+` LOGIN`)
	d.url = server.URL(d.database)
	d.owner = as(d.url, ownerUser)
	execSQL(t, d.url, `CREATE SCHEMA portcullis AUTHORIZATION `+ownerUser)
	if _, err := Migrate(t.Context(), d.owner); err != nil {
		t.Fatal(err)
	}
	d.cfg = RoleSQLConfig{
		Database: d.database, Roles: DefaultGroupRoles(),
		Subnets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("fd00:1::/64")},
	}
	return d
}

func (d *dba) script(t *testing.T) string {
	t.Helper()
	text, err := RoleSQL(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// run runs a script as psql does, and returns the first error.
func (d *dba) run(t *testing.T, url, script string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.PgConn().Exec(t.Context(), script).ReadAll()
	return err
}

const adminPassword, sidecarPassword = "it's the admin's", "5e3c-of-the-sidecar"

func fillIn(script string) string {
	admin, sidecar := PasswordToFillIn()
	return strings.NewReplacer(admin, strings.ReplaceAll(adminPassword, `'`, `''`), sidecar, sidecarPassword).Replace(script)
}

func hba(script string) (lines []string) {
	for line := range strings.Lines(script) {
		if rule, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), hbaPrefix); ok {
			lines = append(lines, rule)
		}
	}
	return lines
}

func TestThePrintedRolesWork(t *testing.T) {
	d := newDBA(t)
	script := d.script(t)

	if err := d.run(t, d.url, script); err == nil || !strings.Contains(err.Error(), "fill in the password") {
		t.Fatalf("with no password filled in: got %v, want a refusal", err)
	}
	if err := d.run(t, d.server.URL("postgres"), script); err == nil || !strings.Contains(err.Error(), "the script is for") {
		t.Fatalf("in another database: got %v, want a refusal", err)
	}
	var roles int
	if err := connect(t, d.url).QueryRow(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'portcullis%'`).Scan(&roles); err != nil || roles != 0 {
		t.Fatalf("a script that was refused left %d roles, error %v", roles, err)
	}
	d.runPsql(t, fillIn(script))
	if strings.Contains(d.server.Log(), sidecarPassword) {
		t.Error("a password is in the server's log")
	}
	// Run again: passwords stay, and nothing is granted that migrate would not.
	if err := d.run(t, d.url, script); err != nil {
		t.Fatalf("the second time: %v", err)
	}
	if done := ensure(t, d.owner, d.cfg.Roles); len(done.Made)+len(done.Missing)+len(done.Granted)+len(done.Revoked) > 0 {
		t.Errorf("migrate does not agree with the script: %+v", done)
	}

	cert, key := serverCertificate(t)
	files, rules, verified := &testkit.TLSFiles{Cert: cert, Key: key}, hba(script), "sslmode=verify-full&sslrootcert="+url.QueryEscape(cert)
	withTLS := hasTLS(t, d.url)
	if !withTLS {
		t.Log("this Postgres was built without TLS: its lines say host in place of hostssl here")
		files, verified = nil, "sslmode=disable"
		for i := range rules {
			rules[i] = strings.Replace(rules[i], "hostssl", "host   ", 1)
		}
	}
	port, err := d.server.ListenTCP(t.Context(), files, rules...)
	if err != nil {
		t.Fatal(err)
	}
	adminLogin, sidecarLogin := d.cfg.Roles.Logins()
	at := func(user, password, database string, query string) string {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: fmt.Sprintf("127.0.0.1:%d", port), Path: "/" + database, RawQuery: query}
		return u.String()
	}
	admin := openTest(t, at(adminLogin, adminPassword, d.database, verified))
	reader, err := Open(t.Context(), Config{URL: at(sidecarLogin, sidecarPassword, d.database, verified), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	woken := waiter(t, reader)
	written := putRole(t, admin, "editor").Revision
	wake(t, woken, "a write by the admin's user, heard by the sidecar's")
	if head, err := reader.Head(t.Context()); err != nil || head.Revision != written {
		t.Errorf("the sidecar's user reads %+v, error %v", head, err)
	}
	if err := reader.Report(t.Context(), []store.Report{{Sidecar: "s", Kind: store.ReportApplied, At: time.Now(), Applied: 1, Staleness: 1}}); err != nil {
		t.Error(err)
	}

	tries := map[string]string{
		"a wrong password":                     at(sidecarLogin, "wrong", d.database, verified),
		"no password":                          strings.Replace(at(sidecarLogin, "", d.database, verified), ":@", "@", 1),
		"the words to fill in":                 at(sidecarLogin, "FILL IN: password of the sidecar user", d.database, verified),
		"no TLS":                               at(sidecarLogin, sidecarPassword, d.database, "sslmode=disable"),
		"another database":                     at(sidecarLogin, sidecarPassword, "postgres", verified),
		"the role itself":                      at(d.cfg.Roles.Sidecar, sidecarPassword, d.database, verified),
		"the admin's user, the sidecar's word": at(adminLogin, sidecarPassword, d.database, verified),
	}
	if !withTLS {
		delete(tries, "no TLS")
	}
	for name, refusedURL := range tries {
		conn, err := pgx.Connect(t.Context(), refusedURL)
		if err == nil {
			conn.Close(context.Background())
			t.Errorf("%s: let in", name)
		}
	}
	for name, c := range map[string]struct{ user, password, sql string }{
		"temporary tables of a sidecar":  {sidecarLogin, sidecarPassword, `CREATE TEMPORARY TABLE mine ()`},
		"temporary tables of an admin":   {adminLogin, adminPassword, `CREATE TEMPORARY TABLE mine ()`},
		"tables of a sidecar elsewhere":  {sidecarLogin, sidecarPassword, `CREATE TABLE public.mine ()`},
		"reading the audit as a sidecar": {sidecarLogin, sidecarPassword, `SELECT count(*) FROM portcullis.audit`},
		"changing the audit":             {adminLogin, adminPassword, `UPDATE portcullis.audit SET actor = ''`},
	} {
		if !refused(t, connect(t, at(c.user, c.password, d.database, verified)), c.sql) {
			t.Errorf("%s: %s: not refused", name, c.sql)
		}
	}
	var timeout, lock, encoded string
	if err := connect(t, at(sidecarLogin, sidecarPassword, d.database, verified)).
		QueryRow(t.Context(), `SELECT current_setting('statement_timeout'), current_setting('lock_timeout')`).Scan(&timeout, &lock); err != nil || timeout != "1min" || lock != "5s" {
		t.Errorf("the sidecar's user has statement_timeout %s, lock_timeout %s, error %v", timeout, lock, err)
	}
	if err := connect(t, d.server.URL("postgres")).QueryRow(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, sidecarLogin).Scan(&encoded); err != nil || !strings.HasPrefix(encoded, "SCRAM-SHA-256$") {
		t.Errorf("the password is kept as %.14s, error %v", encoded, err)
	}

	// A stranger of the server no longer enters, and the owner still migrates.
	execSQL(t, d.server.URL("postgres"), `CREATE ROLE stranger LOGIN`)
	var pg *pgconn.PgError
	if _, err := pgx.Connect(t.Context(), as(d.server.URL(d.database), "stranger")); !errors.As(err, &pg) || pg.Code != codeNoRight {
		t.Errorf("a stranger gets %v", err)
	}
	if _, err := Migrate(t.Context(), as(d.server.URL(d.database), ownerUser)); err != nil {
		t.Error(err)
	}
}

// hasTLS reports whether the server was built with TLS: the wheel's is not.
func hasTLS(t *testing.T, url string) bool {
	t.Helper()
	var library string
	if err := connect(t, url).QueryRow(t.Context(), `SELECT current_setting('ssl_library')`).Scan(&library); err != nil {
		t.Fatal(err)
	}
	return library != ""
}

// runPsql runs the script as its own head says, where there is a psql: Debian's
// client package and the wheel have one.
func (d *dba) runPsql(t *testing.T, script string) {
	t.Helper()
	bin, err := testkit.FindPostgres()
	if err != nil {
		t.Fatal(err)
	}
	psql := filepath.Join(bin, "psql")
	if _, err := os.Stat(psql); err != nil {
		if err := d.run(t, d.url, script); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), psql, "-X", "-v", "ON_ERROR_STOP=1", "-d", d.url, "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
}

// serverCertificate makes a certificate for 127.0.0.1 that signs itself.
func serverCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
