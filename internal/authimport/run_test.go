package authimport_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/authdata"
	"portcullis/internal/authimport"
	"portcullis/internal/identity"
	"portcullis/internal/rotation"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

const (
	acme   = "0b6f3c1e-8a55-4f0e-9d3b-6a1f0c2d4e5f"
	globex = "7d9e2a40-11c3-4b8a-8f6e-90ab12cd34ef"
	key    = "the key that Auth encrypts with"

	live    = "rak_0123456789abcdefghijABCDEFGHIJ0123456789abc"
	revoked = "rak_abcdefghijABCDEFGHIJ01234567890123456789abc"
)

// sealed is a field as Auth encrypts it, tagged v2.
func sealed(t *testing.T, creator, plain string) string {
	t.Helper()
	master, err := pbkdf2.Key(sha256.New, key, []byte("auth_deterministic_encryption_salt_v1"), 100_000, 64)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := hkdf.Expand(sha256.New, master, "auth-fieldkey-v2|"+creator, 64)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, keys[32:])
	mac.Write([]byte(plain))
	iv := mac.Sum(nil)[:16]
	block, err := aes.NewCipher(keys[:32])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plain))
	cipher.NewCTR(block, iv).XORKeyStream(out, []byte(plain))
	return "v2:" + base64.StdEncoding.EncodeToString(append(iv, out...))
}

// rows are those of a small Auth with two tenants.
func rows(t *testing.T, encrypted bool) []string {
	field := func(creator, plain string) string {
		if encrypted {
			plain = sealed(t, creator, plain)
		}
		return "'" + plain + "'"
	}
	digest := func(secret string) string {
		sum := sha256.Sum256([]byte(secret))
		return "'" + hex.EncodeToString(sum[:]) + "'"
	}
	const a, g = "'" + acme + "'", "'" + globex + "'"
	return []string{
		"INSERT INTO auth_group (id, creator, role, description, is_active) VALUES (1, " + a + ", 'editor', " + field(acme, "Edits posts") + ", true)," +
			"(2, " + a + ", 'former', NULL, false), (3, " + g + ", 'viewer', NULL, true)",
		"INSERT INTO auth_permission (id, creator, name, is_active) VALUES (1, " + a + ", " + field(acme, "edit_post") + ", true)," +
			"(2, " + g + ", " + field(globex, "view_post") + ", true)",
		"INSERT INTO permission_groups VALUES (1, 1), (1, 2), (2, 3)",
		`INSERT INTO auth_membership (id, creator, "user", is_active) VALUES (1, ` + a + ", " + field(acme, "alice@example.com") + ", true)," +
			"(2, " + g + ", " + field(globex, "bob") + ", true)",
		"INSERT INTO membership_groups VALUES (1, 1), (1, 2), (2, 3)",
		`INSERT INTO auth_api_key (id, key_id, creator, "user", key_hash, key_prefix, label, is_active) VALUES` +
			"(1, '11111111-1111-4111-8111-111111111111', " + a + ", " + field(acme, "alice@example.com") + ", " + digest(live) + ", 'rak_01234567', " + field(acme, "laptop") + ", true)," +
			"(2, '22222222-2222-4222-8222-222222222222', " + a + ", " + field(acme, "alice@example.com") + ", " + digest(revoked) + ", 'rak_abcdefgh', NULL, false)",
		"INSERT INTO auth_tenant_settings VALUES (1, " + g + ", true)",
		`INSERT INTO audit_log (id, timestamp, client_id, "user", action, resource, details, ip_address, user_agent, success) VALUES` +
			`(1, '2024-05-06 07:08:09.123456', 'fpr_01', 'alice@example.com', 'CREATE_ROLE', 'editor', '{"x": 1}', '10.0.0.1', 'curl', 1),` +
			`(2, '2024-06-01 00:00:00', 'fpr_02', 'bob', 'CHECK_PERMISSION', NULL, NULL, NULL, NULL, 0)`,
	}
}

