package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// world is the naive model: a store whose every committed state is kept whole,
// and which can be told to answer late, from the past, or not at all.
type world struct {
	mu    sync.Mutex // guards everything below
	log   []*state   // every state that was ever the newest one, in time order
	tags  uint64
	ids   policy.RoleID
	seals int // encryption keys made

	holdLoads   int             // how many of the next loads stop between reading and answering
	holdDeltas  int             // the same for reads of the feed
	holdIndexes int             // the same for indexes
	held        []chan struct{} // those that stopped
	found       bool            // the reader's revision is known: a full load must not go back behind it
	lag         int             // how many states behind the next load reads, as from a replica
	broken      bool            // every call fails
	loads       int             // how many loads were answered
	gone        int             // how many indexes were asked for under a key that is not in use
}

// state is one committed revision. It is never changed.
type state struct {
	revision store.Revision
	before   *state // the revision that it was made from
	roles    map[policy.RoleID]roleState
	members  map[memberID]int64 // to expiry
	keys     map[store.Digest]store.ClientKey
	userKeys map[store.Digest]store.UserKey
	strict   map[store.TenantID]bool
	sealed   map[store.TenantID]sealedUnder
	lastSeal store.KeyID                   // the last encryption key: a restored backup gives its successor out again
	material map[store.KeyID]int           // what is in the encryption keys: it never comes twice
	denied   map[denialName]store.DenyMark // without digests
	signing  map[string]bool               // ids of the public signing keys
	changes  []store.Change
}

// sealedUnder is which encryption keys a tenant uses; 0 is none, in clear.
type sealedUnder struct {
	current, former store.KeyID
	rotating        bool // former counts
}

// indexUnder is a principal's index under what is in an encryption key.
func indexUnder(key int, t store.TenantID, kind policy.Kind, id string) store.Index {
	if key != 0 {
		id = fmt.Sprintf("%d\x00%s", key, id)
	}
	return store.PlainIndex(t, kind, id)
}

// index is a principal's index as change rows carry it: under the current key.
func (s *state) index(t store.TenantID, kind policy.Kind, id string) store.Index {
	return indexUnder(s.material[s.sealed[t].current], t, kind, id)
}

type roleState struct {
	tenant      store.TenantID
	name        string
	permissions map[string]bool
}

type memberID struct {
	tenant store.TenantID
	kind   policy.Kind
	id     string
	role   policy.RoleID
}

var modelTenants = []store.Tenant{{ID: 1, Name: "default", Admitted: true}, {ID: 2, Name: "acme", Admitted: true}}

func newWorld() *world {
	w := &world{}
	w.log = []*state{{
		revision: store.Revision{Number: 1, Tag: w.tag()},
		roles:    map[policy.RoleID]roleState{},
		members:  map[memberID]int64{},
		keys:     map[store.Digest]store.ClientKey{},
		userKeys: map[store.Digest]store.UserKey{},
		strict:   map[store.TenantID]bool{},
		sealed:   map[store.TenantID]sealedUnder{},
		material: map[store.KeyID]int{},
		denied:   map[denialName]store.DenyMark{},
		signing:  map[string]bool{},
	}}
	return w
}

func (w *world) tag() (t store.Tag) {
	w.tags++
	binary.BigEndian.PutUint64(t[:], w.tags)
	return t
}

// indexOf finds a revision in the log by its newest place there, -1 for none.
func (w *world) indexOf(r store.Revision) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.log) - 1; i >= 0; i-- {
		if w.log[i].revision == r {
			return i
		}
	}
	return -1
}

func (w *world) head() *state { return w.log[len(w.log)-1] }

// commit makes a new state by changing a copy of the newest one.
func (w *world) commit(change func(*state)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.head()
	next := &state{
		revision: store.Revision{Number: old.revision.Number + 1, Tag: w.tag()},
		before:   old,
		roles:    maps.Clone(old.roles),
		members:  maps.Clone(old.members),
		keys:     maps.Clone(old.keys),
		userKeys: maps.Clone(old.userKeys),
		strict:   maps.Clone(old.strict),
		sealed:   maps.Clone(old.sealed),
		lastSeal: old.lastSeal,
		material: maps.Clone(old.material),
		denied:   maps.Clone(old.denied),
		signing:  old.signing,
	}
	change(next)
	for i := range next.changes {
		next.changes[i].Revision = next.revision.Number
	}
	w.log = append(w.log, next)
}

// restore brings back the state of n revisions ago, as a restored backup does.
func (w *world) restore(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, back(w.head(), n))
}

func back(s *state, n int) *state {
	for ; n > 0 && s.before != nil; n-- {
		s = s.before
	}
	return s
}

// tenants are the model's tenants as the state has them.
func (s *state) tenants() []store.Tenant {
	out := slices.Clone(modelTenants)
	for i := range out {
		out[i].StrictUsers = s.strict[out[i].ID]
		out[i].Key = s.sealed[out[i].ID].current
	}
	return out
}

// backed is until when API keys back a user.
func (s *state) backed(tenant store.TenantID, user string) (until int64) {
	for _, k := range s.userKeys {
		switch {
		case k.Tenant != tenant || k.User != user || !k.Revoked.IsZero():
		case k.Expires.IsZero():
			until = store.BackedForever
		default:
			until = max(until, k.Expires.UnixNano())
		}
	}
	return until
}

// holds reports what the state says of a principal and a permission.
func (s *state) holds(tenant store.TenantID, kind policy.Kind, id, permission string, now int64) bool {
	for m, expires := range s.members {
		if m.tenant != tenant || m.kind != kind || m.id != id || (expires != 0 && now >= expires) {
			continue
		}
		if r, ok := s.roles[m.role]; ok && r.tenant == tenant && r.permissions[permission] {
			return true
		}
	}
	return false
}

var errBroken = errors.New("the store is away")

// read picks the state that a load answers from, and stops there if it was told
// to.
func (w *world) read() (*state, error) {
	w.mu.Lock()
	w.loads++
	if w.broken {
		w.mu.Unlock()
		return nil, errBroken
	}
	s := back(w.head(), w.lag)
	w.lag = 0
	stop := w.holdLoads > 0
	if stop {
		w.holdLoads--
	}
	w.mu.Unlock()
	if stop {
		w.stop()
	}
	if plantStampEarly {
		w.mu.Lock()
		defer w.mu.Unlock()
		late := *w.head()
		late.revision = s.revision
		return &late, nil
	}
	return s, nil
}

// answered is how many loads were asked for.
func (w *world) answered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loads
}

func (w *world) stop() {
	c := make(chan struct{})
	w.mu.Lock()
	w.held = append(w.held, c)
	w.mu.Unlock()
	<-c
}

// release lets go of the n-th call that stopped.
func (w *world) release(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return
	}
	n %= len(w.held)
	close(w.held[n])
	w.held = append(w.held[:n], w.held[n+1:]...)
}

func (w *world) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (w *world) Delta(_ context.Context, after store.Revision, held []store.TenantID) (store.Delta, error) {
	w.mu.Lock()
	if w.broken {
		w.mu.Unlock()
		return store.Delta{}, errBroken
	}
	head := w.head()
	d := store.Delta{Head: head.revision}
	s := head
	for s != nil && s.revision != after {
		d.Changes = append(append([]store.Change(nil), s.changes...), d.Changes...)
		d.Passed = append([]store.Revision{s.revision}, d.Passed...)
		s = s.before
	}
	stop := w.holdDeltas > 0
	if stop {
		w.holdDeltas--
	}
	w.mu.Unlock()
	if stop {
		w.stop()
	}
	if s == nil {
		w.mu.Lock()
		w.found = false
		w.mu.Unlock()
		return store.Delta{}, store.ErrRevisionUnknown
	}
	for _, c := range d.Changes {
		if c.Kind == store.ChangeTenant {
			d.Tenants = head.tenants()
		}
		if c.Kind == store.ChangeSigning {
			d.Signing = head.signingKeys()
		}
	}
	for _, t := range held {
		for _, c := range d.Changes {
			if c.Kind == store.ChangeRoles && c.Tenant == t {
				d.Roles = append(d.Roles, head.tenantRoles(t))
				break
			}
		}
	}
	return d, nil
}

func (w *world) Bootstrap(_ context.Context, yield func(store.Digest) error) (store.Base, error) {
	w.mu.Lock()
	if w.found {
		w.lag = 0 // only grants come from replicas
	}
	w.found = true
	w.mu.Unlock()
	s, err := w.read()
	if err != nil {
		return store.Base{}, err
	}
	for d, k := range s.keys {
		if k.Revoked.IsZero() {
			if err := yield(d); err != nil {
				return store.Base{}, err
			}
		}
	}
	for d, k := range s.userKeys {
		if k.Revoked.IsZero() {
			if err := yield(d); err != nil {
				return store.Base{}, err
			}
		}
	}
	return store.Base{Head: s.revision, Tenants: s.tenants(), Denied: s.denials(), Signing: s.signingKeys()}, nil
}

func (s *state) tenantRoles(t store.TenantID) store.TenantRoles {
	out := store.TenantRoles{Tenant: t, Revision: s.revision}
	for id, r := range s.roles {
		if r.tenant == t {
			spec := policy.RoleSpec{ID: id, Name: r.name}
			for p := range r.permissions {
				spec.Permissions = append(spec.Permissions, p)
			}
			out.Roles = append(out.Roles, spec)
		}
	}
	return out
}

func (w *world) Roles(_ context.Context, t store.TenantID) (store.TenantRoles, error) {
	s, err := w.read()
	if err != nil {
		return store.TenantRoles{}, err
	}
	return s.tenantRoles(t), nil
}

func (w *world) PrincipalIndex(_ context.Context, t store.TenantID, key store.KeyID, kind policy.Kind, id string) (store.Index, error) {
	w.mu.Lock()
	if w.broken {
		w.mu.Unlock()
		return store.Index{}, errBroken
	}
	live, material := w.head().sealed[t], w.head().material[key]
	known := key == 0 || key == live.current || live.rotating && key == live.former
	if !known {
		w.gone++
	}
	stop := w.holdIndexes > 0
	if stop {
		w.holdIndexes--
	}
	w.mu.Unlock()
	if stop {
		w.stop()
	}
	if !known {
		return store.Index{}, fmt.Errorf("key %d of tenant %d: %w", key, t, store.ErrKeyGone)
	}
	return indexUnder(material, t, kind, id), nil
}

func (w *world) Grant(_ context.Context, t store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	s, err := w.read()
	if err != nil {
		return store.GrantRow{}, err
	}
	row := store.GrantRow{Revision: s.revision}
	for m, expires := range s.members {
		if m.tenant == t && m.kind == kind && m.id == id {
			row.Grant = append(row.Grant, policy.Membership{Role: m.role, Expires: expires})
		}
	}
	for _, k := range s.userKeys {
		if k.Tenant == t && kind == policy.KindUser && k.User == id {
			row.KeyBackedUntil = s.backed(t, k.User)
		}
	}
	return row, nil
}

func (w *world) UserKey(_ context.Context, d store.Digest) (store.UserKeyRow, error) {
	s, err := w.read()
	if err != nil {
		return store.UserKeyRow{}, err
	}
	row := store.UserKeyRow{Revision: s.revision}
	if k, ok := s.userKeys[d]; ok {
		row.Key = &k
	}
	return row, nil
}

func (w *world) Key(_ context.Context, d store.Digest) (store.KeyRow, error) {
	s, err := w.read()
	if err != nil {
		return store.KeyRow{}, err
	}
	row := store.KeyRow{Revision: s.revision}
	if k, ok := s.keys[d]; ok {
		row.Key = &k
	}
	return row, nil
}

func (w *world) Report(context.Context, []store.Report) error { return nil }

// Writes, each with the change rows that a store would add.

func (w *world) addRole(t store.TenantID, name string) {
	w.commit(func(s *state) {
		for _, r := range s.roles {
			if r.tenant == t && r.name == name {
				return
			}
		}
		w.ids++
		s.roles[w.ids] = roleState{tenant: t, name: name}
		s.changes = append(s.changes, store.Change{Kind: store.ChangeRoles, Tenant: t})
	})
}

func (s *state) role(t store.TenantID, name string) (policy.RoleID, bool) {
	for id, r := range s.roles {
		if r.tenant == t && r.name == name {
			return id, true
		}
	}
	return 0, false
}

func (w *world) deleteRole(t store.TenantID, name string) {
	w.commit(func(s *state) {
		id, ok := s.role(t, name)
		if !ok {
			return
		}
		delete(s.roles, id)
		for m := range s.members {
			if m.role == id {
				delete(s.members, m)
			}
		}
		s.changes = append(s.changes, store.Change{Kind: store.ChangeRoles, Tenant: t})
	})
}

func (w *world) setPermission(t store.TenantID, role, permission string, has bool) {
	w.commit(func(s *state) {
		id, ok := s.role(t, role)
		if !ok || s.roles[id].permissions[permission] == has {
			return
		}
		r := s.roles[id]
		r.permissions = maps.Clone(r.permissions)
		if r.permissions == nil {
			r.permissions = map[string]bool{}
		}
		if has {
			r.permissions[permission] = true
		} else {
			delete(r.permissions, permission)
		}
		s.roles[id] = r
		s.changes = append(s.changes, store.Change{Kind: store.ChangeRoles, Tenant: t})
	})
}

