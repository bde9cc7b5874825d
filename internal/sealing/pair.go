package sealing

// Pair is which keys a tenant's rows may be under, by key id; 0 is none: rows in
// clear. The zero Pair is a tenant that is not sealed.
type Pair struct {
	Current int64 // what rows are written under
	// Former is what rows may still be under while they are sealed anew.
	Former   int64
	Rotating bool // there is a Former
}

// Admits reports whether a row of the tenant may be under the key.
func (p Pair) Admits(id int64) bool { return id == p.Current || p.Rotating && id == p.Former }

// Keys are the keys of a Pair, unwrapped; nil is none: rows in clear.
type Keys struct {
	Pair            Pair
	Current, Former *Key
}

// Of gives the key that a row is under, which the row names by id. A row under a
// key that its tenant does not use does not open: in a sealed tenant a row in clear
// was put there by other hands.
func (k Keys) Of(id int64, p Place) (*Key, error) {
	switch {
	case id == k.Pair.Current:
		return k.Current, nil
	case k.Pair.Rotating && id == k.Pair.Former:
		return k.Former, nil
	case id == 0:
		return nil, &Error{Place: p, Why: "its row is in clear, and the tenant is sealed: the row was edited by other hands"}
	}
	return nil, &Error{Place: p, Key: id, Why: "its row names a key that is none of the tenant's"}
}

// Open opens a value of a row that names its key by id.
func (k Keys) Open(id int64, p Place, sealed string) (string, error) {
	key, err := k.Of(id, p)
	if err != nil {
		return "", err
	}
	return key.Open(p, sealed)
}

// Live are the keys that rows may be under, the one that writes first.
func (k Keys) Live() []*Key {
	if !k.Pair.Rotating {
		return []*Key{k.Current}
	}
	return []*Key{k.Current, k.Former}
}