// auth is a database of Auth's.
type auth struct {
	url  string
	exec func(statements ...string)
}

func schema(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "authdata", "testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func sqliteAuth(t *testing.T) auth {
	path := filepath.Join(t.TempDir(), "auth.sqlite3")
	a := auth{url: path, exec: func(statements ...string) {
		for _, s := range statements {
			if _, err := testkit.SQLite(t.Context(), path, s); err != nil {
				t.Fatalf("%.200s: %v", s, err)
			}
		}
	}}
	a.exec(schema(t, "sqlite.sql"))
	return a
}

func postgresAuth(t *testing.T) auth {
	url := testkit.Postgres(t)
	a := auth{url: url, exec: func(statements ...string) {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for _, s := range append([]string{"SET search_path = auth_rbac, public"}, statements...) {
			if _, err := conn.Exec(t.Context(), s, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatalf("%.200s: %v", s, err)
			}
		}
	}}
	a.exec(strings.ReplaceAll(schema(t, "postgres.sql"), "$SCHEMA", "auth_rbac"))
	return a
}

func sqliteStore(t *testing.T) store.Store {
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "portcullis.sqlite3")})
	return opened(t, st, err)
}

// postgresStore is sealed.
func postgresStore(t *testing.T) store.Store {
	url := testkit.PostgresFrom(t, "migrated", func(url string) error {
		_, err := postgres.Migrate(context.Background(), url)
		return err
	})
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	pg, err := postgres.Open(t.Context(), postgres.Config{URL: url, Masters: masters})
	st := opened(t, pg, err)
	if _, err := rotation.Run(t.Context(), rotation.Config{Store: st, Masters: []string{string(masters.First())}, Kind: store.RotateEnable}); err != nil {
		t.Fatal(err)
	}
	return st
}

