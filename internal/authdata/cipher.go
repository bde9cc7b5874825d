package authdata

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Auth's field encryption is AES-256-CTR under an IV that is a MAC of the
// plaintext, which makes it deterministic and lets the IV prove the value.
const (
	cipherTag    = "v2:"
	masterSalt   = "auth_deterministic_encryption_salt_v1"
	masterRounds = 100_000
	fieldInfo    = "auth-fieldkey-v2|"

	ivSize       = aes.BlockSize
	fieldKeySize = 64 // 32 for AES, then 32 for HMAC
)

var (
	errSealed  = errors.New("is encrypted, and there is no --auth-key")
	errNoProof = errors.New("is encrypted, and fails its check: it is damaged, or of another key or tenant")
	errBroken  = errors.New("is marked as encrypted (v2:) and is no base64 of a value")

	errAmbiguous = errors.New("is base64 without the mark v2: and fails its check: it is damaged or of another key, " +
		"or it is plain text from before encryption that happens to be base64: let Auth write it again")
)

// fieldKey opens the values of one tenant, or the untagged ones of all.
type fieldKey struct {
	block cipher.Block
	mac   []byte
}

func newFieldKey(material []byte) fieldKey {
	block, err := aes.NewCipher(material[:32])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	return fieldKey{block: block, mac: material[32:]}
}

// open decrypts IV and ciphertext. ok is false where the IV is not the plaintext's.
func (k fieldKey) open(raw []byte) (plain string, ok bool) {
	if len(raw) < ivSize {
		return "", false
	}
	iv := raw[:ivSize]
	text := make([]byte, len(raw)-ivSize)
	cipher.NewCTR(k.block, iv).XORKeyStream(text, raw[ivSize:])
	mac := hmac.New(sha256.New, k.mac)
	mac.Write(text)
	if !hmac.Equal(iv, mac.Sum(nil)[:ivSize]) {
		return "", false
	}
	return string(text), true
}

// keyring opens fields. A nil keyring has no key, and takes what is not marked for
// plain text. It is not safe for concurrent use.
type keyring struct {
	master   []byte
	untagged fieldKey

	creator string // whose key tagged is
	tagged  fieldKey
}

// newKeyring derives the master key, which takes tens of milliseconds.
func newKeyring(key Secret) (*keyring, error) {
	if key.Reveal() == "" {
		return nil, nil
	}
	master, err := pbkdf2.Key(sha256.New, key.Reveal(), []byte(masterSalt), masterRounds, fieldKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the field encryption: %w", err)
	}
	return &keyring{master: master, untagged: newFieldKey(master)}, nil
}

func (r *keyring) of(creator string) (fieldKey, error) {
	if r.creator != creator || r.tagged.block == nil {
		material, err := hkdf.Expand(sha256.New, r.master, fieldInfo+creator, fieldKeySize)
		if err != nil {
			return fieldKey{}, fmt.Errorf("derive a tenant's key: %w", err)
		}
		r.creator, r.tagged = creator, newFieldKey(material)
	}
	return r.tagged, nil
}

// open returns the plaintext of a field of the tenant. Without a mark, a value that
// is base64 must pass the check of the older form; what is no base64 is plain.
func (r *keyring) open(creator, value string) (string, error) {
	body, tagged := strings.CutPrefix(value, cipherTag)
	raw, isBase64 := decodeBase64(body)
	switch {
	case r == nil:
		if tagged && isBase64 && len(raw) >= ivSize {
			return "", errSealed
		}
		return value, nil
	case tagged:
		if !isBase64 || len(raw) < ivSize {
			return "", errBroken
		}
		key, err := r.of(creator)
		if err != nil {
			return "", err
		}
		if plain, ok := key.open(raw); ok {
			return plain, nil
		}
		return "", errNoProof
	case value == "" || !isBase64:
		return value, nil
	}
	if plain, ok := r.untagged.open(raw); ok {
		return plain, nil
	}
	return "", errAmbiguous
}

// decodeBase64 takes the standard alphabet with its padding. It does not insist on
// zeroes in the bits that padding leaves over: an untagged value is taken for
// plain text where this fails, so it is the safe side. Go's decoder skips line ends.
func decodeBase64(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	return raw, err == nil
}

// looksSealed reports whether a value can only be ciphertext: it has the form, and
// as plain text it would be no name of its column. With no pattern, only the mark counts.
func looksSealed(value string, p pattern) bool {
	body, tagged := strings.CutPrefix(value, cipherTag)
	raw, isBase64 := decodeBase64(body)
	return isBase64 && len(raw) >= ivSize && (tagged || p != nil && !p(value))
}
