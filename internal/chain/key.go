package chain

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
)

// Size is the length of a commitment, of a link and of a MAC, in bytes.
const Size = sha256.Size

// SecretSize is the length of a chain's secret in bytes.
const SecretSize = 32

// Sum is a commitment, a link or a MAC.
type Sum [Size]byte

// Key makes and checks commitments and links. It is immutable and safe for
// concurrent use.
type Key struct {
	rows, links, signs [32]byte
}

// NewSecret is a random secret for NewKey.
func NewSecret() []byte {
	secret := make([]byte, SecretSize)
	rand.Read(secret) // never fails: it ends the program instead
	return secret
}

// NewKey is the key of a secret of SecretSize bytes.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != SecretSize {
		return nil, errors.New("the audit's key is not 32 bytes long")
	}
	derive := func(use string) [32]byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("portcullis audit " + use + " v1"))
		return [32]byte(mac.Sum(nil))
	}
	return &Key{rows: derive("row"), links: derive("link"), signs: derive("signature")}, nil
}

// Row is all that an audit row says, in clear.
type Row struct {
	ID       int64
	Tenant   int64
	Time     int64 // Unix microseconds, the finest that every store keeps
	Revision int64
	Success  bool
	// Texts are the row's texts in an order that never changes.
	Texts []string
}

// Commit is the commitment to a row.
func (k *Key) Commit(r *Row) Sum {
	mac := hmac.New(sha256.New, k.rows[:])
	var success int64
	if r.Success {
		success = 1
	}
	number(mac, r.ID, r.Tenant, r.Time, r.Revision, success, int64(len(r.Texts)))
	for _, text := range r.Texts {
		number(mac, int64(len(text)))
		mac.Write([]byte(text))
	}
	return Sum(mac.Sum(nil))
}

// Link is the link of the row with the given number and commitment, behind the link
// of the number before it. The first number is 1, and the link before it the zero
// Sum.
func (k *Key) Link(tenant, n int64, before, commitment Sum) Sum {
	mac := hmac.New(sha256.New, k.links[:])
	number(mac, tenant, n)
	mac.Write(before[:])
	mac.Write(commitment[:])
	return Sum(mac.Sum(nil))
}

// Equal compares in a time that tells nothing.
func (s Sum) Equal(other Sum) bool { return hmac.Equal(s[:], other[:]) }

func number(mac hash.Hash, all ...int64) {
	var b [8]byte
	for _, n := range all {
		binary.BigEndian.PutUint64(b[:], uint64(n))
		mac.Write(b[:])
	}
}
