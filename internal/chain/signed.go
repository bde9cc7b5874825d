package chain

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Anchor says what stood before a chain's first remaining row, signed with the key.
//
// Where a chain was begun over rows that are in none, it is the digest of those, and
// Number is 0. Where rows were pruned, Number, Row and Link are those of the last one
// that went.
type Anchor struct {
	Tenant int64
	// Rows is how many unchained rows there are at and below LastRow, and Digest the
	// digest of their commitments, by id.
	Rows    int64
	LastRow int64
	Digest  Sum
	// Number and Link are those of the last row that was pruned from the chain; 0 and
	// zero where none was.
	Number int64
	Link   Sum
	At     int64 // Unix microseconds
}

// Sign is the MAC of an anchor.
func (k *Key) Sign(a *Anchor) Sum {
	mac := hmac.New(sha256.New, k.signs[:])
	mac.Write([]byte("anchor\x00"))
	number(mac, a.Tenant, a.Rows, a.LastRow)
	mac.Write(a.Digest[:])
	number(mac, a.Number)
	mac.Write(a.Link[:])
	number(mac, a.At)
	return Sum(mac.Sum(nil))
}

// Digest is that of unchained rows: of the digest so far and the next row's
// commitment. The first is the zero Sum.
func (k *Key) Digest(before, commitment Sum) Sum {
	mac := hmac.New(sha256.New, k.links[:])
	mac.Write([]byte("unchained\x00"))
	mac.Write(before[:])
	mac.Write(commitment[:])
	return Sum(mac.Sum(nil))
}

// Head is the last row of a chain. A chain without rows has the zero number and the
// zero link.
type Head struct {
	Tenant int64
	Number int64
	Link   Sum
}

// Checkpoint is a head at one time, signed, to be kept where who can write to the
// database cannot write.
type Checkpoint struct {
	Head
	At  time.Time
	MAC Sum
}

// Check makes a checkpoint of a head.
func (k *Key) Check(h Head, at time.Time) Checkpoint {
	c := Checkpoint{Head: h, At: at.UTC().Truncate(time.Second)}
	c.MAC = k.sign(&c)
	return c
}

// Valid reports whether the checkpoint was made with this key.
func (k *Key) Valid(c *Checkpoint) bool { return c.MAC.Equal(k.sign(c)) }

func (k *Key) sign(c *Checkpoint) Sum {
	mac := hmac.New(sha256.New, k.signs[:])
	mac.Write([]byte("checkpoint\x00"))
	number(mac, c.Tenant, c.Number)
	mac.Write(c.Link[:])
	number(mac, c.At.Unix())
	return Sum(mac.Sum(nil))
}

// checkpointJSON is a checkpoint as a line of a log or of a file.
type checkpointJSON struct {
	Tenant *int64 `json:"tenant"`
	Number *int64 `json:"number"`
	Link   string `json:"link"`
	At     string `json:"at"`
	MAC    string `json:"mac"`
}

// MarshalJSON writes the checkpoint as {"tenant","number","link","at","mac"}.
func (c Checkpoint) MarshalJSON() ([]byte, error) {
	return json.Marshal(checkpointJSON{&c.Tenant, &c.Number, c.Link.String(), c.At.Format(time.RFC3339), c.MAC.String()})
}

// UnmarshalJSON reads what MarshalJSON wrote, and skips fields that it does not know,
// such as those of the log line around it.
func (c *Checkpoint) UnmarshalJSON(text []byte) error {
	var in checkpointJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if in.Tenant == nil || in.Number == nil {
		return fmt.Errorf("a checkpoint has a tenant, a number, a link, a time and a mac: this has no tenant or no number")
	}
	at, err := time.Parse(time.RFC3339, in.At)
	if err != nil {
		return fmt.Errorf("at: %w", err)
	}
	out := Checkpoint{Head: Head{Tenant: *in.Tenant, Number: *in.Number}, At: at}
	if err := out.Link.parse(in.Link); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := out.MAC.parse(in.MAC); err != nil {
		return fmt.Errorf("mac: %w", err)
	}
	*c = out
	return nil
}

// String is the sum in hex.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

func (s *Sum) parse(text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != Size {
		return fmt.Errorf("want %d hex digits", 2*Size)
	}
	*s = Sum(b)
	return nil
}
