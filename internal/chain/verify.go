package chain

import "fmt"

// Entry is a row as it lies in the store.
type Entry struct {
	Row
	// Number is the row's in its chain; 0 of one that is in none.
	Number           int64
	Commitment, Link Sum
	// Unreadable says why what the row seals does not open; "" where Row is whole. Row
	// then has what lies in clear.
	Unreadable string
}

// Fault is one thing that is wrong with a chain.
type Fault struct {
	Kind   FaultKind
	Tenant int64
	Row    int64  // the id of the row, or of the one behind what is missing; 0 for none
	Number int64  // its number in the chain; 0 for none
	Detail string // a sentence for who reads it; it holds nothing of the row's
}

// FaultKind is what was done to the audit.
type FaultKind string

// The kinds of fault.
const (
	Edited     FaultKind = "edited"     // what the row says is not what was written
	Removed    FaultKind = "removed"    // rows between two others are gone
	Reordered  FaultKind = "reordered"  // the row stands elsewhere than it was written
	Inserted   FaultKind = "inserted"   // the row was written by other hands
	Relinked   FaultKind = "relinked"   // the row's link or commitment was changed
	CutOff     FaultKind = "cut_off"    // the end of the chain is gone
	Unanchored FaultKind = "unanchored" // what the chain begins behind was changed
	Unopened   FaultKind = "unreadable" // what the row says cannot be read, so not be checked
	BadPoint   FaultKind = "checkpoint" // the checkpoint is not of this key
)

func (f Fault) String() string {
	where := ""
	if f.Row != 0 {
		where = fmt.Sprintf("row %d: ", f.Row)
	}
	return fmt.Sprintf("tenant %d: %s%s: %s", f.Tenant, where, f.Kind, f.Detail)
}

// Verifier checks one tenant's rows, given one after the other by ascending id.
// It is not for concurrent use.
type Verifier struct {
	key    *Key
	anchor Anchor
	found  func(Fault)

	rows      int64 // checked, of both sorts
	unchained int64
	digest    Sum
	last      Head          // what the next row's link is made from
	points    map[int64]Sum // the links that checkpoints name, by number
}

// NewVerifier begins behind the tenant's anchor; nil where there is none, as of a
// tenant that was made after the chain was begun. found hears of each fault.
func NewVerifier(key *Key, tenant int64, anchor *Anchor, mac Sum, points []Checkpoint, found func(Fault)) *Verifier {
	v := &Verifier{key: key, found: found, points: make(map[int64]Sum), anchor: Anchor{Tenant: tenant}}
	if anchor != nil {
		if anchor.Tenant != tenant || !key.Sign(anchor).Equal(mac) {
			v.fault(Unanchored, 0, 0, "its anchor was changed: what stood before the chain cannot be told")
		} else {
			v.anchor = *anchor
		}
	}
	v.last = Head{Tenant: tenant, Number: v.anchor.Number, Link: v.anchor.Link}
	for i := range points {
		p := &points[i]
		switch {
		case p.Tenant != tenant:
		case !key.Valid(p):
			v.fault(BadPoint, 0, p.Number, fmt.Sprintf("the checkpoint of %s was not signed with this audit key", p.At.Format("2006-01-02 15:04:05Z")))
		default:
			// Two that are both ours and name different rows: the chain was cut back behind
			// the first, and went on. The later one must not stand in for it.
			if first, ok := v.points[p.Number]; ok && !first.Equal(p.Link) {
				v.fault(Relinked, 0, p.Number, fmt.Sprintf("two checkpoints name different rows of number %d: the chain was cut off there, or a backup restored, and written on", p.Number))
				continue
			}
			v.points[p.Number] = p.Link
		}
	}
	v.check(0)
	return v
}

// Rows is how many rows were checked.
func (v *Verifier) Rows() int64 { return v.rows }

// Number is that of the last row of the chain that was checked, or of the anchor.
func (v *Verifier) Number() int64 { return v.last.Number }

