// Package storetest is the conformance suite of the store contract: SQLite and
// Postgres run it, and pass it whole. What the contract leaves open (how names
// sort, what a fresh store holds) is settled here.
package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// Harness opens stores for the suite. Every function ends the test on failure,
// and leaves closing to t.Cleanup.
type Harness struct {
	// Open makes an empty database, in clear and in no chain, and opens it with these
	// keys.
	Open func(t *testing.T, keys sealing.ChainKeys) store.Store
	// OpenCopy is Open, of a copy of the database that prepare filled: prepare runs once
	// for each name. The copy has a history of its own. nil has each database prepared
	// by itself.
	OpenCopy func(t *testing.T, name string, masters *sealing.Masters, prepare func(st store.Store)) store.Store
	// Reopen opens the database of st once more, as another process would: nothing
	// in memory is shared. The error is the store's own, for not opening.
	Reopen func(t *testing.T, st store.Store, keys sealing.ChainKeys) (store.Store, error)
	// OpenAt is Open with a clock. nil leaves out what is about clocks.
	OpenAt func(t *testing.T, masters *sealing.Masters, now func() time.Time) store.Store
	// Touch commits one write through the store's own write path, with a change
	// set (store.ChangeSet) that names each of the principals of tenant, and any
	// audit row. No single write of the contract touches so many.
	Touch func(t *testing.T, st store.Store, by store.Actor, tenant store.TenantID, principals []store.Index) store.Result
	// Exec runs statements of SQL on the database of st past the store, as other
	// hands would. Tables go by their bare names.
	Exec func(t *testing.T, st store.Store, statements ...string)
	// Bytes writes bytes as a literal of SQL.
	Bytes func(b []byte) string
	// Count reads the one whole number that a query gives, past the store.
	Count func(t *testing.T, st store.Store, query string) int64

	// AuditTime and AuditUser are the columns of the audit whose names differ: when it
	// was, and whom it is about.
	AuditTime, AuditUser string

	// Brief leaves out the groups on sealed databases that run no other statements
	// than the rest does.
	Brief bool

	sealed  bool             // each new database is sealed before its test begins
	chained bool             // each new database's audit is chained before its test begins, and verified after it
	masters *sealing.Masters // of databases that were sealed before
}

// openCopy is OpenCopy, where there is one.
func (h *Harness) openCopy(t *testing.T, name string, masters *sealing.Masters, prepare func(st store.Store)) store.Store {
	t.Helper()
	if h.OpenCopy != nil {
		return h.OpenCopy(t, name, masters, prepare)
	}
	st := h.Open(t, sealing.ChainKeys{Encryption: masters})
	prepare(st)
	return st
}

// Run runs the suite: every group on databases in clear, every group once more on
// sealed ones, with the same results and messages, and what is about sealing itself.
//
// Tests with a database of their own run in parallel.
func Run(t *testing.T, h Harness) {
	h.masters = newMasters(t)
	runGroups(t, h)
	if !h.Brief {
		t.Run("Sealed", func(t *testing.T) {
			t.Parallel()
			sealed := h
			sealed.sealed = true
			runGroups(t, sealed)
		})
	}
	if !h.Brief {
		t.Run("Chained", func(t *testing.T) {
			t.Parallel()
			chained := h
			chained.chained = true
			runChained(t, chained)
		})
	}
	for _, group := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"AuditChain", testAuditChain},
		{"AuditQueries", testAuditQueries},
		{"Encryption", testEncryption},
		{"Masters", testMasters},
		{"KeyIDs", testKeyIDs},
		{"Rotation", testRotation},
		{"RotationWrites", testRotationWrites},
		{"Rotating", testRotating},
		{"DenialsRotated", testDenialsRotated},
		{"FamiliesRotated", testFamiliesRotated},
		{"Unreadable", testUnreadable},
	} {
		if h.Brief && group.name != "AuditChain" && group.name != "Encryption" && group.name != "Rotation" {
			continue
		}
		t.Run(group.name, inParallel(group.run, h))
	}
}

func inParallel(run func(*testing.T, Harness), h Harness) func(*testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		run(t, h)
	}
}

func runGroups(t *testing.T, h Harness) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Fresh", testFresh},
		{"Writes", testWrites},
		{"Refusals", testRefusals},
		{"TokenRefusals", testTokenRefusals},
		{"Delta", testDelta},
		{"Tenants", testTenants},
		{"Roles", testRoles},
		{"Members", testMembers},
		{"Keys", testKeys},
		{"RegisterKey", testRegisterKey},
		{"UserKeys", testUserKeys},
		{"StrictUsers", testStrictUsers},
		{"Denials", testDenials},
		{"SigningKeys", testSigningKeys},
		{"RefreshTokens", testRefreshTokens},
		{"FamiliesRevoked", testFamiliesRevoked},
		{"KeyRotations", testKeyRotations},
		{"Import", testImport},
		{"OpenTenants", testOpenTenants},
		{"Bootstrap", testBootstrap},
		{"Audit", testAudit},
		{"Reports", testReports},
		{"Wait", testWait},
		{"Cancel", testCancel},
		{"Snapshots", testSnapshots},
		{"Close", testClose},
	} {
		t.Run(group.name, inParallel(group.run, h))
	}
}

// callTimeout is how long the suite waits for what should take moments; a test
// as a whole has ten times that.
const callTimeout = 30 * time.Second

// kit is one store under test, with calls that end the test on error.
type kit struct {
	*testing.T
	store.Store
	h       Harness
	masters *sealing.Masters // nil: none
	// auditKeys are those of the audit's chain; nil: none.
	auditKeys *sealing.Masters
	ctx       context.Context
	by        store.Actor
	tenant    store.TenantID // default
}

func newKit(t *testing.T, h Harness) *kit {
	t.Helper()
	if h.sealed {
		return newSealedKit(t, h)
	}
	if h.chained {
		return newChainedKit(t, h)
	}
	return kitOn(t, h, h.openCopy(t, "clear", nil, func(store.Store) {}), sealing.ChainKeys{})
}

// openKit is a store on an empty database in clear.
func openKit(t *testing.T, h Harness, keys sealing.ChainKeys) *kit {
	t.Helper()
	return kitOn(t, h, h.Open(t, keys), keys)
}

func kitOn(t *testing.T, h Harness, st store.Store, keys sealing.ChainKeys) *kit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*callTimeout)
	t.Cleanup(cancel)
	k := &kit{T: t, Store: st, h: h, masters: keys.Encryption, auditKeys: keys.Audit, ctx: ctx, by: actor()}
	k.tenant = k.tenantID(store.DefaultTenant)
	return k
}

// second is another handle on the same database.
func (k *kit) second() *kit {
	k.Helper()
	return k.secondWith(k.masters)
}

// secondWith is another handle that holds other masters.
func (k *kit) secondWith(masters *sealing.Masters) *kit {
	k.Helper()
	return k.secondOn(sealing.ChainKeys{Audit: k.auditKeys, Encryption: masters})
}

// secondOn is another handle that holds other keys.
func (k *kit) secondOn(keys sealing.ChainKeys) *kit {
	k.Helper()
	st, err := k.h.Reopen(k.T, k.Store, keys)
	return kitOn(k.T, k.h, must[store.Store](k)(st, err), keys)
}

func actor() store.Actor {
	return store.Actor{
		Name:      "client:ops",
		Address:   "192.0.2.7",
		UserAgent: "suite/1.0",
		RequestID: "req-0123456789",
	}
}

func must[T any](k *kit) func(v T, err error) T {
	return func(v T, err error) T {
		k.Helper()
		if err != nil {
			k.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func (k *kit) tenantID(name string) store.TenantID {
	k.Helper()
	return must[store.Tenant](k)(k.TenantByName(k.ctx, name)).ID
}

func (k *kit) newTenant(name string) store.TenantID {
	k.Helper()
	t, _, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: name, Admitted: true})
	return must[store.Tenant](k)(t, err).ID
}

func (k *kit) head() store.Revision {
	k.Helper()
	return must[store.Head](k)(k.Head(k.ctx)).Revision
}

// done ends the test unless the write did what it was asked.
func (k *kit) done(r store.Result, err error) store.Result {
	k.Helper()
	if err != nil || r.Outcome != store.OutcomeDone {
		k.Fatalf("got outcome %q, error %v; want done", r.Outcome, err)
	}
	return r
}

func (k *kit) role(tenant store.TenantID, names ...string) {
	k.Helper()
	for _, name := range names {
		k.done(k.PutRole(k.ctx, k.by, tenant, name, nil))
	}
}

func (k *kit) roleID(tenant store.TenantID, name string) policy.RoleID {
	k.Helper()
	for _, spec := range must[store.TenantRoles](k)(k.Roles(k.ctx, tenant)).Roles {
		if spec.Name == name {
			return spec.ID
		}
	}
	k.Fatalf("role %q is not in the table", name)
	return 0
}

// keyOf is what the tenant's principals' indexes are computed under.
func (k *kit) keyOf(tenant store.TenantID) store.KeyID {
	k.Helper()
	for _, t := range must[[]store.Tenant](k)(k.Tenants(k.ctx)) {
		if t.ID == tenant {
			return t.Key
		}
	}
	k.Fatalf("there is no tenant %d", tenant)
	return 0
}

func (k *kit) index(tenant store.TenantID, kind policy.Kind, id string) store.Index {
	k.Helper()
	return must[store.Index](k)(k.PrincipalIndex(k.ctx, tenant, k.keyOf(tenant), kind, id))
}

func (k *kit) grant(tenant store.TenantID, kind policy.Kind, id string) policy.Grant {
	k.Helper()
	return must[store.GrantRow](k)(k.Grant(k.ctx, tenant, kind, id)).Grant
}

// names are the role names that the principal holds, sorted.
func (k *kit) names(tenant store.TenantID, kind policy.Kind, id string) []string {
	k.Helper()
	byID := make(map[policy.RoleID]string)
	for _, spec := range must[store.TenantRoles](k)(k.Roles(k.ctx, tenant)).Roles {
		byID[spec.ID] = spec.Name
	}
	var out []string
	for _, m := range k.grant(tenant, kind, id) {
		if name, ok := byID[m.Role]; ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (k *kit) newKey(tenant store.TenantID, name, secret string) store.ClientKey {
	k.Helper()
	key, _, err := k.CreateKey(k.ctx, k.by, keyOf(tenant, name, secret))
	return must[store.ClientKey](k)(key, err)
}

func (k *kit) key(secret string) *store.ClientKey {
	k.Helper()
	return must[store.KeyRow](k)(k.Key(k.ctx, digestOf(secret))).Key
}

// audit is the newest rows of the tenant.
func (k *kit) audit(tenant store.TenantID) ([]store.AuditEntry, int) {
	k.Helper()
	entries, total, err := k.Audit(k.ctx, store.AuditQuery{Tenant: tenant, Limit: 500})
	if err != nil {
		k.Fatalf("read the audit: %v", err)
	}
	return entries, total
}

func (k *kit) delta(after store.Revision, held ...store.TenantID) store.Delta {
	k.Helper()
	return must[store.Delta](k)(k.Delta(k.ctx, after, held))
}

func (k *kit) wantErr(err, want error) {
	k.Helper()
	if !errors.Is(err, want) {
		k.Errorf("got error %v, want one that is %q", err, want)
	}
}

// inMicroseconds is a time that every store keeps as it is.
func inMicroseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func sameTime(a, b time.Time) bool {
	return a.IsZero() == b.IsZero() && a.Sub(b).Abs() < time.Microsecond
}

// about reports whether t lies between from and to, give or take what a
// database's clock may differ from this process's.
func about(t, from, to time.Time) bool {
	return t.After(from.Add(-5*time.Second)) && t.Before(to.Add(5*time.Second))
}
