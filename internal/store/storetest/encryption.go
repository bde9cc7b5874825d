package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// refused ends the test unless the call was refused as one that does not fit the
// state of the encryption, without a revision and without an audit row.
func (k *kit) refused(what string, call func() error) {
	k.Helper()
	before, rows := k.head(), k.allAudit(0)
	err := call()
	if !errors.Is(err, store.ErrEncryption) {
		k.Errorf("%s: error %v, want one that is %q", what, err, store.ErrEncryption)
	}
	if k.head() != before || k.allAudit(0) != rows {
		k.Errorf("%s: the refusal left something behind", what)
	}
}

func (k *kit) encryption() store.Encryption {
	k.Helper()
	return must[store.Encryption](k)(k.Encryption(k.ctx))
}

func (k *kit) begin(kind store.RotationKind) func() error {
	return func() error { _, err := k.BeginRotation(k.ctx, k.by, kind); return err }
}

// testEncryption: the states that a database goes through, and what each refuses.
func testEncryption(t *testing.T, h Harness) {
	t.Run("in clear", func(t *testing.T) {
		for _, k := range []*kit{openKit(t, h, sealing.ChainKeys{}), newClearKit(t, h)} {
			if e := k.encryption(); e != (store.Encryption{}) {
				t.Errorf("state %+v, want none", e)
			}
			k.refused("new keys where there are none", k.begin(store.RotateDeep))
			k.refused("to disable what is not enabled", k.begin(store.RotateDisable))
			k.refused("no kind", k.begin(0))
			k.refused("a tenant without a rotation", func() error { _, err := k.BeginTenant(k.ctx, k.by, k.tenant); return err })
			k.refused("the end of no rotation", func() error { _, err := k.FinishRotation(k.ctx, k.by); return err })
			if e := k.encryption(); e != (store.Encryption{}) {
				t.Errorf("refusals made of it %+v", e)
			}
			k.furnish(k.tenant)
			k.wantAllUnder(k.tenant, 0)
		}
	})

	t.Run("without a master nothing is sealed", func(t *testing.T) {
		k := openKit(t, h, sealing.ChainKeys{})
		_, err := k.BeginRotation(k.ctx, k.by, store.RotateEnable)
		if err == nil || !strings.Contains(err.Error(), "AUTH_ENCRYPTION_KEY is not set") {
			t.Errorf("error %v, want one that names the setting", err)
		}
		k.refused("enabling without a master", k.begin(store.RotateEnable))
	})

	for _, kind := range rotationKinds {
		t.Run("while a rotation is under way: "+kind.String(), func(t *testing.T) {
			k := newKitFor(t, h, kind)
			second := k.second()
			result := k.done(k.BeginRotation(k.ctx, k.by, kind))
			if result.Revision != k.head() {
				t.Errorf("it returned %v, the head is %v", result.Revision, k.head())
			}
			for _, on := range []*kit{k, second, k.second()} {
				if e := on.encryption(); e.Rotation != kind {
					t.Errorf("state %+v, want the rotation in it", e)
				}
				r, err := on.BeginRotation(k.ctx, k.by, kind)
				if err != nil || r.Outcome != store.OutcomeUnchanged {
					t.Errorf("begun again: %v, %v; want unchanged", r.Outcome, err)
				}
				for _, other := range rotationKinds {
					if other != kind {
						on.refused("another kind: "+other.String(), on.begin(other))
					}
				}
				on.refused("an end with tenants left", func() error { _, err := on.FinishRotation(k.ctx, k.by); return err })
			}
		})
	}

	t.Run("sealed", func(t *testing.T) {
		k := newSealedKit(t, h)
		first := string(k.masters.First())
		want := store.Encryption{Enabled: true, Master: first, Keys: 2} // of default, and of what belongs to no tenant
		for _, on := range []*kit{k, k.second()} {
			if e := on.encryption(); e != want {
				t.Errorf("state %+v, want %+v", e, want)
			}
			on.refused("to enable what is enabled", on.begin(store.RotateEnable))
			on.refused("a tenant without a rotation", func() error { _, err := on.BeginTenant(k.ctx, k.by, k.tenant); return err })
			on.refused("the end of no rotation", func() error { _, err := on.FinishRotation(k.ctx, k.by); return err })
		}
		k.newTenant("acme")
		if want.Keys++; k.encryption() != want {
			t.Errorf("with one more tenant %+v, want %+v", k.encryption(), want)
		}
	})

	t.Run("disabled again, it is in clear, and any program opens it", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		before := k.look(k.tenant)
		k.rotate(store.RotateDisable, 7, k.alone)
		if e := k.encryption(); e != (store.Encryption{}) {
			t.Errorf("state %+v, want none", e)
		}
		for _, tenant := range []store.TenantID{0, k.tenant} {
			k.wantAllUnder(tenant, 0)
		}
		for _, table := range []string{"encryption", "encryption_keys", "tenant_keys"} {
			if n := h.Count(t, k.Store, "SELECT count(*) FROM "+table); n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
		k.wantLook("afterwards", k.tenant, before)
		k.secondWith(nil).wantLook("for a program without a master", k.tenant, before)
		k.secondWith(newMasters(t)).wantLook("for a program with another master", k.tenant, before)
		// And once more, under another master.
		other := k.secondWith(newMasters(t))
		other.rotate(store.RotateEnable, 7, other.alone)
		other.wantLook("sealed once more", k.tenant, before)
	})

	t.Run("what lies in the tables tells nothing", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		k.wantAllUnder(k.tenant, k.keyOf(k.tenant))
		for column, secrets := range map[string][]string{
			"memberships.principal_id": {"alice", "bob", "ci"},
			"permissions.name":         {"write", "read"},
			"roles.description":        {"May edit", ""},
			"user_keys.user_id":        {"alice"},
			"user_keys.label":          {"of hers"},
		} {
			table, name, _ := strings.Cut(column, ".")
			for _, secret := range secrets {
				if n := h.Count(t, k.Store, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s = '%s'", table, name, secret)); n > 0 {
					t.Errorf("%d rows hold %s = %q", n, column, secret)
				}
			}
		}
	})

	t.Run("the trail of the encryption belongs to no tenant", testTrailOfEncryption(h))
	t.Run("an index is under the key that is named", testIndexKeys(h))
}