// Next checks a row.
func (v *Verifier) Next(e *Entry) {
	v.rows++
	said := v.says(e)
	if e.Number == 0 {
		v.outside(e, said)
		return
	}
	switch {
	case e.Number <= v.last.Number:
		v.fault(Reordered, e.ID, e.Number, fmt.Sprintf("it has number %d of its chain, and stands behind number %d", e.Number, v.last.Number))
		return // the chain goes on from where it was
	case e.Number > v.last.Number+1:
		v.fault(Removed, e.ID, e.Number, missing(v.last.Number+1, e.Number-1)+" before it")
		if !said.Equal(e.Commitment) { // the link before it, which would tell too, is gone
			v.fault(Edited, e.ID, e.Number, "what it says is not what was written")
		}
	default:
		if want := v.key.Link(v.last.Tenant, e.Number, v.last.Link, said); !want.Equal(e.Link) {
			v.unlinked(e, said)
		}
	}
	v.last.Number, v.last.Link = e.Number, e.Link
	v.check(e.ID)
}

// says is the row's commitment: the one that its text has, or, where that cannot be
// read, the one that it carries. One that is in no chain carries none, and is anchored
// as what of it lies in clear.
func (v *Verifier) says(e *Entry) Sum {
	if e.Unreadable != "" {
		v.fault(Unopened, e.ID, e.Number, "what it says cannot be checked: "+e.Unreadable)
		if e.Number != 0 {
			return e.Commitment
		}
	}
	return v.key.Commit(&e.Row)
}

// unlinked finds out which of a row's columns does not fit.
func (v *Verifier) unlinked(e *Entry, said Sum) {
	if !said.Equal(e.Commitment) && v.key.Link(v.last.Tenant, e.Number, v.last.Link, e.Commitment).Equal(e.Link) {
		v.fault(Edited, e.ID, e.Number, "what it says is not what was written")
		return
	}
	v.fault(Relinked, e.ID, e.Number, "its link does not fit the row before it: the row, or its link, was changed")
}

// outside checks a row that is in no chain.
func (v *Verifier) outside(e *Entry, said Sum) {
	if e.ID > v.anchor.LastRow || v.unchained >= v.anchor.Rows {
		v.fault(Inserted, e.ID, 0, "it is in no chain: it was not written by Portcullis, or its number was taken away")
		return
	}
	v.unchained++
	v.digest = v.key.Digest(v.digest, said)
}

func (v *Verifier) check(row int64) {
	link, ok := v.points[v.last.Number]
	if !ok {
		return
	}
	if !link.Equal(v.last.Link) {
		v.fault(Relinked, row, v.last.Number, "it is not the row that the checkpoint was made of: the chain was written anew")
	}
	delete(v.points, v.last.Number)
}

// End says what is missing behind the last row. head is what the store says of the
// chain's end.
func (v *Verifier) End(head Head) {
	v.endUnchained()
	switch {
	case head.Number > v.last.Number:
		v.fault(CutOff, 0, head.Number, missing(v.last.Number+1, head.Number)+" at its end")
	case head.Number < v.last.Number:
		v.fault(Relinked, 0, head.Number, fmt.Sprintf("the chain's head is at number %d, and its last row has number %d: the head was set back", head.Number, v.last.Number))
	case !head.Link.Equal(v.last.Link):
		v.fault(Relinked, 0, head.Number, "the chain's head does not fit its last row")
	}
	for number := range v.points {
		switch {
		case number > v.last.Number:
			v.fault(CutOff, 0, number, fmt.Sprintf("a checkpoint was made of number %d, and the chain ends at number %d", number, v.last.Number))
		case number > v.anchor.Number:
			v.fault(Removed, 0, number, fmt.Sprintf("number %d, of which a checkpoint was made, is gone", number))
		}
	}
}

// endUnchained says what is missing of the rows that the chain was begun behind.
func (v *Verifier) endUnchained() {
	if v.unchained < v.anchor.Rows {
		v.fault(Unanchored, 0, 0, fmt.Sprintf("of %d rows that were there when the chain was begun, %d are gone", v.anchor.Rows, v.anchor.Rows-v.unchained))
	} else if !v.digest.Equal(v.anchor.Digest) {
		v.fault(Unanchored, 0, 0, fmt.Sprintf("the %d rows that were there when the chain was begun are not what they were", v.anchor.Rows))
	}
}

func (v *Verifier) fault(kind FaultKind, row, number int64, detail string) {
	v.found(Fault{Kind: kind, Tenant: v.anchor.Tenant, Row: row, Number: number, Detail: detail})
}

func missing(from, to int64) string {
	if from == to {
		return fmt.Sprintf("number %d is missing", from)
	}
	return fmt.Sprintf("numbers %d to %d are missing", from, to)
}
