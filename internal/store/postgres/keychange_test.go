package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
	"portcullis/policy"
)

// longAgo is a time whose audit rows go to the default partition.
var longAgo = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)

// keyChange is a sealed database in a deep rotation, and two processes on it.
type keyChange struct {
	*testing.T
	url            string
	rotates, other *Store
	tenant         store.TenantID
}

func newKeyChange(t *testing.T) *keyChange {
	t.Helper()
	cfg := Config{URL: migrated(t), Masters: newMasters(t)}
	k := &keyChange{T: t, url: cfg.URL, rotates: openSealed(t, cfg)}
	k.tenant = tenantID(t, k.rotates)
	if _, err := k.rotates.EnsureAuditPartitions(t.Context()); err != nil {
		t.Fatal(err)
	}
	rotateTest(t, k.rotates, store.RotateEnable)
	putRole(t, k.rotates, "editor")
	if _, err := k.rotates.BeginRotation(t.Context(), by, store.RotateDeep); err != nil {
		t.Fatal(err)
	}
	k.other = openSealed(t, cfg)
	k.record("the keys are known to the other process", k.other)
	return k
}

func (k *keyChange) record(resource string, st *Store) {
	k.Helper()
	if err := record(k.Context(), st, k.tenant, resource); err != nil {
		k.Fatal(err)
	}
}

func record(ctx context.Context, st *Store, tenant store.TenantID, resource string) error {
	return st.RecordAudit(ctx, []store.AuditEntry{{Time: longAgo, Tenant: tenant, Actor: "cli", User: "alice", Action: store.ActionGetAudit, Resource: resource}})
}

// hold keeps others from writing to a table, and from nothing else, until the
// function that it returns is called.
func (k *keyChange) hold(table string) (release func()) {
	k.Helper()
	conn := connect(k.T, k.url)
	for _, sql := range []string{`BEGIN`, `LOCK TABLE portcullis.` + table + ` IN SHARE MODE`} {
		if _, err := conn.Exec(k.Context(), sql); err != nil {
			k.Fatal(err)
		}
	}
	return func() {
		k.Helper()
		if _, err := conn.Exec(k.Context(), `COMMIT`); err != nil {
			k.Error(err)
		}
	}
}

