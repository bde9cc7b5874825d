package sealing

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/fernet/fernet-go"
)

// MasterID tells master keys apart without telling them: the first 16 hex digits
// of a hash. It may be logged.
type MasterID string

// Masters are the master keys of AUTH_ENCRYPTION_KEY. The first wraps, all unwrap.
// The nil *Masters holds none. It is immutable.
type Masters struct {
	keys []*fernet.Key
	ids  []MasterID
}

// ParseMasters reads Fernet keys with commas between them: 32 random bytes in
// URL-safe or standard base64, with its padding. The text "" is none. Errors say
// which of them is wrong, and repeat none.
func ParseMasters(text string) (*Masters, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	m := &Masters{}
	for i, one := range strings.Split(text, ",") {
		one = strings.TrimSpace(one)
		if one == "" {
			return nil, fmt.Errorf("key %d is empty: take the comma out, or give the key", i+1)
		}
		key, err := parseMaster(one)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		id := masterID(key)
		for j, known := range m.ids {
			if known == id {
				return nil, fmt.Errorf("key %d is key %d once more: list each once", i+1, j+1)
			}
		}
		m.keys, m.ids = append(m.keys, key), append(m.ids, id)
	}
	return m, nil
}

// parseMaster refuses what fernet-go would take beyond the Fernet specification
// (hex), and keys that are no random 32 bytes.
func parseMaster(text string) (*fernet.Key, error) {
	if len(text) != 44 {
		return nil, fmt.Errorf("it has %d characters, and a Fernet key has 44: make one with `portcullis key encryption`", len(text))
	}
	key, err := fernet.DecodeKey(text)
	if err != nil {
		return nil, errors.New("it is no base64 of 32 bytes: make one with `portcullis key encryption`")
	}
	seen := make(map[byte]bool)
	for _, b := range key {
		seen[b] = true
	}
	if len(seen) < 8 { // 32 random bytes have some 30 different ones
		return nil, errors.New("it is not random: make one with `portcullis key encryption`")
	}
	return key, nil
}

// NewMaster makes a master key, as AUTH_ENCRYPTION_KEY takes it.
func NewMaster() string {
	var key fernet.Key
	if err := key.Generate(); err != nil {
		panic(err) // crypto/rand ends the program instead
	}
	return key.Encode()
}

func masterID(key *fernet.Key) MasterID {
	sum := sha256.Sum256(append([]byte("portcullis master key id v1\x00"), key[:]...))
	return MasterID(hex.EncodeToString(sum[:8]))
}

// IDs are the ids of the masters, the wrapping one first.
func (m *Masters) IDs() []MasterID {
	if m == nil {
		return nil
	}
	return append([]MasterID(nil), m.ids...)
}

// First is the id of the master that wraps; "" where there is none.
func (m *Masters) First() MasterID {
	if m == nil {
		return ""
	}
	return m.ids[0]
}

// Holds reports whether the master is among them.
func (m *Masters) Holds(id MasterID) bool {
	if m == nil {
		return false
	}
	for _, held := range m.ids {
		if held == id {
			return true
		}
	}
	return false
}

// errNoMaster is a need for a master where there is none.
var errNoMaster = errors.New("AUTH_ENCRYPTION_KEY is not set: set it to the master key that the database is sealed under")

// checkText is what a key-check row seals.
var checkPlace = Place{Table: "encryption", Column: "key_check", Row: 1}

const checkText = "portcullis key check v1"

// Check seals the text of a key-check row under the first master.
func (m *Masters) Check() (sealed string, master MasterID, err error) {
	if m == nil {
		return "", "", errNoMaster
	}
	sealed, err = seal(m.keys[0], checkPlace, checkText)
	return sealed, m.ids[0], err
}

// Verify says whether some master opens the key-check row that Check once made
// under the master of that id. The error says what the setting lacks, and the mend.
func (m *Masters) Verify(sealed string, under MasterID) error {
	if m == nil {
		return fmt.Errorf("%w (its id is %s)", errNoMaster, under)
	}
	for i, id := range m.ids {
		if id != under {
			continue
		}
		text, why := open(m.keys[i], checkPlace, sealed)
		if why != "" || text != checkText {
			return errors.New("the key-check row of the database was changed by other hands: restore a backup")
		}
		return nil
	}
	return fmt.Errorf("AUTH_ENCRYPTION_KEY holds %s, and the database is sealed under the master key %s: "+
		"a new key does not replace the old one, put it before it (AUTH_ENCRYPTION_KEY=new,old) and run `portcullis rotate encryption`", m.list(), under)
}

// list names the masters by id.
func (m *Masters) list() string {
	words := make([]string, len(m.ids))
	for i, id := range m.ids {
		words[i] = string(id)
	}
	if len(words) == 1 {
		return "the key " + words[0]
	}
	return "the keys " + strings.Join(words, ", ")
}

func wrapPlace(tenant, id int64) Place {
	return Place{Table: "encryption_keys", Column: "wrapped", Row: id, Bound: fmt.Sprint(tenant)}
}

// Wrap seals a tenant's key under the first master.
func (m *Masters) Wrap(k *Key) (wrapped string, master MasterID, err error) {
	if m == nil {
		return "", "", errNoMaster
	}
	wrapped, err = seal(m.keys[0], wrapPlace(k.Tenant, k.ID), string(k.data[:])+string(k.index[:]))
	return wrapped, m.ids[0], err
}

// WrapUnder seals a tenant's key under the master that the database is sealed
// under, so that every process that opens the database opens the key.
func (m *Masters) WrapUnder(k *Key, master MasterID) (string, error) {
	if m == nil {
		return "", errNoMaster
	}
	for i, id := range m.ids {
		if id == master {
			return seal(m.keys[i], wrapPlace(k.Tenant, k.ID), string(k.data[:])+string(k.index[:]))
		}
	}
	return "", fmt.Errorf("AUTH_ENCRYPTION_KEY holds %s, and the database is sealed under the master key %s", m.list(), master)
}

// Unwrap opens what Wrap sealed for the tenant and the key id under the master of
// that id.
func (m *Masters) Unwrap(tenant, id int64, wrapped string, under MasterID) (*Key, error) {
	if m == nil {
		return nil, errNoMaster
	}
	for i, held := range m.ids {
		if held != under {
			continue
		}
		text, why := open(m.keys[i], wrapPlace(tenant, id), wrapped)
		if why == "" && len(text) != keyBytes {
			why = "it holds no key"
		}
		if why != "" {
			return nil, &Error{Place: wrapPlace(tenant, id), Key: id, Why: why}
		}
		return newKey(tenant, id, []byte(text)), nil
	}
	return nil, fmt.Errorf("the keys of tenant %d are wrapped under the master key %s, and AUTH_ENCRYPTION_KEY holds %s: list the missing one too", tenant, under, m.list())
}

// lengthPrefixed writes parts so that no two lists of them are written alike.
func lengthPrefixed(dst []byte, parts ...string) []byte {
	for _, p := range parts {
		dst = binary.AppendUvarint(dst, uint64(len(p)))
		dst = append(dst, p...)
	}
	return dst
}
