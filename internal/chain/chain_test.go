package chain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const tenant = 7

// book is a chain as a store keeps it.
type book struct {
	key    *Key
	rows   []Entry
	head   Head
	anchor *Anchor
	mac    Sum
}

func newBook(t *testing.T, unchained, chained int) *book {
	t.Helper()
	key, err := NewKey(NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	b := &book{key: key, head: Head{Tenant: tenant}}
	row := func(id int) Row {
		return Row{ID: int64(id), Tenant: tenant, Time: int64(1000 + id), Revision: int64(id), Success: true, Texts: []string{"cli", fmt.Sprintf("user%d", id), ""}}
	}
	a := Anchor{Tenant: tenant}
	for id := 1; id <= unchained; id++ {
		r := row(id)
		a.Rows, a.LastRow, a.Digest = a.Rows+1, r.ID, key.Digest(a.Digest, key.Commit(&r))
		b.rows = append(b.rows, Entry{Row: r})
	}
	b.anchored(a)
	for range chained {
		r := row(len(b.rows) + 1)
		e := Entry{Row: r, Number: b.head.Number + 1, Commitment: key.Commit(&r)}
		e.Link = key.Link(tenant, e.Number, b.head.Link, e.Commitment)
		b.head.Number, b.head.Link = e.Number, e.Link
		b.rows = append(b.rows, e)
	}
	return b
}

func (b *book) anchored(a Anchor) { b.anchor, b.mac = &a, b.key.Sign(&a) }

func (b *book) verify(points ...Checkpoint) []Fault {
	var faults []Fault
	v := NewVerifier(b.key, tenant, b.anchor, b.mac, points, func(f Fault) { faults = append(faults, f) })
	slices.SortStableFunc(b.rows, func(x, y Entry) int { return int(x.ID - y.ID) })
	for i := range b.rows {
		v.Next(&b.rows[i])
	}
	v.End(b.head)
	return faults
}

func names(faults []Fault) string {
	var out []string
	for _, f := range faults {
		out = append(out, fmt.Sprintf("%s %d", f.Kind, f.Row))
	}
	return strings.Join(out, ", ")
}

func TestAWholeChainHasNoFault(t *testing.T) {
	for _, n := range []struct{ unchained, chained int }{{0, 0}, {0, 1}, {3, 0}, {3, 5}} {
		b := newBook(t, n.unchained, n.chained)
		point := b.key.Check(b.head, time.Now())
		if faults := b.verify(point); len(faults) != 0 {
			t.Errorf("%+v: %v", n, faults)
		}
	}
}

// A book has rows 1 to 3 unchained, and 4 to 8 with numbers 1 to 5.
func TestEveryTamperingIsNamed(t *testing.T) {
	remove := func(b *book, i int) { b.rows = slices.Delete(b.rows, i, i+1) }
	for _, c := range []struct {
		name   string
		tamper func(b *book)
		want   string
	}{
		{"a text of a row", func(b *book) { b.rows[4].Texts[1] = "mallory" }, "edited 5"},
		{"a text moved into its neighbour", func(b *book) { b.rows[4].Texts[0], b.rows[4].Texts[1] = "cliu", "ser5" }, "edited 5"},
		{"the time of a row", func(b *book) { b.rows[4].Time++ }, "edited 5"},
		{"the success of a row", func(b *book) { b.rows[4].Success = false }, "edited 5"},
		{"the revision of a row", func(b *book) { b.rows[4].Revision-- }, "edited 5"},
		{"a row and its commitment", func(b *book) {
			b.rows[4].Texts[1] = "mallory"
			b.rows[4].Commitment = b.rows[5].Commitment
		}, "relinked 5"},
		{"a link", func(b *book) { b.rows[4].Link[0] ^= 1 }, "relinked 5, relinked 6"},
		{"the last link", func(b *book) { b.rows[7].Link[0] ^= 1 }, "relinked 8, relinked 8, relinked 0"},
		{"a row is gone", func(b *book) { remove(b, 5) }, "removed 7"},
		{"the first row of the chain is gone", func(b *book) { remove(b, 3) }, "removed 5"},
		{"two rows are gone, and the next is edited", func(b *book) {
			b.rows[6].Texts[1] = "mallory"
			remove(b, 4)
			remove(b, 4)
		}, "removed 7, edited 7"},
		{"the numbers close the gap", func(b *book) {
			remove(b, 5)
			b.rows[5].Number, b.rows[6].Number = 3, 4
		}, "relinked 7, relinked 8, cut_off 0"},
		{"two rows change places", func(b *book) { b.rows[4].ID, b.rows[5].ID = b.rows[5].ID, b.rows[4].ID }, "removed 5, edited 5, reordered 6"},
		{"a row comes twice", func(b *book) {
			e := b.rows[5]
			e.ID = 9
			b.rows = append(b.rows, e)
		}, "reordered 9"},
		{"a row without a number is put at the end", func(b *book) { b.rows = append(b.rows, Entry{Row: Row{ID: 9, Tenant: tenant}}) }, "inserted 9"},
		{"a row without a number is put before the chain", func(b *book) { b.rows = append(b.rows, Entry{Row: Row{ID: 0, Tenant: tenant}}) }, "inserted 3, unanchored 0"},
		{"a number is taken away", func(b *book) { b.rows[4].Number = 0 }, "inserted 5, removed 6"},
		{"the end is cut off", func(b *book) { remove(b, 7) }, "cut_off 0"},
		{"the end is cut off, and the head with it", func(b *book) {
			remove(b, 7)
			b.head.Number, b.head.Link = 4, b.rows[6].Link
		}, "cut_off 0"},
		{"all of it is cut off", func(b *book) { b.rows, b.head = b.rows[:3], Head{Tenant: tenant} }, "cut_off 0"},
		{"the head is set back", func(b *book) { b.head.Number, b.head.Link = 4, b.rows[6].Link }, "relinked 0"},
		{"an unchained row is edited", func(b *book) { b.rows[1].Texts[1] = "mallory" }, "unanchored 0"},
		{"an unchained row is gone", func(b *book) { remove(b, 1) }, "unanchored 0"},
		{"the anchor is edited", func(b *book) { b.anchor.Rows = 0 }, "unanchored 0, inserted 1, inserted 2, inserted 3"},
		{"the anchor is gone", func(b *book) { b.anchor = nil }, "inserted 1, inserted 2, inserted 3"},
		{"the anchor is another tenant's", func(b *book) {
			b.anchor.Tenant = tenant + 1
			b.mac = b.key.Sign(b.anchor)
		}, "unanchored 0, inserted 1, inserted 2, inserted 3"},
		{"a row is unreadable", func(b *book) { b.rows[4].Texts, b.rows[4].Unreadable = nil, "it was cut off" }, "unreadable 5"},
		{"the chain is another key's", func(b *book) {
			other := newBook(t, 3, 5)
			b.rows, b.head = other.rows, other.head
		}, "relinked 4, relinked 5, relinked 6, relinked 7, relinked 8, relinked 8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, 3, 5)
			point := b.key.Check(b.head, time.Now())
			c.tamper(b)
			if got := names(b.verify(point)); got != c.want && !strings.HasPrefix(got, c.want+", ") {
				t.Errorf("found %s, want %s", got, c.want)
			}
		})
	}
}

