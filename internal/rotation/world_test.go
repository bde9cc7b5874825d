package rotation_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/rotation"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

var by = store.Actor{Name: "cli"}

// world is a database that several processes may have open, each with masters of
// its own.
type world struct {
	t    *testing.T
	open func(masters *sealing.Masters) (store.Store, error)
	// exec changes the database behind the store's back. SCHEMA. stands before the
	// names of tables.
	exec func(statement string)
}

// onEveryStore runs a test on a fresh database of each sort.
func onEveryStore(t *testing.T, test func(w *world)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "auth.sqlite3")
		open := func(m *sealing.Masters) (store.Store, error) {
			return sqlite.Open(t.Context(), sqlite.Config{Path: path, Masters: m})
		}
		test(&world{t, open, func(statement string) {
			if _, err := testkit.SQLite(t.Context(), path, strings.ReplaceAll(statement, "SCHEMA.", "")); err != nil {
				t.Fatal(err)
			}
		}})
	})
	t.Run("postgres", func(t *testing.T) {
		url := testkit.PostgresFrom(t, "migrated", func(url string) error {
			_, err := postgres.Migrate(context.Background(), url)
			return err
		})
		open := func(m *sealing.Masters) (store.Store, error) {
			return postgres.Open(t.Context(), postgres.Config{URL: url, Masters: m})
		}
		test(&world{t, open, func(statement string) {
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if _, err := conn.Exec(t.Context(), strings.ReplaceAll(statement, "SCHEMA.", "portcullis.")); err != nil {
				t.Fatal(err)
			}
		}})
	})
}

// with opens the database with masters, the wrapping one first.
func (w *world) with(masters ...string) *desk {
	w.t.Helper()
	m := parse(w.t, masters...)
	s, err := w.open(m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return &desk{t: w.t, Store: s, masters: m}
}

func parse(t *testing.T, masters ...string) *sealing.Masters {
	t.Helper()
	m, err := sealing.ParseMasters(strings.Join(masters, ","))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// desk is an open store.
type desk struct {
	store.Store
	t       *testing.T
	masters *sealing.Masters
}

func ids(m *sealing.Masters) (out []string) {
	for _, id := range m.IDs() {
		out = append(out, string(id))
	}
	return out
}

// config is a run of a kind in batches so small that there are many.
func (d *desk) config(kind store.RotationKind) rotation.Config {
	return rotation.Config{Store: d.Store, Masters: ids(d.masters), Kind: kind, Batch: 7, Pause: time.Millisecond}
}

// rotate runs a rotation that must succeed.
func (d *desk) rotate(kind store.RotationKind) rotation.Outcome {
	d.t.Helper()
	out, err := rotation.Run(d.t.Context(), d.config(kind))
	if err != nil {
		d.t.Fatalf("rotate %s: %v", kind, err)
	}
	return out
}

func (d *desk) state() store.Encryption {
	d.t.Helper()
	s, err := d.Encryption(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *desk) tenant(name string) store.TenantID {
	d.t.Helper()
	t, err := d.TenantByName(d.t.Context(), name)
	if err != nil {
		d.t.Fatal(err)
	}
	return t.ID
}

// fill makes a second tenant, and in both of them roles, permissions, members, keys
// of users, and rows of the audit, of no tenant too.
func (d *desk) fill(members int) {
	d.t.Helper()
	ctx := d.t.Context()
	do := func(_ store.Result, err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	_, r, err := d.CreateTenant(ctx, by, store.NewTenant{Name: "acme", Admitted: true})
	do(r, err)
	for _, name := range []string{store.DefaultTenant, "acme"} {
		tenant := d.tenant(name)
		description := "those who edit at " + name
		do(d.PutRole(ctx, by, tenant, "editor", &description))
		do(d.PutRole(ctx, by, tenant, "viewer", nil))
		do(d.AddPermission(ctx, by, tenant, "editor", "edit_content"))
		do(d.AddPermission(ctx, by, tenant, "viewer", "view_content"))
		for i := range members {
			do(d.AddMember(ctx, by, tenant, policy.KindUser, fmt.Sprintf("user%02d@%s", i, name), "editor", time.Time{}))
		}
		do(d.AddMember(ctx, by, tenant, policy.KindClient, "ci", "viewer", time.Time{}))
		_, r, err := d.CreateUserKey(ctx, by, store.NewUserKey{
			Tenant: tenant, User: "user00@" + name, Digest: store.Digest{byte(tenant)}, Prefix: "rak_abcdefgh", Label: "laptop of " + name,
		})
		do(r, err)
	}
	err = d.RecordAudit(ctx, []store.AuditEntry{{Time: time.Now(), Actor: "nobody", Action: store.ActionAuthFailed, Outcome: "denied", Details: `{"tried":"user00"}`}})
	if err != nil {
		d.t.Fatal(err)
	}
}

// contents is everything of the two tenants that is sealed where anything is, as
// it reads.
func (d *desk) contents() string {
	d.t.Helper()
	ctx := d.t.Context()
	var out strings.Builder
	say := func(v any, err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
		fmt.Fprintf(&out, "%+v\n", v)
	}
	for _, name := range []string{store.DefaultTenant, "acme"} {
		tenant := d.tenant(name)
		say(d.RoleList(ctx, tenant))
		for _, role := range []string{"editor", "viewer"} {
			say(d.PermissionList(ctx, tenant, role))
			say(d.MemberList(ctx, tenant, role))
		}
		keys, err := d.UserKeyList(ctx, tenant, "user00@"+name)
		for i := range keys {
			keys[i].LastUsed = time.Time{}
		}
		say(keys, err)
		grant, err := d.Grant(ctx, tenant, policy.KindUser, "user01@"+name)
		say(grant.Grant, err)
		entries, _, err := d.Audit(ctx, store.AuditQuery{Tenant: tenant, Limit: 500})
		say(slices.DeleteFunc(entries, func(e store.AuditEntry) bool { return e.Action == store.ActionGetAudit }), err)
	}
	return out.String()
}

// heartbeat reports a sidecar that lives and holds the masters of those ids.
func (d *desk) heartbeat(id string, staleness time.Duration, masters ...string) {
	d.t.Helper()
	err := d.Report(d.t.Context(), []store.Report{{
		Sidecar: id, Kind: store.ReportHeartbeat, At: time.Now(), Staleness: staleness, Masters: masters,
	}})
	if err != nil {
		d.t.Fatal(err)
	}
}
