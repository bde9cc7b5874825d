package chain

import "fmt"

// Begin is the anchor of a chain that is begun over rows which are in none, given one
// after the other by ascending id.
func (k *Key) Begin(a *Anchor, e *Entry) {
	a.Rows, a.LastRow, a.Digest = a.Rows+1, e.ID, k.Digest(a.Digest, k.Commit(&e.Row))
}

// Pruner checks the rows of a tenant that are to go, and those that are in no chain,
// and makes the anchor for what remains. Rows are given by ascending id: all up to
// the last one that goes, and all that are in no chain.
type Pruner struct {
	v      *Verifier
	last   int64
	faults []Fault
	next   Anchor
	gone   int64
}

// NewPruner begins a pruning of the rows up to the id last. anchor is nil where the
// tenant has none. at is the time of the new anchor, in Unix microseconds.
func NewPruner(key *Key, tenant int64, anchor *Anchor, mac Sum, last, at int64) *Pruner {
	p := &Pruner{last: last, next: Anchor{Tenant: tenant, At: at}}
	p.v = NewVerifier(key, tenant, anchor, mac, nil, func(f Fault) {
		if f.Kind != Unopened { // it may go, and cannot be checked by anybody
			p.faults = append(p.faults, f)
		}
	})
	p.next.Number, p.next.Link = p.v.anchor.Number, p.v.anchor.Link
	return p
}

// Next takes a row.
func (p *Pruner) Next(e *Entry) {
	p.v.Next(e)
	switch {
	case e.ID <= p.last:
		p.gone++
		if e.Number != 0 {
			p.next.Number, p.next.Link = e.Number, e.Link
		}
	case e.Number == 0:
		p.v.key.Begin(&p.next, e)
	}
}

// Anchor is the anchor of what remains, and how many rows go. Where a row was not what
// was written there is none: pruning must not take the proof away.
func (p *Pruner) Anchor() (next Anchor, mac Sum, gone int64, err error) {
	p.v.endUnchained()
	if len(p.faults) > 0 {
		return Anchor{}, Sum{}, 0, fmt.Errorf("%s (%d faults in all): see `portcullis audit verify`", p.faults[0], len(p.faults))
	}
	return p.next, p.v.key.Sign(&p.next), p.gone, nil
}
