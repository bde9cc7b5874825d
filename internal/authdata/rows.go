package authdata

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cursor is a place in one stream of rows: after the row that carried it. The
// zero Cursor is the beginning. It stays good for another Source on the same
// database; rows that Auth changes behind it are not read again.
type Cursor struct {
	ID  int64
	Sub int64 // tells apart the rows of one ID: a role's id, or a count
}

// String is the form that ParseCursor reads, "ID/Sub".
func (c Cursor) String() string {
	return strconv.FormatInt(c.ID, 10) + "/" + strconv.FormatInt(c.Sub, 10)
}

// ParseCursor reads what String wrote.
func ParseCursor(s string) (Cursor, error) {
	id, sub, _ := strings.Cut(s, "/")
	var c Cursor
	var err error
	if c.ID, err = strconv.ParseInt(id, 10, 64); err == nil {
		c.Sub, err = strconv.ParseInt(sub, 10, 64)
	}
	if err != nil {
		return Cursor{}, fmt.Errorf("cursor %q: is not of the form 12/3", s)
	}
	return c, nil
}

// Row is where a row was found.
type Row struct {
	Table  string
	ID     string // of a link both ids, "membership_id/group_id"
	Cursor Cursor
}

// Times below are UTC, from year 1 to 9999, which is more than some stores can
// hold. Optional ones are pointers, since the year 1 is a time like any other and
// a zero time that means "never" would bring an expired key back to life.

// Settings are a tenant's own; a tenant without a row has Auth's defaults.
type Settings struct {
	Row
	StrictUsers bool
}

// Role is an active role.
type Role struct {
	Row
	Name        string
	Description string
	Created     *time.Time // nil where the row does not say
}

// Permission is an active permission, linked to a role or not.
type Permission struct {
	Row
	Name string
}

// Grant is an active permission in an active role. Several may be equal, where
// Auth stored one name under several encryptions.
type Grant struct {
	Row
	Role       string
	Permission string
}

// Membership is an active user in an active role. Several may be equal, as with Grant.
type Membership struct {
	Row
	User string
	Role string
}

// UserKey is an issued API key of a user, live or former.
type UserKey struct {
	Row
	KeyID    string // a UUID; it opens nothing
	User     string
	Digest   [32]byte // SHA-256 of the whole secret
	Prefix   string
	Label    string // "" where it has none
	Active   bool
	Created  *time.Time // nil where the row does not say
	Revoked  *time.Time // nil is not revoked, but see Live
	Expires  *time.Time // nil is never
	LastUsed *time.Time // nil is never
}

// Live reports whether the key opens anything in Auth at now. A key that is not
// active opens nothing, whether or not the row says when it was revoked.
func (k *UserKey) Live(now time.Time) bool {
	return k.Active && k.Revoked == nil && (k.Expires == nil || now.Before(*k.Expires))
}

// AuditEntry is one row of the audit. Auth names no tenant in it: ClientID is a
// keyed fingerprint of the client key that acted.
type AuditEntry struct {
	Row
	Time      time.Time
	ClientID  string
	User      string
	Action    string
	Resource  string
	Details   string // JSON, or ""
	IPAddress string
	UserAgent string
	Success   bool
}

// Counts are the rows of each stream at most, for progress: links whose other side
// is inactive are counted and not read. Roles, permissions and API keys include
// those of rows whose creator is no client key, which belong to no tenant.
type Counts struct {
	Settings    int64
	Roles       int64
	Permissions int64
	Grants      int64
	Memberships int64
	UserKeys    int64
	Audit       int64
}
