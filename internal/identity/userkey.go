package identity

import (
	"crypto/rand"
	"crypto/sha256"
)

const (
	// UserKeySize is the length in bytes of a user API key's text: `rak_` and 43
	// characters of base 62.
	UserKeySize = len(userKeyPrefix) + 43

	// UserKeyShown is how many of its first characters may be shown to people. They
	// leave 208 random bits unknown.
	UserKeyShown = 12

	userKeyPrefix = "rak_" // begins every user API key
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// IsUserKey reports whether text is a user API key by its form: `rak_` and 43
// letters and digits, nothing around it. Case matters. It allocates nothing.
func IsUserKey(text []byte) bool {
	if len(text) != UserKeySize || string(text[:len(userKeyPrefix)]) != userKeyPrefix {
		return false
	}
	for _, c := range text[len(userKeyPrefix):] {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		default:
			return false
		}
	}
	return true
}

// NewUserKey makes a user API key from 256 random bits. It cannot fail: where the
// system has no randomness, crypto/rand ends the process.
func NewUserKey() (text [UserKeySize]byte) {
	dst := append(text[:0], userKeyPrefix...)
	var b [64]byte
	for {
		rand.Read(b[:])
		for _, c := range b {
			// 248 is the largest multiple of 62 in a byte: what is above it would make
			// the first digits likelier.
			if c >= 248 {
				continue
			}
			if dst = append(dst, base62[c%62]); len(dst) == UserKeySize {
				return text
			}
		}
	}
}

// UserKeyDigest is what stands for a user API key in the store, in caches and in
// logs: the SHA-256 of its text. It allocates nothing.
func UserKeyDigest(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }
