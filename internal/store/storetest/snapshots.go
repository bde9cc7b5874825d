package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	modelWriters = 8
	modelWrites  = 130  // each
	modelReads   = 1500 // each reader, at most
)

// written is one committed write: its revision, and what it does to a model.
type written struct {
	what   string
	result store.Result
	apply  func(m *model, revision int64) verdict
}

// testSnapshots: 8 goroutines write on two handles while others read on both.
// Afterwards the writes are applied to a model in the order of their revisions,
// and each thing that was read must be true at exactly the revision that came
// with it.
func testSnapshots(t *testing.T, h Harness) { storm(newKit(t, h), nil) }

// storm is testSnapshots on a store, with something that goes on beside it and that
// may be nil: it ends by itself once it has done enough and stop is closed.
func storm(k *kit, beside func(w *world, handles []*kit, stop <-chan struct{})) {
	handles := []*kit{k, k.second()}
	acme := k.newTenant("acme")
	w := &world{kit: k, tenants: []store.TenantID{k.tenant, acme}, expiries: expiry.UnixNano(), indexes: make(map[indexed]store.Index)}
	for _, tenant := range w.tenants {
		w.first = append(w.first, k.keyOf(tenant))
		w.keepIndexes(tenant, k.keyOf(tenant))
	}
	start := k.head()

	var writers, readers sync.WaitGroup
	for i := range modelWriters {
		rng := rand.New(rand.NewPCG(uint64(i), 42))
		on := handles[i%len(handles)]
		writers.Go(func() {
			for n := range modelWrites {
				w.write(on, rng, fmt.Sprintf("w%d-%d", i, n))
			}
		})
	}
	stop := make(chan struct{})
	for i, read := range []func(*kit, *rand.Rand, <-chan struct{}){
		w.readRows, w.readRows, w.readHot, w.readHot, w.followDeltas(start), w.followDeltas(start),
	} {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		readers.Go(func() { read(handles[i%len(handles)], rng, stop) })
	}
	if beside != nil {
		readers.Go(func() {
			w.readLists(handles[1], rand.New(rand.NewPCG(99, 7)), stop)
		})
		written := make(chan struct{})
		var other sync.WaitGroup
		other.Go(func() { beside(w, handles, written) })
		writers.Wait()
		close(written)
		other.Wait()
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if k.Failed() {
		return
	}
	w.replay(start)
}

// world collects what was written and what was read.
type world struct {
	*kit
	tenants []store.TenantID

	mu       sync.Mutex // guards what follows
	writes   []written
	reads    []observation
	expiries int64  // each membership gets the next: it tells which write made it
	secret   string // the key that was made last
	userKeys []store.UserKey
	indexes  map[indexed]store.Index // under keys that may be gone by the time of the replay
	first    []store.KeyID           // of tenants, at the start
	heldTokens
}

// indexed is what an index is of.
type indexed struct {
	tenant store.TenantID
	key    store.KeyID
	p      principal
}

func (w *world) see(o observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = append(w.reads, o)
}

// somebody is one of few principals: what is read must be what is written.
func somebody(rng *rand.Rand) principal {
	return principal{pick(rng, policy.KindUser, policy.KindClient), "ci"}
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (w *world) write(on *kit, rng *rand.Rand, secret string) {
	tenant := pick(rng, w.tenants...)
	role, parent := pick(rng, "a", "b", "c", "d"), pick(rng, "a", "b", "c", "d")
	permission := pick(rng, "read", "write", "delete")
	p := somebody(rng)
	if rng.IntN(3) == 0 {
		if wr, ok := w.writeTokens(on, rng, tenant, secret); ok {
			w.keep(func() { w.writes = append(w.writes, wr) })
		}
		return
	}
	var wr written
	var err error
	switch n := rng.IntN(30); {
	case n < 4:
		wr.what = "put role " + role
		wr.result, err = on.PutRole(w.ctx, w.by, tenant, role, nil)
		wr.apply = func(m *model, revision int64) verdict { return m.putRole(tenant, role, revision) }
	case n < 6:
		wr.what = "delete role " + role
		wr.result, err = on.DeleteRole(w.ctx, w.by, tenant, role)
		wr.apply = func(m *model, _ int64) verdict { return m.deleteRole(tenant, role) }
	case n < 8:
		wr.what = "add parent " + role + " " + parent
		wr.result, err = on.AddParent(w.ctx, w.by, tenant, role, parent)
		wr.apply = func(m *model, _ int64) verdict { return m.parent(tenant, role, parent, true) }
		if errors.Is(err, store.ErrCycle) {
			return
		}
	case n < 9:
		wr.what = "remove parent " + role + " " + parent
		wr.result, err = on.RemoveParent(w.ctx, w.by, tenant, role, parent)
		wr.apply = func(m *model, _ int64) verdict { return m.parent(tenant, role, parent, false) }
	case n < 11:
		wr.what = "add permission"
		wr.result, err = on.AddPermission(w.ctx, w.by, tenant, role, permission)
		wr.apply = func(m *model, _ int64) verdict { return m.permission(tenant, role, permission, true) }
	case n < 12:
		wr.what = "remove permission"
		wr.result, err = on.RemovePermission(w.ctx, w.by, tenant, role, permission)
		wr.apply = func(m *model, _ int64) verdict { return m.permission(tenant, role, permission, false) }
	case n < 16:
		w.mu.Lock()
		w.expiries += int64(time.Microsecond)
		expires := w.expiries
		w.mu.Unlock()
		wr.what = "add member"
		wr.result, err = on.AddMember(w.ctx, w.by, tenant, p.kind, p.id, role, time.Unix(0, expires))
		wr.apply = func(m *model, _ int64) verdict { return m.member(tenant, p, role, expires) }
	case n < 18:
		wr.what = "remove member"
		wr.result, err = on.RemoveMember(w.ctx, w.by, tenant, p.kind, p.id, role)
		wr.apply = func(m *model, _ int64) verdict { return m.member(tenant, p, role, 0) }
	case n < 20:
		w.mu.Lock()
		w.secret = secret
		w.mu.Unlock()
		wr.what = "create key"
		_, wr.result, err = on.CreateKey(w.ctx, w.by, keyOf(tenant, "ci", secret))
		wr.apply = func(m *model, _ int64) verdict { return m.createKey(tenant, "ci", digestOf(secret)) }
		if err == nil {
			w.keep(func() { w.clients = append(w.clients, aSecret{tenant, secret}) })
		}
	case n < 21:
		wr.what = "revoke keys"
		_, wr.result, err = on.RevokeKeys(w.ctx, w.by, tenant, "ci")
		wr.apply = func(m *model, _ int64) verdict { return m.revokeKeys(tenant, "ci") }
		if errors.Is(err, store.ErrNotFound) {
			return
		}
	case n < 22:
		wr.what = "register key"
		wr.result, err = on.RegisterKey(w.ctx, w.by, keyOf(tenant, "env", secret), 0)
		wr.apply = func(m *model, _ int64) verdict {
			v := m.createKey(tenant, "env", digestOf(secret))
			v.changes = append(v.changes, m.retire(tenant, "env", digestOf(secret))...)
			return v
		}
	case n < 26:
		w.mu.Lock()
		w.expiries += int64(time.Microsecond)
		expires := w.expiries
		w.mu.Unlock()
		key := userKeyOf(tenant, "ci", "user's "+secret)
		key.Expires = time.Unix(0, expires)
		var made store.UserKey
		wr.what = "create user key"
		made, wr.result, err = on.CreateUserKey(w.ctx, w.by, key)
		if errors.Is(err, store.ErrKeyCap) {
			return
		}
		wr.apply = func(m *model, _ int64) verdict {
			return m.userKey(key.Digest, &userKeyModel{tenant, "ci", expires, true})
		}
		w.mu.Lock()
		w.userKeys = append(w.userKeys, made)
		w.mu.Unlock()
	case n < 28:
		w.mu.Lock()
		if len(w.userKeys) == 0 {
			w.mu.Unlock()
			return
		}
		key := pick(rng, w.userKeys...)
		w.mu.Unlock()
		wr.what = "revoke user key"
		wr.result, err = on.RevokeUserKey(w.ctx, w.by, key.Tenant, key.User, key.ID)
		wr.apply = func(m *model, _ int64) verdict { return m.userKey(key.Digest, nil) }
	case n < 29:
		wr.what = "admit tenant"
		wr.result, err = on.AdmitTenant(w.ctx, w.by, tenant)
		wr.apply = func(m *model, _ int64) verdict { return m.admit(tenant) }
	default:
		var made store.Tenant
		wr.what = "create tenant"
		made, wr.result, err = on.CreateTenant(w.ctx, w.by, store.NewTenant{Name: "t-" + secret})
		wr.apply = func(m *model, _ int64) verdict {
			m.addTenant(made.ID, "t-"+secret, false, made.Key)
			return did(store.Change{Kind: store.ChangeTenant, Tenant: made.ID})
		}
	}
	if err != nil {
		w.Errorf("%s: %v", wr.what, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, wr)
}

// readRows reads at random until stop.
func (w *world) readRows(on *kit, rng *rand.Rand, stop <-chan struct{}) {
	for range modelReads {
		select {
		case <-stop:
			return
		default:
		}
		tenant := pick(rng, w.tenants...)
		switch rng.IntN(8) {
		case 0, 1, 2:
			table, err := on.Roles(w.ctx, tenant)
			w.noErr("roles", err)
			w.see(sawRoles(table))
		case 3, 4, 5:
			w.readGrant(on, rng)
		case 6:
			w.readToken(on, rng)
			digest := digestOf(fmt.Sprintf("w%d-%d", rng.IntN(modelWriters), rng.IntN(modelWrites)))
			w.readKey(on, digest)
			w.readUserKey(on, rng)
		case 7:
			digests := make(map[store.Digest]bool)
			base, err := on.Bootstrap(w.ctx, func(d store.Digest) error {
				digests[d] = true
				return nil
			})
			w.noErr("bootstrap", err)
			w.see(sawBase(base, digests))
		}
	}
}

// readHot reads, as fast as it can, what the writers are changing: a row and a
// revision from two snapshots differ only if a commit falls between them.
func (w *world) readHot(on *kit, rng *rand.Rand, stop <-chan struct{}) {
	for range modelReads {
		select {
		case <-stop:
			return
		default:
		}
		w.readGrant(on, rng)
		w.mu.Lock()
		digest := digestOf(w.secret)
		w.mu.Unlock()
		for range 3 {
			w.readKey(on, digest)
		}
		w.readUserKey(on, rng)
	}
}

func (w *world) readGrant(on *kit, rng *rand.Rand) {
	tenant, p := pick(rng, w.tenants...), somebody(rng)
	row, err := on.Grant(w.ctx, tenant, p.kind, p.id)
	w.noErr("grant", err)
	w.see(sawGrant(tenant, p, row))
}

func (w *world) readKey(on *kit, digest store.Digest) {
	row, err := on.Key(w.ctx, digest)
	w.noErr("key", err)
	w.see(sawKey(digest, row, time.Now()))
}

// readUserKey reads one of the keys that were made last, which are the likeliest to
// be revoked just now.
func (w *world) readUserKey(on *kit, rng *rand.Rand) {
	w.mu.Lock()
	var digest store.Digest
	if n := len(w.userKeys); n > 0 {
		digest = w.userKeys[n-1-rng.IntN(min(n, 8))].Digest
	}
	w.mu.Unlock()
	row, err := on.UserKey(w.ctx, digest)
	w.noErr("user key", err)
	w.see(sawUserKey(digest, row))
}

// followDeltas goes from revision to revision as a sidecar does.
func (w *world) followDeltas(from store.Revision) func(*kit, *rand.Rand, <-chan struct{}) {
	return func(on *kit, rng *rand.Rand, stop <-chan struct{}) {
		at := from
		for range modelReads {
			select {
			case <-stop:
				return
			default:
			}
			d, err := on.Delta(w.ctx, at, w.tenants)
			w.noErr("delta", err)
			w.see(sawDelta(at.Number, d, w.tenants))
			if d.Head.Number < at.Number {
				w.Errorf("the head went from %d to %d", at.Number, d.Head.Number)
			}
			at = d.Head
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		}
	}
}

func (w *world) noErr(what string, err error) {
	if err != nil {
		w.Errorf("%s: %v", what, err)
	}
}

// keepIndexes learns the indexes of everybody under the tenant's key.
func (w *world) keepIndexes(tenant store.TenantID, key store.KeyID) {
	for _, kind := range []policy.Kind{policy.KindUser, policy.KindClient} {
		p := principal{kind, "ci"}
		index, err := w.PrincipalIndex(w.ctx, tenant, key, p.kind, p.id)
		w.noErr("index", err)
		w.mu.Lock()
		w.indexes[indexed{tenant, key, p}] = index
		w.mu.Unlock()
	}
}

func (w *world) indexOf(tenant store.TenantID, key store.KeyID, p principal) store.Index {
	index, ok := w.indexes[indexed{tenant, key, p}]
	if !ok {
		w.Errorf("there is no index of %v under key %d of tenant %d", p, key, tenant)
	}
	return index
}

// replay applies the writes in the order of their revisions, and holds what was
// read at each of them against the model.
func (w *world) replay(start store.Revision) {
	slices.SortFunc(w.writes, func(a, b written) int { return int(a.result.Revision.Number - b.result.Revision.Number) })
	slices.SortStableFunc(w.reads, func(a, b observation) int { return int(a.at.Number - b.at.Number) })
	r := &replay{
		T:       w.T,
		model:   &model{tenants: make(map[store.TenantID]*tenantModel), keys: make(map[store.Digest]*keyModel), userKeys: make(map[store.Digest]*userKeyModel), tokensModel: newTokensModel(), indexOf: w.indexOf},
		changes: make(map[int64][]store.Change),
		born:    make(map[policy.RoleID]roleBirth),
		ids:     make(map[roleBirth]policy.RoleID),
	}
	r.model.addTenant(w.tenants[0], store.DefaultTenant, true, w.first[0])
	r.model.addTenant(w.tenants[1], "acme", true, w.first[1])

	at, reads, outcomes := start, w.reads, make(map[store.Outcome]int)
	check := func() {
		for len(reads) > 0 && reads[0].at.Number == at.Number {
			if reads[0].at != at {
				w.Errorf("%s as at %v, but revision %d was %v", reads[0].what, reads[0].at, at.Number, at.Tag)
			}
			r.now = at.Number
			reads[0].check(r)
			reads = reads[1:]
		}
	}
	check()
	for _, wr := range w.writes {
		if wr.result.Revision.Number != at.Number+1 {
			w.Fatalf("%s: revision %d after %d", wr.what, wr.result.Revision.Number, at.Number)
		}
		at = wr.result.Revision
		v := wr.apply(r.model, at.Number)
		if wr.result.Outcome != v.outcome {
			w.Errorf("%s at %d: outcome %q, the model says %q", wr.what, at.Number, wr.result.Outcome, v.outcome)
		}
		if r.model.cyclic() {
			w.Fatalf("%s at %d made a cycle", wr.what, at.Number)
		}
		for i := range v.changes {
			v.changes[i].Revision = at.Number
		}
		r.changes[at.Number] = v.changes
		outcomes[v.outcome]++
		check()
		if w.Failed() {
			w.Fatalf("up to revision %d", at.Number)
		}
	}
	if len(reads) > 0 {
		w.Errorf("%d reads of revisions past the last, the first is %s at %v", len(reads), reads[0].what, reads[0].at)
	}
	w.Logf("%d writes (%v), %d reads, each true at its revision", len(w.writes), outcomes, len(w.reads))
}