func testTrailOfEncryption(h Harness) func(*testing.T) {
	return func(t *testing.T) {
		k := newSealedKit(t, h)
		_, ours := k.audit(k.tenant)
		_, rows := k.audit(0)
		deep := func(step string) string { return fmt.Sprintf(`{"kind": "deep", "step": %q}`, step) }
		check := func(step, resource string, call func() (store.Result, error)) {
			t.Helper()
			r := k.done(call())
			entries, total := k.audit(0)
			if total != rows+1 {
				t.Fatalf("%s: %d audit rows of no tenant, want %d", step, total, rows+1)
			}
			rows = total
			got := entries[0]
			want := store.AuditEntry{ID: got.ID, Time: got.Time, Details: got.Details, Actor: k.by.Name, Address: k.by.Address, UserAgent: k.by.UserAgent,
				RequestID: k.by.RequestID, Action: store.ActionRotateEncryption, Resource: resource, Outcome: "done", Success: true, Revision: r.Revision.Number}
			if got != want {
				t.Errorf("%s\n got %+v\nwant %+v", step, got, want)
			}
			if !strings.Contains(got.Details, `"kind"`) || !strings.Contains(got.Details, `"deep"`) || !strings.Contains(got.Details, `"step"`) {
				t.Errorf("%s: details %s, want such as %s", step, got.Details, deep(step))
			}
		}
		check("begin", store.EncryptionResource, func() (store.Result, error) { return k.BeginRotation(k.ctx, k.by, store.RotateDeep) })
		for _, tenant := range []store.TenantID{k.tenant, 0} {
			check("begin tenant", store.TenantEncryptionResource(tenant), func() (store.Result, error) { return k.BeginTenant(k.ctx, k.by, tenant) })
			k.resealAll(tenant, 100, k.alone)
			check("finish tenant", store.TenantEncryptionResource(tenant), func() (store.Result, error) { return k.FinishTenant(k.ctx, k.by, tenant) })
		}
		check("finish", store.EncryptionResource, func() (store.Result, error) { return k.FinishRotation(k.ctx, k.by) })
		if _, total := k.audit(k.tenant); total != ours {
			t.Errorf("%d audit rows of default, there were %d", total, ours)
		}
	}
}

