package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/storetest"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

func TestRoleNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"portcullis_admin": true, "_x9": true, strings.Repeat("a", maxRoleName): true, "user": true,
		"": false, "Admin": false, "9x": false, "a-b": false, `a"b`: false, "a b": false, "ä": false, "a;b": false, "a\n": false,
		"pg_monitor": false, "public": false, "none": false, strings.Repeat("a", maxRoleName+1): false,
	} {
		if err := CheckRoleName(name); (err == nil) != ok {
			t.Errorf("%q: got %v, want it taken: %v", name, err, ok)
		}
	}
	if err := (GroupRoles{Admin: "one", Sidecar: "one"}).Check(); err == nil {
		t.Error("one role for both, want a refusal")
	}
}

// The suite's writes and lists run as an admin process's user, what a sidecar does
// as a sidecar's, and what writes the audit anew as the owner.
func TestConformanceOfTheTwoRoles(t *testing.T) {
	var dbs sync.Map // *dividedStore to its divided
	open := func(t *testing.T, db divided, keys sealing.ChainKeys) (_ store.Store, err error) {
		st := &dividedStore{}
		for into, cfg := range map[**Store]Config{
			&st.Store:   {URL: db.admin, Masters: keys.Encryption, AuditKeys: keys.Audit},
			&st.owner:   {URL: db.owner, Masters: keys.Encryption, AuditKeys: keys.Audit},
			&st.sidecar: {URL: db.sidecar, Masters: keys.Encryption, ReadOnly: true},
		} {
			if *into, err = Open(context.Background(), cfg); err != nil {
				return nil, err
			}
			closeAtEnd(t, *into)
		}
		dbs.Store(st, db)
		return st, nil
	}
	superOf := func(st store.Store) string {
		db, _ := dbs.Load(st)
		return db.(divided).super
	}
	storetest.Run(t, storetest.Harness{
		Brief: true,
		Open: func(t *testing.T, keys sealing.ChainKeys) store.Store {
			st, err := open(t, divide(t), keys)
			if err != nil {
				t.Fatal(err)
			}
			return st
		},
		Reopen: func(t *testing.T, st store.Store, keys sealing.ChainKeys) (store.Store, error) {
			db, _ := dbs.Load(st)
			return open(t, db.(divided), keys)
		},
		Touch: func(t *testing.T, st store.Store, by store.Actor, tenant store.TenantID, principals []store.Index) store.Result {
			t.Helper()
			return touch(t, st.(*dividedStore).Store, by, tenant, principals)
		},
		Exec: func(t *testing.T, st store.Store, statements ...string) {
			t.Helper()
			pastExec(t, superOf(st), statements...)
		},
		Bytes: func(b []byte) string { return fmt.Sprintf(`'\x%x'`, b) },
		Count: func(t *testing.T, st store.Store, query string) int64 {
			t.Helper()
			return pastCount(t, superOf(st), query)
		},
	})
}

// dividedStore gives what store.Reader has to a sidecar's user, and what a rotation or
// a pruning needs of the owner to the owner.
type dividedStore struct {
	*Store
	sidecar, owner *Store
}

func (d *dividedStore) Reseal(ctx context.Context, tenant store.TenantID, from store.ResealCursor, limit int, leave func(error)) (store.ResealCursor, int64, bool, error) {
	return d.owner.Reseal(ctx, tenant, from, limit, leave)
}
func (d *dividedStore) PruneAudit(ctx context.Context, by store.Actor, tenant store.TenantID, before time.Time) (int64, store.Result, error) {
	return d.owner.PruneAudit(ctx, by, tenant, before)
}
func (d *dividedStore) Head(ctx context.Context) (store.Head, error) { return d.sidecar.Head(ctx) }
func (d *dividedStore) Bootstrap(ctx context.Context, yield func(store.Digest) error) (store.Base, error) {
	return d.sidecar.Bootstrap(ctx, yield)
}
func (d *dividedStore) Delta(ctx context.Context, after store.Revision, held []store.TenantID) (store.Delta, error) {
	return d.sidecar.Delta(ctx, after, held)
}
func (d *dividedStore) Roles(ctx context.Context, tenant store.TenantID) (store.TenantRoles, error) {
	return d.sidecar.Roles(ctx, tenant)
}
func (d *dividedStore) PrincipalIndex(ctx context.Context, tenant store.TenantID, key store.KeyID, kind policy.Kind, id string) (store.Index, error) {
	return d.sidecar.PrincipalIndex(ctx, tenant, key, kind, id)
}
func (d *dividedStore) Grant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	return d.sidecar.Grant(ctx, tenant, kind, id)
}
func (d *dividedStore) Key(ctx context.Context, digest store.Digest) (store.KeyRow, error) {
	return d.sidecar.Key(ctx, digest)
}
func (d *dividedStore) UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error) {
	return d.sidecar.UserKey(ctx, digest)
}
func (d *dividedStore) Report(ctx context.Context, reports []store.Report) error {
	return d.sidecar.Report(ctx, reports)
}
func (d *dividedStore) Wait(ctx context.Context) error { return d.sidecar.Wait(ctx) }
func (d *dividedStore) Close() error {
	// Their errors are nil, always.
	_, _ = d.sidecar.Close(), d.owner.Close()
	return d.Store.Close()
}

