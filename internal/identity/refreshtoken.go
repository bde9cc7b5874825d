package identity

import "crypto/sha256"

// RefreshTokenSize is the length in bytes of a refresh token's text: `prt_` and 43
// characters of base 62.
const RefreshTokenSize = len(refreshTokenPrefix) + base62Size

const refreshTokenPrefix = "prt_"

// NewRefreshToken makes a refresh token from 256 random bits. It says nothing by
// itself: what it is for, the store's row of its digest says. It cannot fail: where
// the system has no randomness, crypto/rand ends the process.
func NewRefreshToken() (text [RefreshTokenSize]byte) {
	fillBase62Key(text[:], refreshTokenPrefix)
	return text
}

// ParseRefreshToken returns the digest of a refresh token, or false for a text that
// is none by its form: `prt_` and 43 letters and digits, nothing around it. Case
// matters. It allocates nothing.
func ParseRefreshToken(text []byte) (digest [sha256.Size]byte, ok bool) {
	if !isBase62Key(refreshTokenPrefix, text) {
		return digest, false
	}
	return RefreshTokenDigest(text), true
}

// RefreshTokenDigest is what stands for a refresh token in the store and in logs:
// the SHA-256 of its text. It has 256 random bits, so a plain hash cannot be
// searched. It allocates nothing.
func RefreshTokenDigest(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }
