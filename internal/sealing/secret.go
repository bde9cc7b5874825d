package sealing

import (
	"errors"
	"fmt"
)

// ChainSecret is where the secret of the audit's chain lies, wrapped.
var ChainSecret = Place{Table: "audit_state", Column: "wrapped", Row: 1}

// WrapSecret seals a secret for its place under the master of that id, which must be
// among them.
func (m *Masters) WrapSecret(p Place, secret []byte, under MasterID) (string, error) {
	if m != nil {
		for i, id := range m.ids {
			if id == under {
				return seal(m.keys[i], p, string(secret))
			}
		}
	}
	return "", fmt.Errorf("there is no key %s to wrap with", under)
}

// UnwrapSecret opens what WrapSecret sealed.
func (m *Masters) UnwrapSecret(p Place, wrapped string, under MasterID) ([]byte, error) {
	if m != nil {
		for i, id := range m.ids {
			if id != under {
				continue
			}
			text, why := open(m.keys[i], p, wrapped)
			if why != "" {
				return nil, &Error{Place: p, Why: why}
			}
			return []byte(text), nil
		}
	}
	return nil, errors.New("the key " + string(under) + ", which wraps it, is not there")
}

// Settings that hold the key which wraps the secret of the audit's chain.
const (
	HeldByAudit      = "AUTH_AUDIT_KEY"
	HeldByEncryption = "AUTH_ENCRYPTION_KEY"
)

// ChainKeys are the keys that may wrap the secret of the audit's chain.
type ChainKeys struct {
	Audit      *Masters // AUTH_AUDIT_KEY
	Encryption *Masters // AUTH_ENCRYPTION_KEY
}

// Wrapper says what wraps the secret today: the first key of AUTH_AUDIT_KEY, else the
// master that the database is sealed under. The holder is "" where nothing does.
func (k ChainKeys) Wrapper(sealedUnder MasterID) (holder string, master MasterID) {
	switch {
	case k.Audit != nil:
		return HeldByAudit, k.Audit.First()
	case sealedUnder != "" && k.Encryption.Holds(sealedUnder):
		return HeldByEncryption, sealedUnder
	}
	return "", ""
}

// Of are the keys of a holder.
func (k ChainKeys) Of(holder string) *Masters {
	switch holder {
	case HeldByAudit:
		return k.Audit
	case HeldByEncryption:
		return k.Encryption
	}
	return nil
}

// OpenChain opens the secret that the key of a holder wraps. The error names the
// setting, and says what it lacks.
func (k ChainKeys) OpenChain(holder string, master MasterID, wrapped string) ([]byte, error) {
	secret, err := k.Of(holder).UnwrapSecret(ChainSecret, wrapped, master)
	var changed *Error
	switch {
	case errors.As(err, &changed):
		return nil, fmt.Errorf("the secret of the audit's chain was changed by other hands: restore a backup: %w", err)
	case err != nil:
		return nil, fmt.Errorf("the audit's chain is under the key %s of %s, and this process does not have it: list it in %s, behind a newer one if there is one", master, holder, holder)
	}
	return secret, nil
}
