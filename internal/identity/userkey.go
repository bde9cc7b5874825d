package identity

import "crypto/sha256"

const (
	// UserKeySize is the length in bytes of a user API key's text: `rak_` and 43
	// characters of base 62.
	UserKeySize = len(userKeyPrefix) + base62Size

	// UserKeyShown is how many of its first characters may be shown to people. They
	// leave 208 random bits unknown.
	UserKeyShown = 12

	userKeyPrefix = "rak_" // begins every user API key
)

// IsUserKey reports whether text is a user API key by its form: `rak_` and 43
// letters and digits, nothing around it. Case matters. It allocates nothing.
func IsUserKey(text []byte) bool { return isBase62Key(userKeyPrefix, text) }

// NewUserKey makes a user API key from 256 random bits. It cannot fail: where the
// system has no randomness, crypto/rand ends the process.
func NewUserKey() (text [UserKeySize]byte) {
	fillBase62Key(text[:], userKeyPrefix)
	return text
}

// UserKeyDigest is what stands for a user API key in the store, in caches and in
// logs: the SHA-256 of its text. It allocates nothing.
func UserKeyDigest(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }
