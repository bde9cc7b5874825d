package cache

import (
	"portcullis/internal/store"
)

// denials is the deny-list as a snapshot holds it. It is immutable.
type denials struct {
	marks shardMap[store.Digest, denial]
	// subjects counts the marks of subjects by tenant: an index is computed only for
	// callers of a tenant that has one. 0 is for marks whose tenant was not told,
	// which may be anybody's.
	subjects shardMap[store.TenantID, int]
	// since is from when on the list is whole, in Unix nanoseconds: marks that had
	// expired by then may have been dropped. A clock that was ahead makes marks look
	// expired, and the tokens that they refuse with them; once it is put right, both
	// count again, and the list has to be loaded anew.
	since int64
}

// denial is one mark.
type denial struct {
	tenant  store.TenantID
	before  int64 // of a subject: Unix nanoseconds; 0 for tokens and keys
	expires int64 // Unix nanoseconds
}

func newDenials(marks []store.DenyMark) denials {
	d := denials{marks: newShardMap[store.Digest, denial](nil), subjects: newShardMap[store.TenantID, int](nil)}
	set := make(map[store.Digest]denial, len(marks))
	for _, m := range marks {
		set[m.Digest] = denial{m.Tenant, m.Before, m.Expires}
	}
	return d.with(set, nil)
}

// empty reports whether nothing is denied: all that a check asks of most lists.
func (d *denials) empty() bool { return d.marks.size == 0 }

// marksSubjects reports whether a principal of the tenant may have a mark.
func (d *denials) marksSubjects(t store.TenantID) bool {
	if d.subjects.size == 0 {
		return false
	}
	if _, ok := d.subjects.get(t); ok {
		return true
	}
	_, ok := d.subjects.get(0)
	return ok
}

// get finds a mark that has not expired at now, in Unix nanoseconds. One that has is
// no mark, swept or not: sidecars that loaded at different times agree.
func (d *denials) get(digest store.Digest, now int64) (denial, bool) {
	m, ok := d.marks.get(digest)
	return m, ok && now < m.expires
}

// changed returns a copy with the changes of a delta, in their order.
func (d denials) changed(changes []store.Change) denials {
	var set map[store.Digest]denial
	var drop map[store.Digest]struct{}
	for _, ch := range changes {
		if ch.Kind != store.ChangeDenial {
			continue
		}
		if set == nil {
			set, drop = make(map[store.Digest]denial), make(map[store.Digest]struct{})
		}
		if ch.Gone {
			delete(set, ch.Digest)
			drop[ch.Digest] = struct{}{}
		} else {
			delete(drop, ch.Digest)
			set[ch.Digest] = denial{ch.Tenant, ch.Before, ch.Expires}
		}
	}
	gone := make([]store.Digest, 0, len(drop))
	for digest := range drop {
		gone = append(gone, digest)
	}
	return d.with(set, gone)
}

// with returns a copy that holds set and lacks drop, which have no digest in common.
func (d denials) with(set map[store.Digest]denial, drop []store.Digest) denials {
	if len(set) == 0 && len(drop) == 0 {
		return d
	}
	counts := make(map[store.TenantID]int)
	leaves := func(digest store.Digest) {
		if m, ok := d.marks.get(digest); ok && m.before != 0 {
			counts[m.tenant]--
		}
	}
	for _, digest := range drop {
		leaves(digest)
	}
	for digest, m := range set {
		leaves(digest)
		if m.before != 0 {
			counts[m.tenant]++
		}
	}
	var none []store.TenantID
	for t, n := range counts {
		had, _ := d.subjects.get(t)
		if counts[t] = had + n; counts[t] == 0 {
			delete(counts, t)
			none = append(none, t)
		}
	}
	d.marks, d.subjects = d.marks.with(set, drop), d.subjects.with(counts, none)
	return d
}

// sweptAtOnce is how many marks one sweep looks at, at most.
const sweptAtOnce = 4096

// sweep looks for marks that expired before limit, in Unix nanoseconds, from the
// given shard on, and returns a copy without those that it found, how many those
// were, and the shard to go on from.
func (d denials) sweep(limit int64, from int) (next denials, gone, at int) {
	var drop []store.Digest
	looked, at := 0, from
	for n := 0; n < shardCount && looked < sweptAtOnce; n++ {
		for digest, m := range d.marks.shards[at] {
			if looked++; m.expires < limit {
				drop = append(drop, digest)
			}
			// Go begins a map anywhere, so the rest of a large shard has its turn too.
			if looked >= sweptAtOnce {
				break
			}
		}
		at = (at + 1) % shardCount
	}
	if len(drop) > 0 {
		d = d.with(nil, drop)
		d.since = max(d.since, limit)
	}
	return d, len(drop), at
}