func opened(t *testing.T, st store.Store, err error) store.Store {
	t.Helper()
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

// importer is one run of the import of an Auth.
type importer struct {
	t         *testing.T
	from      auth
	encrypted bool
	left      []string
}

func (i *importer) run(into store.Store, change func(*authimport.Config)) (authimport.Summary, error) {
	i.t.Helper()
	cfg := authdata.Config{URL: i.from.url}
	if i.encrypted {
		cfg.Key = authdata.NewSecret(key)
	}
	source, err := authdata.Open(i.t.Context(), cfg)
	if err != nil {
		i.t.Fatal(err)
	}
	defer source.Close()
	i.left = nil
	work := authimport.Config{Source: source, Store: into, By: store.Actor{Name: "cli"}, ID: "test", Bad: func(err error) { i.left = append(i.left, err.Error()) }}
	if change != nil {
		change(&work)
	}
	return authimport.Run(i.t.Context(), work)
}

// wantMoved: what opened something in Auth opens the same here, and nothing else does.
func wantMoved(t *testing.T, st store.Store) {
	t.Helper()
	ctx := t.Context()
	tenantOf := func(secret string) store.TenantID {
		t.Helper()
		text, _ := identity.ParseClientKey([]byte(secret))
		row, err := st.Key(ctx, identity.KeyDigest(text))
		if err != nil || row.Key == nil || !row.Key.Revoked.IsZero() || !row.Key.Expires.IsZero() {
			t.Fatalf("client key %.8s: %+v, error %v", secret, row.Key, err)
		}
		return row.Key.Tenant
	}
	a, g := tenantOf(acme), tenantOf(globex)
	if a == g {
		t.Error("both keys are one tenant's")
	}
	tenants, err := st.Tenants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range tenants {
		if tenant.ID != 1 && (!tenant.Admitted || tenant.StrictUsers != (tenant.ID == g) || strings.Contains(tenant.Name, acme[:8])) {
			t.Errorf("tenant %+v", tenant)
		}
	}
	for _, c := range []struct {
		tenant                 store.TenantID
		user, role, permission string
	}{{a, "alice@example.com", "editor", "edit_post"}, {g, "bob", "viewer", "view_post"}} {
		member, err := st.HasRole(ctx, c.tenant, policy.KindUser, c.user, c.role, time.Now())
		may, err2 := st.HasPermission(ctx, c.tenant, c.role, c.permission)
		if !member || !may || err != nil || err2 != nil {
			t.Errorf("%+v: member %v, permission %v, errors %v, %v", c, member, may, err, err2)
		}
	}
	roles, err := st.RoleList(ctx, a)
	if err != nil || len(roles) != 1 || roles[0].Description != "Edits posts" {
		t.Errorf("roles %+v, error %v", roles, err)
	}
	for secret, active := range map[string]bool{live: true, revoked: false} {
		row, err := st.UserKey(ctx, identity.UserKeyDigest([]byte(secret)))
		if err != nil || row.Key == nil || row.Key.User != "alice@example.com" || row.Key.Active(time.Now()) != active {
			t.Errorf("API key %.8s: %+v, error %v", secret, row.Key, err)
		}
	}
	entries, _, err := st.Audit(ctx, store.AuditQuery{Tenant: 0, Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		if e.Actor == "auth" {
			found++
			if e.User == "alice@example.com" && (!e.Success || !strings.Contains(e.Details, `"client_id":"fpr_01"`) || e.Time.UnixMicro() != time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC).UnixMicro()) {
				t.Errorf("audit row %+v", e)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d audit rows, want 2", found)
	}
}

func onAll(t *testing.T, test func(t *testing.T, i *importer, into store.Store)) {
	for _, c := range []struct {
		name      string
		from      func(*testing.T) auth
		encrypted bool
		into      func(*testing.T) store.Store
	}{
		{"sqlite to sqlite", sqliteAuth, false, sqliteStore},
		{"encrypted sqlite to sealed postgres", sqliteAuth, true, postgresStore},
		{"encrypted postgres to sqlite", postgresAuth, true, sqliteStore},
		{"postgres to sealed postgres", postgresAuth, false, postgresStore},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := &importer{t: t, from: c.from(t), encrypted: c.encrypted}
			i.from.exec(rows(t, c.encrypted)...)
			test(t, i, c.into(t))
		})
	}
}

var everything = store.ImportCounts{Tenants: 2, Roles: 2, Permissions: 2, Members: 2, UserKeys: 2, Audit: 2}

func TestEverythingMoves(t *testing.T) {
	onAll(t, func(t *testing.T, i *importer, into store.Store) {
		dry, err := i.run(into, func(c *authimport.Config) { c.Store = nil })
		if err != nil || dry.Read != everything || dry.New != (store.ImportCounts{}) {
			t.Fatalf("dry: %+v, error %v", dry, err)
		}
		if tenants, err := into.Tenants(t.Context()); err != nil || len(tenants) != 1 {
			t.Errorf("the dry run wrote: %+v, error %v", tenants, err)
		}
		sum, err := i.run(into, nil)
		if err != nil || sum.Read != everything || sum.New != everything || sum.Resumed || len(i.left) != 0 {
			t.Fatalf("%+v, error %v, left out %v", sum, err, i.left)
		}
		wantMoved(t, into)
		head, err := into.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again, err := i.run(into, nil)
		if err != nil || again.New != (store.ImportCounts{}) {
			t.Errorf("again: %+v, error %v", again, err)
		}
		wantMoved(t, into)
		i.from.exec("INSERT INTO auth_group (id, creator, role, is_active) VALUES (9, '" + globex + "', 'late', true)")
		if late, err := i.run(into, nil); err != nil || late.New != (store.ImportCounts{Roles: 1}) {
			t.Errorf("what came later: %+v, error %v", late, err)
		}
		if now, err := into.Head(t.Context()); err != nil || now.Revision.Number <= head.Revision.Number {
			t.Errorf("head %+v, error %v", now, err)
		}
	})
}

// cutting is a store on which the nth write of an import fails.
type cutting struct {
	store.Store
	left int
}

var errCut = errors.New("cut off")

func (c *cutting) Import(ctx context.Context, by store.Actor, source string, batch store.ImportBatch, cursor string, done bool) (store.ImportCounts, store.Result, error) {
	if c.left--; c.left < 0 {
		return store.ImportCounts{}, store.Result{}, errCut
	}
	return c.Store.Import(ctx, by, source, batch, cursor, done)
}

func TestAnImportThatIsCutOffGoesOn(t *testing.T) {
	from := sqliteAuth(t)
	from.exec(rows(t, false)...)
	for writes := 0; ; writes++ {
		i := &importer{t: t, from: from}
		into := sqliteStore(t)
		first, err := i.run(&cutting{into, writes}, nil)
		if err == nil {
			if writes < 8 {
				t.Errorf("it took %d writes", writes)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		rest, err := i.run(into, nil)
		if err != nil || rest.Resumed != (writes > 0) {
			t.Fatalf("after %d writes: %+v, error %v", writes, rest, err)
		}
		if got := total(first.New) + total(rest.New); got != total(everything) {
			t.Errorf("after %d writes: %d rows by both runs, want %d", writes, got, total(everything))
		}
		wantMoved(t, into)
	}
}

func total(c store.ImportCounts) int {
	return c.Tenants + c.Roles + c.Permissions + c.Members + c.UserKeys + c.Audit
}

func TestRowsThatCannotBeTakenOver(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		want string // of the error
	}{
		"a role with a space": {"INSERT INTO auth_group (id, creator, role, is_active) VALUES (9, '" + acme + "', 'not a role', true)", "table auth_group, row 9, column role"},
		"a creator of no key": {"INSERT INTO auth_group (id, creator, role, is_active) VALUES (9, 'nobody', 'x', true)", "row 9, column creator"},
		"a key of version 1":  {"INSERT INTO auth_group (id, creator, role, is_active) VALUES (9, '3f2504e0-4f89-11d3-9a0c-0305e82c3301', 'x', true)", "is no UUID4"},
		"a digest cut off":    {"UPDATE auth_api_key SET key_hash = 'abc' WHERE id = 1", "table auth_api_key, row 1, column key_hash"},
		"an audit row's time": {"UPDATE audit_log SET timestamp = 'yesterday' WHERE id = 1", "table audit_log, row 1, column timestamp"},
		"an encrypted text":   {"UPDATE auth_permission SET name = 'v2:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==' WHERE id = 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := &importer{t: t, from: sqliteAuth(t), encrypted: name == "an encrypted text"}
			i.from.exec(rows(t, i.encrypted)...)
			i.from.exec(c.sql)
			into := sqliteStore(t)
			if _, err := i.run(into, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
			sum, err := i.run(into, func(c *authimport.Config) { c.SkipBad = true })
			if err != nil || sum.Left == 0 || len(i.left) != sum.Left || !strings.Contains(strings.Join(i.left, "\n"), c.want) {
				t.Errorf("%+v, error %v, left out %v", sum, err, i.left)
			}
			for _, line := range i.left {
				if strings.Contains(line, acme) || strings.Contains(line, "not a role") {
					t.Errorf("it shows what it should not: %s", line)
				}
			}
		})
	}
}

// Links to nothing grant nothing, and are told of.
func TestDanglingLinks(t *testing.T) {
	i := &importer{t: t, from: sqliteAuth(t)}
	i.from.exec(rows(t, false)...)
	i.from.exec("INSERT INTO membership_groups VALUES (1, 3), (77, 1)", "INSERT INTO permission_groups VALUES (1, 99)")
	into := sqliteStore(t)
	sum, err := i.run(into, nil)
	if err != nil || sum.Dangling != 3 || sum.New != everything {
		t.Errorf("%+v, error %v, told %v", sum, err, i.left)
	}
	wantMoved(t, into)
}
