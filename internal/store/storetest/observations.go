package storetest

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// observation is something that was read, with the revision that came with it.
type observation struct {
	what  string
	at    store.Revision
	check func(r *replay)
}

// replay is the model while it goes through the revisions.
type replay struct {
	*testing.T
	model   *model
	now     int64
	changes map[int64][]store.Change // by revision
	// born and ids are what the reads tell of role ids: one id for each role that
	// was ever made, and never the same for two.
	born map[policy.RoleID]roleBirth
	ids  map[roleBirth]policy.RoleID
}

// roleBirth names a role among all that ever had its name.
type roleBirth struct {
	tenant store.TenantID
	name   string
	at     int64
}

func (r *replay) sameRole(id policy.RoleID, tenant store.TenantID, name string) {
	birth := roleBirth{tenant, name, r.model.tenants[tenant].roles[name].born}
	if other, ok := r.born[id]; ok && other != birth {
		r.Errorf("at %d: id %d is %v, and was %v", r.now, id, birth, other)
	}
	if other, ok := r.ids[birth]; ok && other != id {
		r.Errorf("at %d: %v has id %d, and had %d", r.now, birth, id, other)
	}
	r.born[id], r.ids[birth] = birth, id
}

func sawRoles(table store.TenantRoles) observation {
	return observation{"roles", table.Revision, func(r *replay) { r.checkRoles(table) }}
}

func (r *replay) checkRoles(table store.TenantRoles) {
	t := r.model.tenants[table.Tenant]
	if got, want := describe(table.Roles), t.describe(); !reflect.DeepEqual(got, want) {
		r.Errorf("at %d: roles of tenant %d\n got %v\nwant %v", r.now, table.Tenant, got, want)
		return
	}
	for _, spec := range table.Roles {
		r.sameRole(spec.ID, table.Tenant, spec.Name)
	}
}

func sawGrant(tenant store.TenantID, p principal, row store.GrantRow) observation {
	return observation{"grant", row.Revision, func(r *replay) {
		got := make(map[int64]policy.RoleID)
		for _, m := range row.Grant {
			got[m.Expires] = m.Role
		}
		if want := r.model.backed(tenant, p); row.KeyBackedUntil != want {
			r.Errorf("at %d: %v of tenant %d is backed until %d, want %d", r.now, p, tenant, row.KeyBackedUntil, want)
		}
		held := r.model.tenants[tenant].grants[p]
		if len(got) != len(held) || len(row.Grant) != len(held) {
			r.Errorf("at %d: %v of tenant %d holds %v, want %v", r.now, p, tenant, row.Grant, held)
			return
		}
		for name, expires := range held {
			id, ok := got[expires]
			if !ok {
				r.Errorf("at %d: %v of tenant %d holds %v, want %v", r.now, p, tenant, row.Grant, held)
				return
			}
			r.sameRole(id, tenant, name)
		}
	}}
}

func sawKey(digest store.Digest, row store.KeyRow, read time.Time) observation {
	return observation{"key", row.Revision, func(r *replay) {
		want := r.model.keys[digest]
		if row.Key == nil || want == nil {
			if row.Key != nil || want != nil {
				r.Errorf("at %d: key %+v, want %+v", r.now, row.Key, want)
			}
			return
		}
		live := row.Key.Revoked.IsZero() && (row.Key.Expires.IsZero() || row.Key.Expires.After(read))
		if live != want.live || row.Key.Name != want.name || row.Key.Tenant != want.tenant || row.Key.Digest != digest {
			r.Errorf("at %d: key %+v, want %+v", r.now, row.Key, want)
		}
	}}
}

func sawUserKey(digest store.Digest, row store.UserKeyRow) observation {
	return observation{"user key", row.Revision, func(r *replay) {
		want := r.model.userKeys[digest]
		if row.Key == nil || want == nil {
			if row.Key != nil || want != nil {
				r.Errorf("at %d: user key %+v, want %+v", r.now, row.Key, want)
			}
			return
		}
		got := userKeyModel{row.Key.Tenant, row.Key.User, row.Key.Expires.UnixNano(), row.Key.Revoked.IsZero()}
		if got != *want || row.Key.Digest != digest {
			r.Errorf("at %d: user key %+v, want %+v", r.now, row.Key, want)
		}
	}}
}

func sawBase(base store.Base, digests map[store.Digest]bool) observation {
	return observation{"base", base.Head, func(r *replay) {
		for digest, key := range r.model.keys {
			if digests[digest] != key.live {
				r.Errorf("at %d: key %+v is in the load: %v", r.now, key, digests[digest])
			}
			delete(digests, digest)
		}
		for digest, key := range r.model.userKeys {
			if digests[digest] != key.live {
				r.Errorf("at %d: user key %+v is in the load: %v", r.now, key, digests[digest])
			}
			delete(digests, digest)
		}
		if len(digests) > 0 {
			r.Errorf("at %d: %d keys in the load that nobody made", r.now, len(digests))
		}
		if len(base.Tenants) != len(r.model.tenants) {
			r.Errorf("at %d: %d tenants, want %d", r.now, len(base.Tenants), len(r.model.tenants))
		}
		r.checkTenants(base.Tenants)
		r.checkDenied(base.Denied)
		r.checkSigners(base.Signing)
	}}
}

func (r *replay) checkTenants(tenants []store.Tenant) {
	for _, t := range tenants {
		want := r.model.tenants[t.ID]
		if want == nil || t.Name != want.name || t.Admitted != want.admitted || t.Key != want.key {
			r.Errorf("at %d: tenant %+v, want %+v", r.now, t, want)
		}
	}
}

func sawDelta(from int64, d store.Delta, held []store.TenantID) observation {
	return observation{"delta", d.Head, func(r *replay) {
		var want []store.Change
		for n := from + 1; n <= r.now; n++ {
			want = append(want, r.changes[n]...)
		}
		if !sameButTimes(d.Changes, want) {
			r.Errorf("from %d to %d: changes\n got %v\nwant %v", from, r.now, d.Changes, want)
		}
		named, stale := make(map[store.TenantID]bool), make(map[store.TenantID]bool)
		signing := false
		for _, c := range want {
			if c.Tenant != 0 {
				named[c.Tenant] = true
			}
			signing = signing || c.Kind == store.ChangeSigning
			if c.Kind == store.ChangeRoles && slices.Contains(held, c.Tenant) {
				stale[c.Tenant] = true
			}
		}
		if signing {
			r.checkSigners(d.Signing)
		} else if len(d.Signing) > 0 {
			r.Errorf("from %d to %d: signing keys %v, which did not change", from, r.now, d.Signing)
		}
		r.checkTenants(d.Tenants)
		for _, t := range d.Tenants {
			delete(named, t.ID)
		}
		for _, table := range d.Roles {
			if table.Revision != d.Head {
				r.Errorf("from %d to %d: roles as at %v", from, r.now, table.Revision)
			}
			if !stale[table.Tenant] {
				r.Errorf("from %d to %d: roles of tenant %d, which did not change or came twice", from, r.now, table.Tenant)
			}
			delete(stale, table.Tenant)
			r.checkRoles(table)
		}
		if len(named)+len(stale) > 0 {
			r.Errorf("from %d to %d: the tenants %v and role tables %v are left out", from, r.now,
				slices.Collect(maps.Keys(named)), slices.Collect(maps.Keys(stale)))
		}
	}}
}
