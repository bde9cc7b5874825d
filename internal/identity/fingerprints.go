package identity

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Fingerprints is the set of the live client keys' digests, so that a junk key
// is refused from memory. It holds 64 bits of each, keyed at random per process:
// nobody outside can make two keys collide. Has may say yes to a digest that was
// never added, about once in 2^64 / Len() tries, so a yes is only a reason to ask
// the store; a no is final. (Two live keys that share a fingerprint, 3 in 10^8 for
// a million keys, are removed together; the next process draws another seed.)
//
// Readers take no lock and allocate nothing. Writers are serialised.
type Fingerprints struct {
	seed  maphash.Seed
	table atomic.Pointer[fingerprintTable] // what readers see

	mu sync.Mutex // serialises writers: guards every change to the table and its counts
}

// The two values that no fingerprint takes.
const (
	slotEmpty   = 0 // ends a probe
	slotRemoved = 1 // a tombstone: a probe goes on past it
)

// minSlots is the size of the smallest table: 8 KiB.
const minSlots = 1024

// fingerprintTable is open addressing with linear probing. Fingerprints never
// move within a table, so a reader finds what is there whatever writers do
// beside it; growing makes another table.
type fingerprintTable struct {
	slots []atomic.Uint64
	live  atomic.Int64 // fingerprints in slots
	used  int          // live ones and tombstones; at most half of the slots
}

func newFingerprintTable(slots int) *fingerprintTable {
	return &fingerprintTable{slots: make([]atomic.Uint64, max(slots, minSlots))}
}

// NewFingerprints returns an empty set.
func NewFingerprints() *Fingerprints {
	f := &Fingerprints{seed: maphash.MakeSeed()}
	f.table.Store(newFingerprintTable(0))
	return f
}

// Has reports whether the digest may be in the set.
func (f *Fingerprints) Has(digest [32]byte) bool {
	_, found := f.table.Load().find(f.fingerprint(&digest))
	return found
}

// Len is how many fingerprints the set holds.
func (f *Fingerprints) Len() int { return int(f.table.Load().live.Load()) }

// Bytes is the memory of the table, in bytes: 16 to 24 for each fingerprint, and
// twice that for a moment while it grows.
func (f *Fingerprints) Bytes() int { return len(f.table.Load().slots) * 8 }

// Add puts the digest into the set; adding it again changes nothing.
func (f *Fingerprints) Add(digest [32]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	if grown := t.add(f.fingerprint(&digest)); grown != t {
		f.table.Store(grown)
	}
}

// Remove takes the digest out of the set; one that is absent changes nothing.
func (f *Fingerprints) Remove(digest [32]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	if slot, found := t.find(f.fingerprint(&digest)); found {
		t.slots[slot].Store(slotRemoved)
		t.live.Add(-1)
	}
}

// Replace swaps the whole set for the digests that fill adds. Readers see the
// former set until fill has returned, then the new one, and never a part of it.
// An Add or Remove that comes meanwhile waits, and is applied to the new set; fill
// must not call the set's own writers.
func (f *Fingerprints) Replace(fill func(add func(digest [32]byte))) {
	// The error is fill's own, and this fill has none.
	_ = f.Load(func(add func([32]byte)) error {
		fill(add)
		return nil
	})
}

// Load is Replace for a fill that can fail: its error comes back and the former
// set stays.
func (f *Fingerprints) Load(fill func(add func(digest [32]byte)) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := newFingerprintTable(0)
	err := fill(func(digest [32]byte) { t = t.add(f.fingerprint(&digest)) })
	if err != nil {
		return err
	}
	f.table.Store(t)
	return nil
}

// fingerprint hashes a digest under the process's seed. A digest alone would
// not do: whoever makes keys could choose them to fill one stretch of the table.
func (f *Fingerprints) fingerprint(digest *[32]byte) uint64 {
	h := maphash.Bytes(f.seed, digest[:])
	if h <= slotRemoved {
		h += 2
	}
	return h
}

// home is where a probe for fp begins: fp scaled to the number of slots, which
// need not be a power of two, so that a table can grow by half.
func (t *fingerprintTable) home(fp uint64) int {
	hi, _ := bits.Mul64(fp, uint64(len(t.slots)))
	return int(hi)
}

// find returns the slot of fp. At most half of the slots are used, so a probe
// meets an empty one.
func (t *fingerprintTable) find(fp uint64) (slot int, found bool) {
	for i := t.home(fp); ; {
		switch t.slots[i].Load() {
		case fp:
			return i, true
		case slotEmpty:
			return 0, false
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// add puts fp in and returns the table that holds it: t itself, or a copy where
// t was half full. Writers only.
func (t *fingerprintTable) add(fp uint64) *fingerprintTable {
	free, found := t.place(fp)
	if found {
		return t
	}
	if t.slots[free].Load() == slotEmpty {
		if 2*(t.used+1) > len(t.slots) {
			grown := t.regrown()
			return grown.add(fp)
		}
		t.used++
	}
	t.slots[free].Store(fp)
	t.live.Add(1)
	return t
}

// place returns the slot where fp is, or else the first slot of its probe that
// can take it: a tombstone, or the empty slot that ends the probe.
func (t *fingerprintTable) place(fp uint64) (slot int, found bool) {
	tombstone := -1
	for i := t.home(fp); ; {
		switch t.slots[i].Load() {
		case fp:
			return i, true
		case slotRemoved:
			if tombstone < 0 {
				tombstone = i
			}
		case slotEmpty:
			if tombstone >= 0 {
				return tombstone, false
			}
			return i, false
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// regrown copies the live fingerprints into a table that is at most a third
// full, so that half of its room is left before the next copy.
func (t *fingerprintTable) regrown() *fingerprintTable {
	live := int(t.live.Load())
	grown := newFingerprintTable(3 * (live + 1))
	for i := range t.slots {
		if fp := t.slots[i].Load(); fp > slotRemoved {
			slot, _ := grown.place(fp)
			grown.slots[slot].Store(fp)
		}
	}
	grown.live.Store(int64(live))
	grown.used = live
	return grown
}
