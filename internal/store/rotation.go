package store

import (
	"context"
	"errors"
)

// KeyID is the database id of a tenant's encryption key, never reused. 0 is none:
// fields in clear.
type KeyID int64

var (
	// ErrUnreadable: a sealed value does not open, or was moved from another row. The
	// text names its table, column and row id.
	ErrUnreadable = errors.New("a sealed value does not open")
	// ErrKeyGone: the encryption key that the call names was retired, or was made
	// after what the caller knows. It catches up with the store, and starts over.
	ErrKeyGone = errors.New("the encryption key is not in use")
	// ErrEncryption: the masters that the program holds do not open the database,
	// or the database is not in the state that the call needs. The text says which,
	// and the mend.
	ErrEncryption = errors.New("encryption")
)

// RotationKind is what a rotation of the encryption keys does.
type RotationKind uint8

// The kinds of rotation. The zero RotationKind is none.
const (
	RotateDeep    RotationKind = 1 // new keys for every tenant, all rows sealed anew
	RotateEnable  RotationKind = 2 // a database in clear is sealed
	RotateDisable RotationKind = 3 // a sealed database is written in clear
)

// String returns "deep", "enable" or "disable"; "" for a number outside the list.
func (k RotationKind) String() string {
	switch k {
	case RotateDeep:
		return "deep"
	case RotateEnable:
		return "enable"
	case RotateDisable:
		return "disable"
	}
	return ""
}

// Encryption is the state of a database's encryption.
type Encryption struct {
	Enabled  bool         // some or all rows are sealed, and new ones are
	Master   string       // id of the master key that wraps; "" where nothing is sealed
	Rotation RotationKind // under way, or cut off and to be resumed
	Keys     int64        // wrapped keys
	// OtherMasters counts the keys that a former master wraps.
	OtherMasters int64
}

// SealTable is a table with sealed columns, in the order in which a rotation goes
// through them.
type SealTable uint8

// The tables with sealed columns.
const (
	SealMemberships SealTable = iota
	SealPermissions
	SealRoles
	SealUserKeys
	SealAudit
	SealDenials
	SealRefresh
	NumSealTables
)

// String returns the table's name; "" for a number outside the list.
func (t SealTable) String() string {
	if t >= NumSealTables {
		return ""
	}
	return [NumSealTables]string{"memberships", "permissions", "roles", "user_keys", "audit", "deny_list", "refresh_families"}[t]
}

// ResealCursor is how far the sealing anew of one tenant's rows has come: all rows
// of the tables before Table, and of Table those up to the row id Row, are done.
// The zero ResealCursor is the beginning.
type ResealCursor struct {
	Table SealTable
	Row   int64
}

// Rotator is the part of a store that `portcullis rotate encryption` works with.
// A rotation is begun, then each tenant is begun, resealed in batches and
// finished, then the rotation is finished. Each step is one transaction, and
// every state between two of them is whole: checks and writes go on, and a rotation
// that was cut off is taken up where it stood.
type Rotator interface {
	Encryption(ctx context.Context) (Encryption, error)
	// Rewrap wraps every key and the key-check row under the first master, in one
	// transaction, and returns how many keys were under another one. Nothing to do
	// is OutcomeUnchanged.
	Rewrap(ctx context.Context, by Actor) (int64, Result, error)
	// BeginRotation records that a rotation of the kind is under way. One that is
	// already of that kind is OutcomeUnchanged: it is resumed. ErrEncryption if
	// another kind is under way, or for enabling what is enabled, and the like.
	BeginRotation(ctx context.Context, by Actor, kind RotationKind) (Result, error)
	// RotationTenants lists the tenants that the rotation under way has not finished,
	// by id, 0 (what belongs to no tenant) included; at most limit of them.
	RotationTenants(ctx context.Context, limit int) ([]TenantID, error)
	// BeginTenant gives the tenant its new key, which everything is written under
	// from then on; rows under the former one still count. All cached grants of the
	// tenant are dropped, since its principals' indexes change. A tenant that is
	// begun already is OutcomeUnchanged.
	BeginTenant(ctx context.Context, by Actor, tenant TenantID) (Result, error)
	// Reseal seals up to limit rows of a begun tenant anew, from the cursor on, and
	// returns the cursor after them and how many rows were written; done says that
	// none is left. It needs the right to update every table, the audit included.
	// A row that does not open is an ErrUnreadable, and nothing of the batch is
	// written; where leave is not nil, leave hears of it, and the row is counted to
	// the new key as it is: it stays unreadable, and keeps no former key in use.
	Reseal(ctx context.Context, tenant TenantID, from ResealCursor, limit int, leave func(error)) (next ResealCursor, rows int64, done bool, err error)
	// FinishTenant takes the former key out of use and deletes it. ErrEncryption
	// where a row is still under it.
	FinishTenant(ctx context.Context, by Actor, tenant TenantID) (Result, error)
	// FinishRotation records that the rotation has ended. ErrEncryption where a
	// tenant is left.
	FinishRotation(ctx context.Context, by Actor) (Result, error)
	// SealCounts counts the rows that a rotation of the kind would write, by table.
	SealCounts(ctx context.Context, kind RotationKind) ([NumSealTables]int64, error)
}