// waits begins a call, and returns once it waits for a lock that pg_locks shows by
// this condition.
func (k *keyChange) waits(what, lock string, do func(ctx context.Context) error) (result <-chan error) {
	k.Helper()
	out := make(chan error, 1)
	ctx, cancel := context.WithTimeout(k.Context(), 60*time.Second)
	k.Cleanup(cancel)
	go func() { out <- do(ctx) }()
	watch := connect(k.T, k.url)
	eventually(k.T, what+" waits", func() bool {
		select {
		case err := <-out:
			k.Fatalf("%s ended without waiting, error %v", what, err)
		default:
		}
		return exists(k.T, watch, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.datname = current_database() AND NOT l.granted AND `+lock+`)`)
	})
	return out
}

func exists(t *testing.T, conn *pgx.Conn, query string) (found bool) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

const (
	awaitsAudit      = `l.relation = 'portcullis.audit_default'::regclass`
	awaitsKeys       = `l.relation = 'portcullis.encryption_keys'::regclass`
	awaitsPairs      = `l.relation = 'portcullis.tenant_keys'::regclass`
	awaitsToChange   = `l.locktype = 'advisory' AND l.mode = 'ExclusiveLock'`
	awaitsThatAreSet = `l.locktype = 'advisory' AND l.mode = 'ShareLock'`
	awaitsRevision   = `l.locktype = 'transactionid'` // of the writer that holds the row
)

func (k *keyChange) ended(what string, result <-chan error) {
	k.Helper()
	if err := <-result; err != nil {
		k.Errorf("%s: %v", what, err)
	}
}

func (k *keyChange) begin(ctx context.Context) error {
	return errOf(k.rotates.BeginTenant(ctx, by, k.tenant))
}

// notUnderTheKey counts the tenant's rows of a table that are not under its current
// key, of those that meet a condition.
func (k *keyChange) notUnderTheKey(table, condition string) int64 {
	k.Helper()
	return pastCount(k.T, k.url, fmt.Sprintf(`SELECT count(*) FROM %s t JOIN tenant_keys p USING (tenant_id) WHERE tenant_id = %d AND t.key_id <> p.key_id AND %s`, table, k.tenant, condition))
}

// wantRecorded ends the test unless everything that was recorded reads.
func (k *keyChange) wantRecorded(resources ...string) {
	k.Helper()
	for name, st := range map[string]*Store{"the one that rotates": k.rotates, "the other process": k.other} {
		entries, _, err := st.Audit(k.Context(), store.AuditQuery{Tenant: k.tenant, Limit: 500, Actions: []store.Action{store.ActionGetAudit}})
		if err != nil {
			k.Fatalf("%s: %v", name, err)
		}
		var text strings.Builder
		for _, e := range entries {
			fmt.Fprintln(&text, e.User, e.Resource)
		}
		for _, resource := range resources {
			if n := strings.Count(text.String(), "alice "+resource+"\n"); n != 1 {
				k.Errorf("%s reads %q %d times in\n%s", name, resource, n, text.String())
			}
		}
	}
}

// An audit row that is on its way holds the keys that it is under: a rotation waits
// for it, and seals it anew with the others.
func TestKeysDoNotChangeUnderAnAuditRow(t *testing.T) {
	k := newKeyChange(t)
	release := k.hold("audit_default")
	recorded := k.waits("RecordAudit", awaitsAudit, func(ctx context.Context) error { return record(ctx, k.other, k.tenant, "early") })
	begun := k.waits("BeginTenant", awaitsToChange, k.begin)
	release()
	k.ended("RecordAudit", recorded)
	k.ended("BeginTenant", begun)
	if n := k.notUnderTheKey("audit", "t.at < '2000-01-01'"); n != 2 {
		t.Errorf("%d early rows are under the former key, want both", n)
	}
	finishTenant(t, k.rotates, k.tenant)
	k.wantRecorded("early")
}

// Who comes while a tenant's keys change waits, and finds the new ones: an audit row
// and a write are sealed under no key that is on its way out.
func TestWhoComesWhileKeysChangeFindsTheNewOnes(t *testing.T) {
	k := newKeyChange(t)
	release := k.hold("encryption_keys")
	begun := k.waits("BeginTenant", awaitsKeys, k.begin)
	recorded := k.waits("RecordAudit", awaitsThatAreSet, func(ctx context.Context) error { return record(ctx, k.other, k.tenant, "late") })
	member := k.waits("AddMember", awaitsRevision, func(ctx context.Context) error {
		return errOf(k.other.AddMember(ctx, by, k.tenant, policy.KindUser, "alice", "editor", time.Time{}))
	})
	release()
	k.ended("BeginTenant", begun)
	k.ended("RecordAudit", recorded)
	k.ended("AddMember", member)
	if n := k.notUnderTheKey("audit", "t.at < '2000-01-01'"); n != 1 {
		t.Errorf("%d rows of that time are under the former key, want the one from before", n)
	}
	if n := k.notUnderTheKey("memberships", "true"); n != 0 {
		t.Errorf("%d memberships were made under the former key", n)
	}
	finishTenant(t, k.rotates, k.tenant)
	k.wantRecorded("late")
}

// The same where the former key goes: what was on its way is under the one that stays.
func TestWhoComesWhileAKeyGoesFindsTheOneThatStays(t *testing.T) {
	k := newKeyChange(t)
	if err := k.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, done, err := k.rotates.Reseal(t.Context(), k.tenant, store.ResealCursor{}, 1000, nil); err != nil || !done {
		t.Fatalf("done %v, %v", done, err)
	}
	release := k.hold("tenant_keys")
	finished := k.waits("FinishTenant", awaitsPairs, func(ctx context.Context) error {
		return errOf(k.rotates.FinishTenant(ctx, by, k.tenant))
	})
	// The other process has heard of the former key alone.
	recorded := k.waits("RecordAudit", awaitsThatAreSet, func(ctx context.Context) error { return record(ctx, k.other, k.tenant, "late") })
	release()
	k.ended("FinishTenant", finished)
	k.ended("RecordAudit", recorded)
	if n := k.notUnderTheKey("audit", "true"); n != 0 {
		t.Errorf("%d rows are under a key that is gone", n)
	}
	k.wantRecorded("late")
}