func testIndexKeys(h Harness) func(*testing.T) {
	return func(t *testing.T) {
		k := newSealedKit(t, h)
		index := func(on *kit, key store.KeyID) (store.Index, error) {
			return on.PrincipalIndex(k.ctx, k.tenant, key, policy.KindUser, "alice")
		}
		one := k.keyOf(k.tenant)
		under := must[store.Index](k)(index(k, one))
		if under == store.PlainIndex(k.tenant, policy.KindUser, "alice") {
			t.Error("the index is the plain one")
		}
		unknown := func(what string, on *kit, key store.KeyID) {
			t.Helper()
			_, err := index(on, key)
			if !errors.Is(err, store.ErrKeyGone) {
				t.Errorf("%s: %v, want one that is %q", what, err, store.ErrKeyGone)
			}
		}
		unknown("a key that never was", k, one+1000)
		k.done(k.BeginRotation(k.ctx, k.by, store.RotateDeep))
		stale := k.second()
		stale.index(k.tenant, policy.KindUser, "alice")
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		two := k.keyOf(k.tenant)
		if two == one {
			t.Fatal("the tenant was begun, and has its former key")
		}
		for name, on := range map[string]*kit{"this handle": k, "one that knows the former": stale, "a new one": k.second()} {
			if got, err := index(on, one); err != nil || got != under {
				t.Errorf("%s, under the former key: %x, %v; want %x", name, got, err, under)
			}
			if got, err := index(on, two); err != nil || got == under || got != must[store.Index](k)(index(k, two)) {
				t.Errorf("%s, under the new key: %x, %v", name, got, err)
			}
		}
		k.resealAll(k.tenant, 100, k.alone)
		k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		unknown("the former key, for a new handle", k.second(), one)
		for name, on := range map[string]*kit{"this handle": k, "one that knows the former": stale} {
			// It may have the key in memory. The index is that key's, or there is none.
			if got, err := index(on, one); err == nil && got != under || err != nil && !errors.Is(err, store.ErrKeyGone) {
				t.Errorf("%s, under the key that is gone: %x, %v", name, got, err)
			}
		}
		acme := k.newTenant("acme")
		if got, err := index(k, k.keyOf(acme)); err == nil {
			t.Errorf("under another tenant's key: %x", got)
		}
	}
}