func (w *world) setMember(t store.TenantID, kind policy.Kind, user, role string, member bool, expires int64, wide bool) {
	w.commit(func(s *state) {
		id, ok := s.role(t, role)
		if !ok {
			return
		}
		m := memberID{t, kind, user, id}
		if member {
			s.members[m] = expires
		} else {
			delete(s.members, m)
		}
		c := store.Change{Kind: store.ChangeGrant, Tenant: t, Index: s.index(t, kind, user)}
		if wide {
			c = store.Change{Kind: store.ChangeTenantGrants, Tenant: t}
		}
		s.changes = append(s.changes, c)
	})
}

func (w *world) newKey(t store.TenantID, name string, digest store.Digest) {
	w.commit(func(s *state) {
		if _, ok := s.keys[digest]; ok {
			return
		}
		s.keys[digest] = store.ClientKey{Tenant: t, Name: name, Digest: digest}
		s.changes = append(s.changes, store.Change{Kind: store.ChangeKey, Tenant: t, Digest: digest})
	})
}

func (w *world) revokeKeys(t store.TenantID, name string) {
	w.commit(func(s *state) {
		for d, k := range s.keys {
			if k.Tenant == t && k.Name == name && k.Revoked.IsZero() {
				k.Revoked = time.Unix(1, 0)
				s.keys[d] = k
				s.changes = append(s.changes, store.Change{Kind: store.ChangeKey, Tenant: t, Digest: d, Gone: true})
			}
		}
		for m := range s.members {
			if m.tenant == t && m.kind == policy.KindClient && m.id == name {
				delete(s.members, m)
			}
		}
		s.changes = append(s.changes, store.Change{Kind: store.ChangeGrant, Tenant: t, Index: s.index(t, policy.KindClient, name)})
	})
}

func (w *world) newUserKey(t store.TenantID, user string, digest store.Digest, expires time.Time) {
	w.commit(func(s *state) {
		if _, ok := s.userKeys[digest]; ok {
			return
		}
		s.userKeys[digest] = store.UserKey{Tenant: t, User: user, Digest: digest, Expires: expires}
		s.userKeyChanged(digest, false)
	})
}

func (w *world) revokeUserKey(digest store.Digest) {
	w.commit(func(s *state) {
		k, ok := s.userKeys[digest]
		if !ok || !k.Revoked.IsZero() {
			return
		}
		k.Revoked = time.Unix(1, 0)
		s.userKeys[digest] = k
		s.userKeyChanged(digest, true)
	})
}

func (s *state) userKeyChanged(digest store.Digest, gone bool) {
	k := s.userKeys[digest]
	s.changes = append(s.changes, store.Change{Kind: store.ChangeKey, Tenant: k.Tenant, Digest: digest, Gone: gone},
		store.Change{Kind: store.ChangeGrant, Tenant: k.Tenant, Index: s.index(k.Tenant, policy.KindUser, k.User)})
}

func (w *world) setStrict(t store.TenantID, strict bool) {
	w.commit(func(s *state) {
		if s.strict[t] == strict {
			return
		}
		s.strict[t] = strict
		s.changes = append(s.changes, store.Change{Kind: store.ChangeTenant, Tenant: t})
	})
}

// beginKey gives the tenant another key, or none at all, as a rotation does: in one
// write with the word that all its principals are named anew.
func (w *world) beginKey(t store.TenantID, clear bool) {
	w.commit(func(s *state) {
		old := s.sealed[t]
		if old.rotating || clear && old.current == 0 {
			return
		}
		next := sealedUnder{former: old.current, rotating: true}
		if !clear {
			w.seals++
			s.lastSeal++
			next.current = s.lastSeal
			s.material[next.current] = w.seals
		}
		s.sealed[t] = next
		s.renameSubjects(t, s.before)
		s.changes = append(s.changes, store.Change{Kind: store.ChangeTenant, Tenant: t}, store.Change{Kind: store.ChangeTenantGrants, Tenant: t})
	})
}

// finishKey takes the tenant's former key out of use.
func (w *world) finishKey(t store.TenantID) {
	w.commit(func(s *state) {
		if !s.sealed[t].rotating {
			return
		}
		s.sealed[t] = sealedUnder{current: s.sealed[t].current}
		s.changes = append(s.changes, store.Change{Kind: store.ChangeTenant, Tenant: t})
	})
}