// Without a checkpoint a tail that is gone together with the head cannot be seen,
// and with one it can. That is what checkpoints are for.
func TestOnlyACheckpointTellsOfACutTail(t *testing.T) {
	b := newBook(t, 0, 5)
	point := b.key.Check(b.head, time.Now())
	b.rows = b.rows[:4]
	b.head.Number, b.head.Link = 4, b.rows[3].Link
	if faults := b.verify(); len(faults) != 0 {
		t.Fatalf("without a checkpoint: %v", faults)
	}
	if got := names(b.verify(point)); got != "cut_off 0" {
		t.Errorf("with one: %s", got)
	}
	point.Number--
	if got := names(b.verify(point)); got != "checkpoint 0" {
		t.Errorf("with an edited one: %s", got)
	}
}

// A chain that was cut back and went on has a checkpoint of the same number again,
// signed by the program itself. It must not stand in for the first.
func TestALaterCheckpointDoesNotHideThatAChainWasCutBack(t *testing.T) {
	b := newBook(t, 0, 5)
	before := b.key.Check(b.head, time.Now())
	b.rows = b.rows[:4]
	b.head = Head{tenant, 4, b.rows[3].Link}
	r := Row{ID: 9, Tenant: tenant, Texts: []string{"cli", "another", ""}} // written by the program, after the cut
	e := Entry{Row: r, Number: 5, Commitment: b.key.Commit(&r)}
	e.Link = b.key.Link(tenant, 5, b.head.Link, e.Commitment)
	b.rows, b.head = append(b.rows, e), Head{tenant, 5, e.Link}
	after := b.key.Check(b.head, time.Now())
	if got := names(b.verify(after)); got != "" {
		t.Fatalf("with the later one alone: %s", got)
	}
	for what, points := range map[string][]Checkpoint{"in their order": {before, after}, "the other way round": {after, before}, "twice each": {before, before, after, after}} {
		if got := names(b.verify(points...)); !strings.HasPrefix(got, "relinked ") {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func TestAChainWrittenAnewDoesNotFitItsCheckpoint(t *testing.T) {
	b := newBook(t, 0, 5)
	point := b.key.Check(Head{tenant, 3, b.rows[2].Link}, time.Now())
	b.head = Head{Tenant: tenant} // by who has the key
	for i := range b.rows {
		e := &b.rows[i]
		e.Texts[1] = "mallory"
		e.Commitment = b.key.Commit(&e.Row)
		e.Link = b.key.Link(tenant, e.Number, b.head.Link, e.Commitment)
		b.head = Head{tenant, e.Number, e.Link}
	}
	if got := names(b.verify(point)); got != "relinked 3" {
		t.Errorf("found %s", got)
	}
}

func TestAPrunedChainGoesOn(t *testing.T) {
	b := newBook(t, 3, 5)
	early, late := b.key.Check(Head{tenant, 1, b.rows[3].Link}, time.Now()), b.key.Check(b.head, time.Now())
	b.anchored(Anchor{Tenant: tenant, Number: 2, Link: b.rows[4].Link})
	before := *b.anchor
	b.rows = b.rows[5:]
	if faults := b.verify(early, late); len(faults) != 0 {
		t.Errorf("pruned: %v", faults)
	}
	b.rows = b.rows[1:]
	if got := names(b.verify(late)); got != "removed 7" {
		t.Errorf("pruned, and one more is gone: %s", got)
	}
	before.Number, before.Link = 3, b.rows[0].Link // what whoever removed it would need
	b.anchor = &before
	if got := names(b.verify()); !strings.HasPrefix(got, "unanchored 0") {
		t.Errorf("with a forged anchor: %s", got)
	}
}

func TestCheckpointsAreReadOutOfLogLines(t *testing.T) {
	b := newBook(t, 0, 2)
	point := b.key.Check(b.head, time.Now())
	text, err := json.Marshal(point)
	if err != nil {
		t.Fatal(err)
	}
	line := `{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"audit checkpoint",` + string(text[1:])
	var read Checkpoint
	if err := json.Unmarshal([]byte(line), &read); err != nil {
		t.Fatal(err)
	}
	if read != point || !b.key.Valid(&read) {
		t.Errorf("read %+v, want %+v", read, point)
	}
	for _, broken := range []string{`{}`, `{"tenant":7}`, `{"tenant":7,"number":1,"link":"00","at":"2026-01-01T00:00:00Z","mac":""}`, `{"tenant":7,"number":1,"at":"now"}`, `[]`, ``} {
		if err := json.Unmarshal([]byte(broken), &read); err == nil {
			t.Errorf("%s was read", broken)
		}
	}
}

func TestASecretHas32Bytes(t *testing.T) {
	for _, n := range []int{0, 31, 33} {
		if _, err := NewKey(make([]byte, n)); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	key, _ := NewKey(NewSecret())
	r := Row{ID: 1, Tenant: tenant, Texts: slices.Repeat([]string{"a text of twenty byt"}, 11)}
	for b.Loop() {
		c := key.Commit(&r)
		key.Link(tenant, 1, Sum{}, c)
	}
}