// An admin process reads for its own cache, reports where it serves as both halves,
// folds, prunes and makes partitions.
func TestWhatElseAnAdminDoes(t *testing.T) {
	db := divide(t)
	st := openTest(t, db.admin)
	woken := waiter(t, st)
	revision := putRole(t, st, "editor").Revision
	wake(t, woken, "LISTEN as an admin's user")
	if _, err := st.Bootstrap(t.Context(), func(store.Digest) error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := st.Delta(t.Context(), store.Revision{Number: revision.Number, Tag: revision.Tag}, nil); err != nil {
		t.Error(err)
	}
	if err := st.Report(t.Context(), []store.Report{{Sidecar: "s", Kind: store.ReportApplied, At: st.now(), Applied: 1, Staleness: 1}}); err != nil {
		t.Error(err)
	}
	if err := st.FoldReports(t.Context()); err != nil {
		t.Error(err)
	}
	if err := st.PruneChanges(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if _, err := st.EnsureAuditPartitions(t.Context()); err != nil {
		t.Error(err)
	}
}

func ensure(t *testing.T, url string, roles GroupRoles) EnsuredRoles {
	t.Helper()
	done, err := EnsureRoles(t.Context(), url, roles)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestEnsureRolesTwiceIsNoChange(t *testing.T) {
	db := divide(t)
	if done := ensure(t, db.owner, DefaultGroupRoles()); len(done.Made)+len(done.Missing)+len(done.Granted)+len(done.Revoked) > 0 {
		t.Errorf("the second time: %+v", done)
	}
}

// What a former version or a hand gave too much is taken back, from PUBLIC too, in
// columns and on partitions too, and what was taken away is given again.
func TestEnsureRolesMendsWhatIsThere(t *testing.T) {
	db := divide(t)
	execSQL(t, db.owner,
		`GRANT DELETE, TRUNCATE ON portcullis.audit TO portcullis_admin`,
		`GRANT SELECT ON portcullis.audit_default TO portcullis_sidecar`,
		`GRANT SELECT (actor) ON portcullis.audit TO portcullis_sidecar`,
		`GRANT SELECT ON portcullis.client_keys TO PUBLIC`,
		`GRANT SELECT ON portcullis.roles TO portcullis_sidecar WITH GRANT OPTION`,
		`GRANT CREATE ON SCHEMA portcullis TO portcullis_admin`,
		`GRANT EXECUTE ON FUNCTION portcullis.ensure_audit_partitions(date, integer) TO PUBLIC`,
		`GRANT UPDATE ON SEQUENCE portcullis.role_ids TO portcullis_admin`,
		`REVOKE SELECT ON portcullis.memberships FROM portcullis_sidecar`,
		`CREATE TABLE portcullis.of_the_dba (x integer)`,
		`GRANT SELECT ON portcullis.of_the_dba TO PUBLIC`,
	)
	done := ensure(t, db.owner, DefaultGroupRoles())
	want := []string{
		`REVOKE DELETE ON TABLE portcullis.audit FROM "portcullis_admin" CASCADE`,
		`REVOKE TRUNCATE ON TABLE portcullis.audit FROM "portcullis_admin" CASCADE`,
		`REVOKE SELECT ON TABLE portcullis.audit_default FROM "portcullis_sidecar" CASCADE`,
		`REVOKE SELECT ("actor") ON TABLE portcullis.audit FROM "portcullis_sidecar" CASCADE`,
		`REVOKE SELECT ON TABLE portcullis.client_keys FROM PUBLIC CASCADE`,
		`REVOKE GRANT OPTION FOR SELECT ON TABLE portcullis.roles FROM "portcullis_sidecar" CASCADE`,
		`REVOKE CREATE ON SCHEMA portcullis FROM "portcullis_admin" CASCADE`,
		`REVOKE EXECUTE ON FUNCTION portcullis.ensure_audit_partitions(date, integer) FROM PUBLIC CASCADE`,
		`REVOKE UPDATE ON SEQUENCE portcullis.role_ids FROM "portcullis_admin" CASCADE`,
	}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(done.Revoked)); !slices.Equal(got, want) {
		t.Errorf("revoked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := []string{`GRANT SELECT ON TABLE portcullis.memberships TO "portcullis_sidecar"`}; !slices.Equal(done.Granted, want) {
		t.Errorf("granted %q, want %q", done.Granted, want)
	}
	conn := connect(t, db.sidecar)
	if !refused(t, conn, `SELECT actor FROM portcullis.audit`) || !refused(t, conn, `SELECT count(*) FROM portcullis.audit_default`) {
		t.Error("a sidecar still reads the audit")
	}
	if refused(t, conn, `SELECT x FROM portcullis.of_the_dba`) {
		t.Error("a table that is not ours was changed")
	}
}

func TestAnOwnerWhoMayNotMakeRoles(t *testing.T) {
	url := testkit.PostgresFrom(t, "undivided", func(url string) error { return prepareDivided(context.Background(), url) })
	roles := GroupRoles{Admin: "absent_admin", Sidecar: "absent_sidecar"}
	execSQL(t, url, `ALTER ROLE `+ownerUser+` NOCREATEROLE`)
	defer execSQL(t, url, `ALTER ROLE `+ownerUser+` CREATEROLE`)
	execSQL(t, as(url, ownerUser), `GRANT SELECT ON portcullis.client_keys TO PUBLIC`)
	done := ensure(t, as(url, ownerUser), roles)
	if !slices.Equal(done.Missing, roles.names()) || len(done.Made) > 0 || len(done.Granted) > 0 || len(done.Revoked) != 1 {
		t.Errorf("without the right to make roles: %+v; want both missing, and PUBLIC's right revoked", done)
	}
	// The DBA makes one, and the next migration grants it what it needs.
	execSQL(t, url, `CREATE ROLE absent_sidecar NOLOGIN`)
	defer execSQL(t, url, `DROP OWNED BY absent_sidecar`, `DROP ROLE absent_sidecar`)
	done = ensure(t, as(url, ownerUser), roles)
	if !slices.Equal(done.Missing, []string{"absent_admin"}) || len(done.Granted) == 0 ||
		slices.ContainsFunc(done.Granted, func(sql string) bool { return !strings.HasSuffix(sql, ` TO "absent_sidecar"`) }) {
		t.Errorf("with one of the roles there: %+v", done)
	}
}

func TestRolesThatNoGrantLimitsAreRefused(t *testing.T) {
	db := divide(t)
	for name, c := range map[string]struct {
		set, unset string
		url        string
		roles      GroupRoles
		wants      string
	}{
		"a superuser": {
			set: `CREATE ROLE mighty SUPERUSER NOLOGIN`, unset: `DROP ROLE mighty`, url: db.owner,
			roles: GroupRoles{Admin: "mighty", Sidecar: "portcullis_sidecar"}, wants: "ALTER ROLE mighty NOSUPERUSER",
		},
		"the owner": {
			url: db.owner, roles: GroupRoles{Admin: "portcullis_admin", Sidecar: ownerUser}, wants: "has the rights of " + ownerUser,
		},
		"a member of the owner": {
			set: `GRANT ` + ownerUser + ` TO portcullis_sidecar`, unset: `REVOKE ` + ownerUser + ` FROM portcullis_sidecar`,
			url: db.super, roles: DefaultGroupRoles(), wants: "REVOKE " + ownerUser + " FROM portcullis_sidecar",
		},
		"a sidecar that is an admin": {
			set: `GRANT portcullis_admin TO portcullis_sidecar`, unset: `REVOKE portcullis_admin FROM portcullis_sidecar`,
			url: db.owner, roles: DefaultGroupRoles(), wants: "REVOKE portcullis_admin FROM portcullis_sidecar",
		},
		"somebody who owns nothing": {url: db.admin, roles: DefaultGroupRoles(), wants: "run portcullis migrate as " + ownerUser},
	} {
		t.Run(name, func(t *testing.T) {
			if c.set != "" {
				execSQL(t, db.super, c.set)
				defer execSQL(t, db.super, c.unset)
			}
			if _, err := EnsureRoles(t.Context(), c.url, c.roles); err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("got %v, want an error with %q", err, c.wants)
			}
		})
	}
	t.Run("an empty database", func(t *testing.T) {
		if _, err := EnsureRoles(t.Context(), testkit.Postgres(t), DefaultGroupRoles()); err == nil || !strings.Contains(err.Error(), "migrate it first") {
			t.Errorf("got %v", err)
		}
	})
}
