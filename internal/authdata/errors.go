package authdata

import (
	"errors"
	"fmt"
)

// Errors of Open, for errors.Is.
var (
	// ErrNotAuth says that the database is not, or not wholly, one of Auth 3.1.
	ErrNotAuth = errors.New("this is no database of Auth 3.1")

	// ErrKeyNeeded says that fields are encrypted and no key was given.
	ErrKeyNeeded = errors.New("fields of this database are encrypted: name a file with Auth's AUTH_ENCRYPTION_KEY in --auth-key-file")

	// ErrWrongKey says that the key opens none of the encrypted fields that were tried.
	ErrWrongKey = errors.New("the --auth-key-file opens no field of this database: give the value of AUTH_ENCRYPTION_KEY that Auth runs with")

	// ErrNotEncrypted says that a key was given and nothing seems to be encrypted. To
	// go on would take plain names that look like base64 for damaged ciphertext.
	ErrNotEncrypted = errors.New("no field of this database seems to be encrypted: leave --auth-key-file out")
)

// Kind says what is wrong with a row.
type Kind int

const (
	// Unreadable is a row with a value that cannot be understood: damaged
	// ciphertext, no timestamp where there must be one. There is no row to use.
	Unreadable Kind = iota

	// Invalid is a row that was read whole, but holds what Auth's own API would not
	// have accepted, such as a role name with a space. The row comes beside the error.
	Invalid

	// Dangling is a link to a row that is absent or of another tenant. It grants
	// nothing in Auth. There is no row to use.
	Dangling
)

// String returns "unreadable", "invalid" or "dangling".
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case Dangling:
		return "dangling"
	}
	return "unreadable"
}

// RowError says that one row is bad. Reading goes on after it where the caller
// goes on. It quotes nothing of what the row holds.
type RowError struct {
	Kind   Kind
	Table  string
	ID     string // the row's id; of a link both ids, "membership_id/group_id"
	Column string
	Why    string
	Cursor Cursor // where to go on after the row; zero where there is none
}

func (e *RowError) Error() string {
	return fmt.Sprintf("table %s, row %s, column %s: %s", e.Table, e.ID, e.Column, e.Why)
}
