package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// ClientKeySize is the length in bytes of a client key's text.
const ClientKeySize = 36

// ParseClientKey reads a client key: a version 4 UUID of the RFC 9562 variant,
// with hyphens, in either case, and nothing around it. canonical is its
// lower-case text, whose digest is what the store holds. It allocates nothing.
func ParseClientKey(text []byte) (canonical [ClientKeySize]byte, ok bool) {
	if len(text) != ClientKeySize {
		return canonical, false
	}
	for i, c := range text {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return [ClientKeySize]byte{}, false
			}
		default:
			switch {
			case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
			case 'A' <= c && c <= 'F':
				c += 'a' - 'A'
			default:
				return [ClientKeySize]byte{}, false
			}
		}
		canonical[i] = c
	}
	if canonical[14] != '4' {
		return [ClientKeySize]byte{}, false
	}
	switch canonical[19] {
	case '8', '9', 'a', 'b':
		return canonical, true
	}
	return [ClientKeySize]byte{}, false
}

// NewClientKey makes a client key from 122 random bits, in canonical form. It
// cannot fail: where the system has no randomness, crypto/rand ends the process.
func NewClientKey() (canonical [ClientKeySize]byte) {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40 // version 4
	b[8] = b[8]&0x3f | 0x80 // the RFC 9562 variant
	dst := canonical[:0]
	dst = hex.AppendEncode(dst, b[:4])
	for _, group := range [][]byte{b[4:6], b[6:8], b[8:10], b[10:]} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, group)
	}
	return canonical
}

// KeyDigest is what stands for a client key in the store, in caches and in
// logs: the SHA-256 of its canonical text. A key has 122 random bits, so a plain
// hash cannot be searched.
func KeyDigest(canonical [ClientKeySize]byte) [sha256.Size]byte {
	return sha256.Sum256(canonical[:])
}
