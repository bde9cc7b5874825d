package sealing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/fernet/fernet-go"
)

// keyBytes is the length of a tenant's key: a Fernet key and an index key.
const keyBytes = 64

// IndexSize is the length of a blind index in bytes.
const IndexSize = 16

// Key is one tenant's data key and index key. The nil *Key is that of a tenant
// whose fields are not sealed: it seals and opens texts as they are, and has no
// index. A Key is immutable and safe for concurrent use.
type Key struct {
	ID     int64 // its row's id, never 0
	Tenant int64
	data   fernet.Key
	index  [32]byte
}

// NewKey makes random keys for a tenant. id is the row's that they will lie in.
func NewKey(tenant, id int64) *Key {
	raw := make([]byte, keyBytes)
	rand.Read(raw) // never fails: it ends the program instead
	return newKey(tenant, id, raw)
}

// FreshID is an id for a new key: next, the database's own next one, or the moment
// in Unix microseconds, whichever is higher. A database that was restored from a
// backup counts on from a lower number; an id that is given twice, to two keys,
// would stand for the former one in every process that knows it.
func FreshID(next int64, now time.Time) int64 { return max(next, now.UnixMicro()) }

func newKey(tenant, id int64, raw []byte) *Key {
	k := &Key{ID: id, Tenant: tenant}
	copy(k.data[:], raw[:32])
	copy(k.index[:], raw[32:])
	return k
}

// KeyID is the key's id as rows carry it: 0 for the nil Key.
func (k *Key) KeyID() int64 {
	if k == nil {
		return 0
	}
	return k.ID
}

// Seal seals text for a place. Under the nil Key it is text itself.
func (k *Key) Seal(p Place, text string) (string, error) {
	if k == nil {
		return text, nil
	}
	return seal(&k.data, p, text)
}

// Open opens what Seal sealed for the place. The error is an *Error.
func (k *Key) Open(p Place, sealed string) (string, error) {
	if k == nil {
		return sealed, nil
	}
	text, why := open(&k.data, p, sealed)
	if why != "" {
		return "", &Error{Place: p, Key: k.ID, Why: why}
	}
	return text, nil
}

// Index is the blind index of a list of texts, for one use of it: equal lists
// under equal keys have equal indexes, and nothing else can be told from one. It
// panics under the nil Key, whose rows are looked up as they are.
func (k *Key) Index(use string, parts ...string) [IndexSize]byte {
	mac := hmac.New(sha256.New, k.index[:])
	var room [256]byte
	mac.Write(lengthPrefixed(append(room[:0], "portcullis index v1\x00"...), append([]string{use}, parts...)...))
	var sum [sha256.Size]byte
	return [IndexSize]byte(mac.Sum(sum[:0])[:IndexSize])
}

func seal(key *fernet.Key, p Place, text string) (string, error) {
	token, err := fernet.EncryptAndSign([]byte(p.header()+text), key)
	return string(token), err
}

// open opens a token that was sealed for the place, or says why not.
func open(key *fernet.Key, p Place, token string) (text, why string) {
	// fernet-go overlooks what is wrong with the base64: bits that no byte takes up,
	// newlines. Only the one spelling that was written is taken.
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < 1+8+16+16+32 || base64.URLEncoding.EncodedLen(len(raw)) != len(token) {
		return "", "it is cut off or was changed: it is no Fernet token"
	}
	// Time to live 0: how old it is does not matter. A failure is nil.
	message := fernet.VerifyAndDecrypt([]byte(token), 0, []*fernet.Key{key})
	if message == nil {
		return "", "it was changed, or sealed under another key"
	}
	return p.cut(string(message))
}
