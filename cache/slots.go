package cache

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"portcullis/internal/store"
)

const (
	slotBits  = 16
	slotCount = 1 << slotBits

	// knownRevisions is how many applied revisions a history remembers with their
	// tags, to tell a value that was read a moment ago from one of another past.
	knownRevisions = 1024
)

// slot names one cell of a history's slot array. Things that share a cell share
// their invalidations, which costs a load and never an answer.
type slot uint32

// slotOf spreads a domain and a 64-bit name over the slots.
func slotOf(domain, name uint64) slot {
	x := name ^ domain*0x9e3779b97f4a7c15
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return slot(x >> (64 - slotBits))
}

func tenantSlot(t store.TenantID) slot { return slotOf(1, uint64(t)) }
func rolesSlot(t store.TenantID) slot  { return slotOf(2, uint64(t)) }
func principalSlot(t store.TenantID, i store.Index) slot {
	return slotOf(3, uint64(t)*0x100000001b3^binary.LittleEndian.Uint64(i[:8]))
}
func keySlot(d store.Digest) slot { return slotOf(4, binary.LittleEndian.Uint64(d[:8])) }

// history is one unbroken line of revisions. A full load starts a new one, with
// slots of its own, so that values and readers of the former line can never be
// taken for the new one's, even where revision numbers went back.
type history struct {
	// floor is the revision of the full load that began this history. Nothing that
	// was read before it is used.
	floor int64
	slots [slotCount]atomic.Int64

	mu    sync.Mutex // guards known and next
	known [knownRevisions]store.Revision
	next  int // where the next revision goes
}

func newHistory(base store.Revision) *history {
	h := &history{floor: base.Number}
	h.learn(base)
	return h
}

// raise records that the thing in s changed at revision. Slots only grow.
func (h *history) raise(s slot, revision int64) {
	for {
		old := h.slots[s].Load()
		if old >= revision || h.slots[s].CompareAndSwap(old, revision) {
			return
		}
	}
}

// learn remembers an applied revision, forgetting the oldest one.
func (h *history) learn(r store.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[h.next%knownRevisions] = r
	h.next++
}

// confirms reports whether r is a revision that this history went through. One
// that it has forgotten is not confirmed, which costs a load.
func (h *history) confirms(r store.Revision) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := h.next - 1; i >= 0 && i >= h.next-knownRevisions; i-- {
		if h.known[i%knownRevisions] == r {
			return true
		}
	}
	return false
}

// fit is how a value relates to a snapshot.
type fit uint8

const (
	tooOld fit = iota // something in it may have changed since: load again
	tooNew            // the store is ahead of the snapshot: catch up first
	fits              // true at the snapshot's revision
)

// judge is the rule of DESIGN, "One write", 3: a value that was read at revision
// in history h is true at the snapshot's revision if and only if
// max(floor, its slots) <= revision <= snapshot. It is total and allocates
// nothing.
func (s *Snapshot) judge(h *history, revision int64, a, b slot) fit {
	if h != s.hist {
		return tooOld
	}
	if revision > s.Revision.Number {
		return tooNew
	}
	if revision < h.floor || revision < h.slots[a].Load() || revision < h.slots[b].Load() {
		return tooOld
	}
	return fits
}

// judgeLoaded is judge for a value fresh from the store, whose tag must also
// prove that it belongs to this history.
func (s *Snapshot) judgeLoaded(h *history, r store.Revision, a, b slot) fit {
	f := s.judge(h, r.Number, a, b)
	if f == fits && !h.confirms(r) {
		return tooOld
	}
	return f
}
