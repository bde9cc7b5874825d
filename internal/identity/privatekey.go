package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// MaxPrivateKeys bounds a list of private keys. A rotation needs two.
const MaxPrivateKeys = 16

// PrivateKey signs tokens of our own. Formatting and logging show its algorithm and
// key id, never the key. It is immutable.
type PrivateKey struct {
	// A function, since package fmt asks no method of what is held in an unexported
	// field, and follows a pointer to a struct where the verb does not fit it.
	held func() *heldKey
}

type heldKey struct {
	signer crypto.Signer // *rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey
	method jwt.SigningMethod
	public PublicKey
}

// NewPrivateKey takes an RSA key of 2048 to 8192 bits (it signs RS256), a key on P-256
// (ES256) or an Ed25519 key (EdDSA). Any other is an error.
func NewPrivateKey(signer crypto.Signer) (*PrivateKey, error) {
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return nil, fmt.Errorf("an RSA key of %d primes: want 2", len(key.Primes))
		}
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return nil, errors.New("not a key for signatures: want RSA, P-256 or Ed25519")
	}
	public, err := newPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	held := &heldKey{signer, jwt.GetSigningMethod(public.Algorithm), public}
	return &PrivateKey{func() *heldKey { return held }}, nil
}

// KeyID is the thumbprint of the key's public half, RFC 7638.
func (k *PrivateKey) KeyID() string { return k.held().public.KeyID }

// Algorithm is the one that the key signs with: RS256, ES256 or EdDSA.
func (k *PrivateKey) Algorithm() string { return k.held().public.Algorithm }

// Public is the key's public half, without bounds in time.
func (k *PrivateKey) Public() PublicKey {
	public := k.held().public
	public.JWK = slices.Clone(public.JWK)
	return public
}

// PublicKeys are the public halves of private keys, in their order.
func PublicKeys(keys []*PrivateKey) []PublicKey {
	var out []PublicKey
	for _, k := range keys {
		out = append(out, k.Public())
	}
	return out
}

// String says which key it is: "the ES256 key dGh1bWI...".
func (k PrivateKey) String() string {
	if k.held == nil {
		return "no key"
	}
	return "the " + k.held().public.Algorithm + " key " + k.held().public.KeyID
}

// Format serves every verb of package fmt, %x and %#v among them.
func (k PrivateKey) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue serves log/slog.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText serves encoding/json and its like.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// pemBegin begins every block of PEM.
const pemBegin = "-----BEGIN "

// ParsePrivateKeys reads a list of private keys: one to MaxPrivateKeys blocks of PEM
// one after another, each PKCS #8, PKCS #1 or SEC 1, with nothing but white space
// around them. Encrypted keys, and a key that comes twice, are errors. An error says
// which block it is about and quotes nothing of it.
func ParsePrivateKeys(text []byte) ([]*PrivateKey, error) {
	var keys []*PrivateKey
	block := 0
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block++
		if !bytes.HasPrefix(rest, []byte(pemBegin)) {
			if bytes.Contains(rest, []byte(pemBegin)) {
				return nil, fmt.Errorf("there is other text before PEM block %d: take it out", block)
			}
			if block == 1 {
				return nil, errors.New("it is no PEM: want blocks that begin with -----BEGIN PRIVATE KEY-----")
			}
			return nil, fmt.Errorf("there is other text after PEM block %d: take it out", block-1)
		}
		decoded, after := pem.Decode(rest)
		// A block that is damaged is skipped by Decode: then what it took has two
		// beginnings, and a key would be missing without a word.
		if decoded == nil || bytes.Count(rest[:len(rest)-len(after)], []byte(pemBegin)) != 1 {
			detail := ""
			if !bytes.ContainsAny(text, "\n") && bytes.Contains(text, []byte(`\n`)) {
				detail = `: its lines are joined by a backslash and an n, where line ends belong`
			}
			return nil, fmt.Errorf("PEM block %d is damaged%s", block, detail)
		}
		rest = after
		if decoded.Type == "EC PARAMETERS" { // openssl writes the curve's name before the key, which has it too
			continue
		}
		key, err := parsePrivateKey(decoded)
		clear(decoded.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", block, err)
		}
		if slices.ContainsFunc(keys, func(o *PrivateKey) bool { return o.KeyID() == key.KeyID() }) {
			return nil, fmt.Errorf("PEM block %d: the key comes twice", block)
		}
		if keys = append(keys, key); len(keys) > MaxPrivateKeys {
			return nil, fmt.Errorf("more than %d keys", MaxPrivateKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no private key")
	}
	return keys, nil
}

func parsePrivateKey(block *pem.Block) (*PrivateKey, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["Proc-Type"] != "" {
		return nil, errors.New("it is encrypted: decrypt it with `openssl pkey`, and guard the file by its mode")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("it is no private key: want PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY")
	}
	if err != nil {
		return nil, errors.New("its content is malformed, or a key that no library would use")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a key for signatures: want RSA, P-256 or Ed25519")
	}
	return NewPrivateKey(signer)
}
