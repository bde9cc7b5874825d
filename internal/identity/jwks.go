package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
)

// Bounds of a JSON Web Key Set and of the keys in it.
const (
	maxKeySetSize = 1 << 20 // bytes
	maxKeys       = 256
	minRSABits    = 2048
	maxRSABits    = 8192 // verifying takes time that grows with the size
	maxExponent   = 10   // base64url characters of an RSA exponent
)

// verifyKey is one public key that signatures may be verified with.
type verifyKey struct {
	id     string // `kid`, "" where it has none
	family string // "RSA", "P-256", "P-384", "P-521" or "Ed25519"
	alg    string // the only algorithm that it is for; "" for all of its family
	public crypto.PublicKey
	print  string // equal for equal keys of equal use
}

// fits reports whether the key may verify a signature of the algorithm. An
// algorithm belongs to one family: ES256 with a key on P-384 is not ES256.
func (k *verifyKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return k.family == "RSA"
	case "ES256":
		return k.family == "P-256"
	case "ES384":
		return k.family == "P-384"
	case "ES512":
		return k.family == "P-521"
	case "EdDSA":
		return k.family == "Ed25519"
	}
	return false
}

// keySet is the usable keys of one issuer at one time. It is immutable.
type keySet struct {
	generation uint64 // of the source, see keySource
	keys       []*verifyKey
	byID       map[string][]*verifyKey // one of each family and algorithm
	ignored    []string                // why keys of the document are not among them
}

// keyMatch is how the search for a key ended.
type keyMatch uint8

const (
	keyUnknown keyMatch = iota // no key of this id: a newer set may have it
	keyUnfit                   // there is one, for other algorithms
	keyVague                   // no id, and not exactly one key fits
	keyFound
)

// find finds the one key that may verify a token. The id is compared as bytes and
// means nothing else. Several keys are never tried.
func (s *keySet) find(id, alg string) (*verifyKey, keyMatch) {
	if id == "" {
		var found *verifyKey
		for _, k := range s.keys {
			if !k.fits(alg) {
				continue
			}
			if found != nil {
				return nil, keyVague
			}
			found = k
		}
		if found == nil {
			return nil, keyVague
		}
		return found, keyFound
	}
	of := s.byID[id]
	for _, k := range of {
		if k.fits(alg) {
			return k, keyFound
		}
	}
	if len(of) > 0 {
		return nil, keyUnfit
	}
	return nil, keyUnknown
}

// lacks reports whether a key of s is no longer in next.
func (s *keySet) lacks(next *keySet) bool {
	return slices.ContainsFunc(s.keys, func(k *verifyKey) bool {
		return !slices.ContainsFunc(next.keys, func(n *verifyKey) bool { return n.print == k.print })
	})
}

// parseKeySet reads a JSON Web Key Set, RFC 7517. A key that cannot be used is
// left out and does not spoil the others: providers list keys for encryption, and
// of kinds that come after this program. A document without `keys` is an error.
func parseKeySet(text []byte) (*keySet, error) {
	members, err := readObject(text)
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	at := slices.IndexFunc(members, func(m member) bool { return m.key == "keys" })
	if at < 0 {
		return nil, errors.New("the key set has no `keys`")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(members[at].value, &list); err != nil || list == nil {
		return nil, errors.New("`keys` of the key set is not a list")
	}
	if len(list) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys, more than %d", len(list), maxKeys)
	}
	s := &keySet{byID: map[string][]*verifyKey{}}
	for n, raw := range list {
		k, err := parseKey(raw)
		if err != nil {
			s.ignored = append(s.ignored, fmt.Sprintf("key %d: %v", n+1, err))
			continue
		}
		s.keys = append(s.keys, k)
	}
	s.dropRivals()
	for _, k := range s.keys {
		s.byID[k.id] = append(s.byID[k.id], k)
	}
	return s, nil
}

// dropRivals keeps one of keys that come twice, and none of different keys that
// claim one id for one algorithm: which of them signed is not ours to guess.
func (s *keySet) dropRivals() {
	var kept []*verifyKey
	for n, k := range s.keys {
		if slices.ContainsFunc(s.keys[:n], func(o *verifyKey) bool { return o.print == k.print }) {
			continue
		}
		rival := func(o *verifyKey) bool {
			return o.print != k.print && o.id == k.id && k.id != "" && o.family == k.family && (o.alg == k.alg || o.alg == "" || k.alg == "")
		}
		if slices.ContainsFunc(s.keys, rival) {
			s.ignored = append(s.ignored, "two different keys have one kid")
			continue
		}
		kept = append(kept, k)
	}
	s.keys = kept
}

// parseKey reads one key, or says why it cannot be used.
func parseKey(raw []byte) (*verifyKey, error) {
	if _, err := readObject(raw); err != nil {
		return nil, err
	}
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, errors.New("a member has a wrong type")
	}
	switch {
	case m.KTY != jwkset.KtyRSA && m.KTY != jwkset.KtyEC && m.KTY != jwkset.KtyOKP:
		return nil, errors.New("kty is not RSA, EC or OKP")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return nil, errors.New("use is not sig")
	case m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return nil, errors.New("key_ops lack verify")
	case len(m.KID) > maxKeyIDSize:
		return nil, fmt.Errorf("kid is longer than %d bytes", maxKeyIDSize)
	case len(m.E) > maxExponent:
		return nil, errors.New("the exponent is too large")
	}
	// Only the public key itself goes on: certificates would have to be judged, and
	// their URLs fetched.
	bare := jwkset.JWKMarshal{KTY: m.KTY, CRV: m.CRV, X: m.X, Y: m.Y, N: m.N, E: m.E}
	parsed, err := jwkset.NewJWKFromMarshal(bare, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, errors.New("malformed")
	}
	k := &verifyKey{id: m.KID, alg: string(m.ALG), public: parsed.Key()}
	if k.alg == "Ed25519" { // the name that RFC 9864 gives to EdDSA on this curve
		k.alg = "EdDSA"
	}
	if err := k.judge(); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, errors.New("malformed")
	}
	k.print = fmt.Sprintf("%q %q %x", k.id, k.alg, der)
	return k, nil
}

// smallOrderPoints are the Ed25519 points of order 1, 2, 4 and 8, and the other
// spellings of these, all without the sign bit. crypto/ed25519 takes them.
var smallOrderPoints = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// smallOrder reports whether the public key is one under which a signature of
// nobody's verifies.
func smallOrder(public ed25519.PublicKey) bool {
	bare := slices.Clone(public)
	bare[len(bare)-1] &= 0x7f
	return slices.Contains(smallOrderPoints[:], hex.EncodeToString(bare))
}

// judge names the key's family and refuses weak keys.
func (k *verifyKey) judge() error {
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		k.family = "RSA"
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSABits, maxRSABits)
		}
		if public.E < 3 || public.E&1 == 0 || public.N.Bit(0) == 0 {
			return errors.New("no RSA key")
		}
	case *ecdsa.PublicKey:
		if _, err := public.ECDH(); err != nil { // also checks that the point is on the curve
			return errors.New("the point is not on its curve")
		}
		k.family = public.Curve.Params().Name
	case ed25519.PublicKey:
		if len(public) != ed25519.PublicKeySize || smallOrder(public) {
			return errors.New("an Ed25519 key of small order, for which anybody can sign")
		}
		k.family = "Ed25519"
	default:
		return errors.New("not a key for signatures")
	}
	return nil
}
