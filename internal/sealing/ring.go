package sealing

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrKeyGone: the database has no key of that id (any more). Whoever got the id
// from a pair that may be outdated reads the pair again.
var ErrKeyGone = errors.New("there is no such encryption key")

// Wrapped is a key as it lies in the database.
type Wrapped struct {
	ID      int64
	Tenant  int64
	Wrapped string
	Master  MasterID
}

// Load reads one wrapped key from the database; found is false where it is not
// there (any more).
type Load func(ctx context.Context, id int64) (w Wrapped, found bool, err error)

// Ring holds the keys that were unwrapped so far, and what is known of which keys
// each tenant uses. Ids are never reused, so a key is read once. All methods are
// safe for concurrent use.
type Ring struct {
	masters *Masters

	mu    sync.RWMutex // guards keys and pairs; never held over I/O
	keys  map[int64]*Key
	pairs map[int64]Pair
}

// NewRing makes an empty Ring. masters may be nil: then only tenants in clear can
// be read.
func NewRing(masters *Masters) *Ring {
	return &Ring{masters: masters, keys: make(map[int64]*Key), pairs: make(map[int64]Pair)}
}

// Masters are the masters that the Ring unwraps with.
func (r *Ring) Masters() *Masters { return r.masters }

// Pair is the tenant's pair as it was last heard of; the zero Pair where nothing
// was. It may be outdated: whoever reads rows reads the pair with them, in the same
// snapshot, and starts over with Learn where it differs.
func (r *Ring) Pair(tenant int64) Pair {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pairs[tenant]
}

// Learn keeps the pair of a tenant for the next time.
func (r *Ring) Learn(tenant int64, p Pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p == (Pair{}) {
		delete(r.pairs, tenant)
		return
	}
	r.pairs[tenant] = p
}

// Add keeps a key that was just made.
func (r *Ring) Add(k *Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[k.ID] = k
}

// Key gives the tenant's key of that id, which is read by load on first use; nil
// for the id 0. A key that is not there is ErrKeyGone, one of another tenant
// ErrUnreadable.
func (r *Ring) Key(ctx context.Context, tenant, id int64, load Load) (*Key, error) {
	if id == 0 {
		return nil, nil
	}
	r.mu.RLock()
	k := r.keys[id]
	r.mu.RUnlock()
	if k == nil {
		w, found, err := load(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("load encryption key %d of tenant %d: %w", id, tenant, err)
		}
		if !found {
			return nil, fmt.Errorf("encryption key %d of tenant %d: %w", id, tenant, ErrKeyGone)
		}
		if k, err = r.masters.Unwrap(w.Tenant, w.ID, w.Wrapped, w.Master); err != nil {
			return nil, err
		}
		r.Add(k)
	}
	if k.Tenant != tenant {
		return nil, &Error{Place: wrapPlace(tenant, id), Key: id, Why: fmt.Sprintf("it is a key of tenant %d", k.Tenant)}
	}
	return k, nil
}

// Keys gives the keys of a pair.
func (r *Ring) Keys(ctx context.Context, tenant int64, p Pair, load Load) (Keys, error) {
	keys := Keys{Pair: p}
	var err error
	if keys.Current, err = r.Key(ctx, tenant, p.Current, load); err != nil {
		return Keys{}, err
	}
	if p.Rotating {
		keys.Former, err = r.Key(ctx, tenant, p.Former, load)
	}
	return keys, err
}
