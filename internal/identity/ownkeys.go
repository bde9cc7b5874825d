package identity

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// OwnKeys is the public keys that verify our own tokens, for a Verifier to look up.
// The zero OwnKeys holds none. It is safe for concurrent use; finding a key takes no
// lock and allocates nothing.
type OwnKeys struct {
	set atomic.Pointer[ownKeySet] // nil holds no key

	mu   sync.Mutex // one SetKeys at a time
	last uint64     // the generation that was given last, under mu
}

// ownKeySet is the keys at one time. It is immutable.
type ownKeySet struct {
	byID map[string]*ownKey
}

// ownKey is one key as one SetKeys had it. It is immutable.
type ownKey struct {
	*verifyKey
	algorithm string // the only one that it verifies
	jwk       string
	// generation is kept for as long as the key stays in the set. Tokens carry it,
	// so that those of a withdrawn key are no longer verified, and no others.
	generation         uint64
	notBefore, expires int64 // Unix nanoseconds; 0 is no bound
}

// SetKeys replaces all keys at once. A token that was verified by a key which is not
// among them, or has become another, is not current any more (Verifier.Current);
// tokens of other keys stay.
//
// A key that cannot be used is left out, and the error names it; the other keys hold
// all the same, since the withdrawal of one must not wait for the mending of another.
// Two keys of one id are both left out.
func (o *OwnKeys) SetKeys(keys []PublicKey) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	former := o.set.Load()
	next := &ownKeySet{byID: make(map[string]*ownKey, len(keys))}
	twice := map[string]bool{}
	var errs []error
	for n := range keys {
		id := keys[n].KeyID
		key, err := o.read(&keys[n], former.get(id))
		if err == nil && (next.byID[id] != nil || twice[id]) {
			twice[id] = true
			delete(next.byID, id)
			err = errors.New("the key comes twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("public key %q is not used: %w", id, err))
			continue
		}
		next.byID[id] = key
	}
	o.set.Store(next)
	return errors.Join(errs...)
}

// read judges a key. Where the former set had it, it keeps its generation.
func (o *OwnKeys) read(k *PublicKey, former *ownKey) (*ownKey, error) {
	key := &ownKey{notBefore: k.NotBefore, expires: k.Expires}
	verify, parsed, err := parseOwnKey(k.JWK)
	if err != nil {
		return nil, err
	}
	if err := k.agrees(parsed); err != nil {
		return nil, err
	}
	key.verifyKey, key.algorithm, key.jwk = verify, parsed.Algorithm, string(parsed.JWK)
	if former != nil && former.jwk == key.jwk {
		key.generation = former.generation
	} else {
		o.last++
		key.generation = o.last
	}
	return key, nil
}

// get returns the key of an id, or nil. The nil set has none.
func (s *ownKeySet) get(id string) *ownKey {
	if s == nil {
		return nil
	}
	return s.byID[id]
}

// find returns the key that may verify a token now. The id is compared as bytes, and
// the algorithm is the key's own: the header's must be the same. now and leeway are in
// nanoseconds; the leeway is for clocks that are behind the signer's, and prolongs
// nothing.
func (o *OwnKeys) find(id, algorithm string, now, leeway int64) (*ownKey, *Refusal) {
	if id == "" {
		return nil, refuse("no `kid`: it must name one of our keys")
	}
	key := o.set.Load().get(id)
	switch {
	case key == nil:
		return nil, refuse("`kid` names no key of ours")
	case key.algorithm != algorithm || !key.fits(algorithm):
		return nil, refuse("`kid` names a key that is not for this `alg`")
	case key.expired(now):
		return nil, refuse("the key that `kid` names has expired")
	case now+leeway < key.notBefore:
		return nil, refuse("the key that `kid` names is not valid yet")
	}
	return key, nil
}

func (k *ownKey) expired(now int64) bool { return k.expires != 0 && now >= k.expires }

// current reports whether the key that verified a token verifies it still. The clock
// is asked only where the key has an end.
func (o *OwnKeys) current(id string, generation uint64, now func() time.Time) bool {
	key := o.set.Load().get(id)
	return key != nil && key.generation == generation && (key.expires == 0 || !key.expired(now().UnixNano()))
}
