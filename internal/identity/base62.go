package identity

import "crypto/rand"

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// base62Size is how many characters of base 62 follow the prefix of an opaque
// credential: they hold 256 random bits.
const base62Size = 43

// isBase62Key reports whether text is the prefix and base62Size letters and digits,
// with nothing around it. Case matters. It allocates nothing.
func isBase62Key(prefix string, text []byte) bool {
	if len(text) != len(prefix)+base62Size || string(text[:len(prefix)]) != prefix {
		return false
	}
	for _, c := range text[len(prefix):] {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		default:
			return false
		}
	}
	return true
}

// fillBase62Key writes the prefix and random letters and digits over all of text.
// It cannot fail: where the system has no randomness, crypto/rand ends the process.
func fillBase62Key(text []byte, prefix string) {
	dst := append(text[:0], prefix...)
	var b [64]byte
	for {
		rand.Read(b[:])
		for _, c := range b {
			// 248 is the largest multiple of 62 in a byte: what is above it would make
			// the first digits likelier.
			if c >= 248 {
				continue
			}
			if dst = append(dst, base62[c%62]); len(dst) == len(text) {
				return
			}
		}
	}
}