// testMasters: which masters open a database, and how one takes another's place.
func testMasters(t *testing.T, h Harness) {
	old, young := sealing.NewMaster(), sealing.NewMaster()
	begin := func(t *testing.T) (*kit, string) {
		masters := newMasters(t, old)
		k := openKit(t, h, sealing.ChainKeys{Encryption: masters})
		k.rotate(store.RotateEnable, 100, k.alone)
		k.furnish(k.tenant)
		return k, k.look(k.tenant)
	}
	refuses := func(t *testing.T, k *kit, masters *sealing.Masters, mend string) {
		t.Helper()
		st, err := h.Reopen(t, k.Store, sealing.ChainKeys{Encryption: masters})
		if err == nil {
			st.Close()
		}
		if !errors.Is(err, store.ErrEncryption) || !strings.Contains(err.Error(), mend) {
			t.Errorf("opened with %v: %v, want one that is %q and says %q", masters.IDs(), err, store.ErrEncryption, mend)
		}
		if err != nil && (strings.Contains(err.Error(), old) || strings.Contains(err.Error(), young)) {
			t.Errorf("the error tells a key: %v", err)
		}
	}

	t.Run("a missing or a replaced master stops the start", func(t *testing.T) {
		k, look := begin(t)
		refuses(t, k, nil, "AUTH_ENCRYPTION_KEY is not set")
		refuses(t, k, newMasters(t, young), "AUTH_ENCRYPTION_KEY=new,old")
		for _, keys := range [][]string{{old}, {young, old}, {old, young}} {
			k.secondWith(newMasters(t, keys...)).wantLook("with it among others", k.tenant, look)
		}
	})

	t.Run("keys are wrapped anew, and the old master can go", func(t *testing.T) {
		k, look := begin(t)
		acme := k.newTenant("acme")
		both, alone := newMasters(t, young, old), newMasters(t, young)
		on := k.secondWith(both)
		before := on.encryption()
		if want := (store.Encryption{Enabled: true, Master: string(newMasters(t, old).First()), Keys: 3}); before != want {
			t.Errorf("before: %+v, want %+v: all keys under the old master, which wraps", before, want)
		}
		key, revision := on.keyOf(k.tenant), on.head()
		n, r, err := on.Rewrap(k.ctx, k.by)
		on.done(r, err)
		if n != before.Keys {
			t.Errorf("%d keys were wrapped anew, want %d", n, before.Keys)
		}
		want := store.Encryption{Enabled: true, Master: string(alone.First()), Keys: before.Keys}
		if e := on.encryption(); e != want {
			t.Errorf("afterwards: %+v, want %+v", e, want)
		}
		if d := on.delta(revision); len(d.Changes) > 0 || on.keyOf(k.tenant) != key {
			t.Errorf("wrapping keys anew changed %v, and the tenant's key is %d, was %d", d.Changes, on.keyOf(k.tenant), key)
		}
		entries, _ := on.audit(0)
		if entries[0].Action != store.ActionRewrapKeys || entries[0].Revision != r.Revision.Number {
			t.Errorf("the trail says %+v", entries[0])
		}
		n, r, err = on.Rewrap(k.ctx, k.by)
		if n != 0 || err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("once more: %d, %v, %v; want nothing to do", n, r.Outcome, err)
		}
		// A program that began with the old one alone goes on reading.
		k.wantLook("for the old master's handle", k.tenant, look)
		on = k.secondWith(alone)
		on.wantLook("with the new master alone", k.tenant, look)
		on.role(acme, "editor")
		on.newTenant("globex")
		refuses(t, k, newMasters(t, old), "AUTH_ENCRYPTION_KEY=new,old")
	})

	t.Run("a program that lacks the wrapping master makes no keys that only it can open", func(t *testing.T) {
		k, _ := begin(t)
		on := k.secondWith(newMasters(t, young, old))
		_, r, err := on.Rewrap(k.ctx, k.by)
		on.done(r, err)
		before := k.head()
		if _, _, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "acme"}); !errors.Is(err, store.ErrEncryption) || k.head() != before {
			t.Errorf("a tenant was made by a program that holds the old master alone: %v", err)
		}
		k.role(k.tenant, "still-written")
		k.secondWith(newMasters(t, young)).newTenant("acme")
	})

	t.Run("there is nothing to wrap in a database in clear", func(t *testing.T) {
		k := newClearKit(t, h)
		before := k.head()
		if n, r, err := k.Rewrap(k.ctx, k.by); n != 0 || err == nil && r.Outcome == store.OutcomeDone || err != nil && (!errors.Is(err, store.ErrEncryption) || k.head() != before) {
			t.Errorf("%d keys, %v, %v", n, r.Outcome, err)
		}
		if e := k.encryption(); e != (store.Encryption{}) {
			t.Errorf("it made of it %+v", e)
		}
	})

	t.Run("a rotation of one that was cut off between the masters", func(t *testing.T) {
		// Wrapped anew in the middle of a deep rotation, by another process.
		k, look := begin(t)
		k.done(k.BeginRotation(k.ctx, k.by, store.RotateDeep))
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		on := k.secondWith(newMasters(t, young, old))
		n, r, err := on.Rewrap(k.ctx, k.by)
		on.done(r, err)
		if e := on.encryption(); n != e.Keys || e.OtherMasters != 0 || e.Rotation != store.RotateDeep {
			t.Errorf("%d keys were wrapped, and the state is %+v", n, e)
		}
		on = k.secondWith(newMasters(t, young))
		on.wantLook("in the middle", k.tenant, look)
		on.resealAll(k.tenant, 7, on.alone)
		on.done(on.FinishTenant(k.ctx, k.by, k.tenant))
		on.wantLook("at the end", k.tenant, look)
	})
}

// changesOf are the changes of the writes after a revision, their own revisions
// left out.
func (k *kit) changesOf(after store.Revision) []store.Change {
	k.Helper()
	changes := slices.Clone(k.delta(after).Changes)
	for i := range changes {
		changes[i].Revision = 0
	}
	return changes
}

func (k *kit) wantChanges(what string, after store.Revision, want ...store.Change) {
	k.Helper()
	if got := k.changesOf(after); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		k.Errorf("%s: changes %v, want %v", what, got, want)
	}
}
