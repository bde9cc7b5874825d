package identity

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

const (
	maxJWKSize     = 4 << 10 // bytes of one key's text; RSA of 8192 bits takes 1.5 KiB
	minOwnExponent = 65537   // of an RSA key that signs our own tokens
)

// OwnAlgorithms are the algorithms that our own tokens may be signed with by a
// private key. Each belongs to one kind of key: RSA, P-256, Ed25519.
func OwnAlgorithms() []string { return []string{"RS256", "ES256", "EdDSA"} }

// PublicKey is a public key that verifies our own tokens, as the store keeps it.
type PublicKey struct {
	// KeyID is the key's thumbprint, RFC 7638: SHA-256 in base64url. A token names
	// its key by it.
	KeyID string
	// Algorithm is the only one that the key is for: RS256, ES256 or EdDSA.
	Algorithm string
	// JWK is the key, RFC 7517, in the one spelling that ParsePublicKey returns.
	JWK []byte
	// NotBefore and Expires bound when the key verifies, in Unix nanoseconds; 0 is
	// no bound.
	NotBefore, Expires int64
}

// ParsePublicKey reads a public key from its JWK. It is strict, since such keys are
// written by this program alone: exactly the members that belong to the kind of key,
// with `kid` the thumbprint and `alg` the algorithm of that kind; no private part; RSA
// of 2048 to 8192 bits with an exponent from 65537, P-256, or Ed25519, and none that
// is known to be weak. The times of the result are 0.
func ParsePublicKey(jwk []byte) (PublicKey, error) {
	_, public, err := parseOwnKey(jwk)
	return public, err
}

func parseOwnKey(jwk []byte) (*verifyKey, PublicKey, error) {
	if len(jwk) > maxJWKSize {
		return nil, PublicKey{}, fmt.Errorf("the key's text is longer than %d bytes", maxJWKSize)
	}
	members, err := readObject(jwk)
	if err != nil {
		return nil, PublicKey{}, err
	}
	for _, m := range members {
		switch m.key {
		case "kty", "crv", "x", "y", "n", "e", "kid", "alg", "use":
		case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
			return nil, PublicKey{}, errors.New("it holds a private part: only public keys are published")
		default:
			return nil, PublicKey{}, errors.New("it has a member that no public key of ours has")
		}
	}
	key, err := parseKey(jwk)
	if err != nil {
		return nil, PublicKey{}, err
	}
	public, err := newPublicKey(key.public)
	if err != nil {
		return nil, PublicKey{}, err
	}
	// The one spelling decides: a member that is missing, padded or of another key
	// differs from it.
	want, err := readObject(public.JWK)
	if err != nil {
		return nil, PublicKey{}, err
	}
	for _, w := range want {
		at := slices.IndexFunc(members, func(m member) bool { return m.key == w.key })
		if at < 0 {
			return nil, PublicKey{}, errors.New("`" + w.key + "` is missing")
		}
		got, ok := stringValue(members[at].value)
		if wanted, _ := stringValue(w.value); !ok || got != wanted {
			return nil, PublicKey{}, errors.New("`" + w.key + "` is not that of this key in its one spelling")
		}
	}
	if len(members) != len(want) {
		return nil, PublicKey{}, errors.New("it has a member that is not of its kind of key")
	}
	return key, public, nil
}

// newPublicKey judges a public key and writes it down.
func newPublicKey(public crypto.PublicKey) (PublicKey, error) {
	judged := verifyKey{public: public}
	if err := judged.judge(); err != nil {
		return PublicKey{}, err
	}
	text := base64.RawURLEncoding.EncodeToString
	var alg string
	var own [][2]string // the members that make the thumbprint, in its order
	switch public := public.(type) {
	case *rsa.PublicKey:
		if public.E < minOwnExponent {
			return PublicKey{}, fmt.Errorf("an RSA key with the exponent %d: want %d or more", public.E, minOwnExponent)
		}
		alg = "RS256"
		own = [][2]string{{"e", text(big.NewInt(int64(public.E)).Bytes())}, {"kty", "RSA"}, {"n", text(public.N.Bytes())}}
	case *ecdsa.PublicKey:
		if judged.family != "P-256" {
			return PublicKey{}, fmt.Errorf("an EC key on %s: want P-256", judged.family)
		}
		point, err := public.Bytes()
		if err != nil {
			return PublicKey{}, errors.New("the point is not on its curve")
		}
		alg = "ES256"
		own = [][2]string{{"crv", "P-256"}, {"kty", "EC"}, {"x", text(point[1:33])}, {"y", text(point[33:])}}
	case ed25519.PublicKey:
		alg = "EdDSA"
		own = [][2]string{{"crv", "Ed25519"}, {"kty", "OKP"}, {"x", text(public)}}
	}
	sum := sha256.Sum256(writeMembers(own))
	kid := text(sum[:])
	all := append(own, [2]string{"alg", alg}, [2]string{"kid", kid}, [2]string{"use", "sig"})
	slices.SortFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return PublicKey{KeyID: kid, Algorithm: alg, JWK: writeMembers(all)}, nil
}

// writeMembers writes a JSON object without white space. The values are words of
// ours and base64url: nothing in them needs an escape.
func writeMembers(members [][2]string) []byte {
	b := []byte{'{'}
	for n, m := range members {
		if n > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, m[0])
		b = append(b, ':')
		b = strconv.AppendQuote(b, m[1])
	}
	return append(b, '}')
}

// JWKS writes the JSON Web Key Set (RFC 7517) of the keys that have not expired at
// now, in Unix nanoseconds. A key that is not valid yet is in it, since verifiers must
// have it before it signs. The same keys make the same bytes, in whatever order they
// come. A key that ParsePublicKey would refuse is an error: nothing is published then.
func JWKS(keys []PublicKey, now int64) ([]byte, error) {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b PublicKey) int { return cmp.Compare(a.KeyID, b.KeyID) })
	var texts [][]byte
	for _, k := range keys {
		if k.Expires != 0 && now >= k.Expires {
			continue
		}
		_, parsed, err := parseOwnKey(k.JWK)
		if err == nil {
			err = k.agrees(parsed)
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.KeyID, err)
		}
		texts = append(texts, parsed.JWK)
	}
	texts = slices.CompactFunc(texts, bytes.Equal)
	return slices.Concat([]byte(`{"keys":[`), bytes.Join(texts, []byte{','}), []byte("]}")), nil
}

// agrees reports whether what is said beside a JWK is what the JWK says.
func (k *PublicKey) agrees(parsed PublicKey) error {
	switch {
	case k.KeyID != parsed.KeyID:
		return errors.New("the key id is not that of the JWK")
	case k.Algorithm != parsed.Algorithm:
		return errors.New("the algorithm is not that of the JWK")
	case k.Expires < 0, k.NotBefore < 0, k.Expires != 0 && k.Expires <= k.NotBefore:
		return errors.New("the times bound nothing")
	}
	return nil
}
