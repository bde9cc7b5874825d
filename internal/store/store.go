// Package store is the contract between Portcullis and its database, as plain
// structs and one interface. SQLite and Postgres meet it in their own packages,
// and one suite (store/storetest) holds both to it.
//
// # Revisions
//
// Every admin write is one transaction: it locks the revision row, changes the
// tables, adds its audit row and its change rows, and bumps the revision with a
// new random tag. Locking the row makes revision order the commit order. Every
// read that a cache keeps returns the revision (number and tag) that was read in
// the same snapshot as its rows.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"portcullis/policy"
)

// Errors that callers branch on. Each store wraps its driver's errors with %w
// and context; these come back to errors.Is.
var (
	// ErrNotFound: the tenant, key or other thing that the call names is absent.
	// A missing role is not an error (see OutcomeMissing).
	ErrNotFound = errors.New("not found")
	// ErrExists: something of that name is there already.
	ErrExists = errors.New("already exists")
	// ErrRevoked: the key that is to be registered was revoked before.
	ErrRevoked = errors.New("revoked")
	// ErrKeyCap: the user has MaxUserKeys active API keys already.
	ErrKeyCap = errors.New("too many active API keys")
	// ErrNotKeyBacked: the tenant requires its users to hold an active API key, and
	// the user has none.
	ErrNotKeyBacked = errors.New("the user has no active API key, which the tenant requires")
	// ErrCycle: the inheritance would contain itself.
	ErrCycle = errors.New("inheritance cycle")
	// ErrRevisionUnknown: the (revision, tag) pair that a reader asked from is not
	// in the change log: failover, restored backup, pruned log, or too far behind.
	// The reader raises its floor and loads in full.
	ErrRevisionUnknown = errors.New("revision unknown to the store")
	// ErrSchema: the database's schema is older than this program needs, or newer
	// than it knows. The text says which, and the mend.
	ErrSchema = errors.New("schema version")
)

// Tag is the random part of a revision: two histories that both reached number
// 17 differ in it.
type Tag [16]byte

// String returns the tag in lower-case hex.
func (t Tag) String() string { return hex.EncodeToString(t[:]) }

// Revision is the last committed admin write. The zero Revision precedes all.
type Revision struct {
	Number int64
	Tag    Tag
}

// TenantID is a tenant's database id, never reused.
type TenantID int64

// DefaultTenant exists from the first migration, admitted.
const DefaultTenant = "default"

// Tenant is an isolated namespace of roles and users.
type Tenant struct {
	ID          TenantID
	Name        string
	Admitted    bool // false: it matches no rule at the gate
	StrictUsers bool // its users may do nothing without an active API key
	// Key is what the indexes of its principals are computed under. It changes only
	// with a ChangeTenant and a ChangeTenantGrants in the same write.
	Key     KeyID
	Created time.Time
}

// NewTenant is a tenant to be made.
type NewTenant struct {
	Name        string
	Admitted    bool
	StrictUsers bool
}

// Index names a principal in change rows and slots without telling who it is.
// The store computes it; nothing else may.
type Index [16]byte

// Digest is the SHA-256 of a client key's canonical (lower-case) text, or of a
// user API key's text.
type Digest [sha256.Size]byte

// String returns the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// PlainIndex is the index of a principal in a store that does not seal its
// fields: the first 16 bytes of SHA-256 over an unambiguous encoding.
func PlainIndex(tenant TenantID, kind policy.Kind, id string) Index {
	buf := make([]byte, 0, 64)
	buf = append(buf, "portcullis principal v1\x00"...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(tenant))
	buf = append(buf, byte(kind))
	buf = append(buf, id...)
	sum := sha256.Sum256(buf)
	return Index(sum[:16])
}

// Scope is what a client key may be used for on the admin API.
type Scope string

// The scopes. A missing one is 403.
const (
	ScopeCheck    Scope = "check"
	ScopeManage   Scope = "manage"
	ScopeKeys     Scope = "keys"
	ScopeTokens   Scope = "tokens"
	ScopeAudit    Scope = "audit"
	ScopeOperator Scope = "operator"
)

// AllScopes lists the scopes in the order in which they are shown.
var AllScopes = []Scope{ScopeCheck, ScopeManage, ScopeKeys, ScopeTokens, ScopeAudit, ScopeOperator}

// DefaultScopes are those of AUTH_CLIENT_KEY, imported and open-tenancy keys.
func DefaultScopes() []Scope { return []Scope{ScopeCheck, ScopeManage, ScopeKeys, ScopeAudit} }

// ClientKey is one live or former secret of a client. Several may share a name.
type ClientKey struct {
	ID       int64
	Tenant   TenantID
	Name     string // the client's id as a principal
	Digest   Digest
	Prefix   string // the first 8 characters of the secret, for people
	Scopes   []Scope
	Created  time.Time
	Expires  time.Time // zero is never
	Revoked  time.Time // zero is live
	LastUsed time.Time // zero is never; written in batches, so it lags
	RotateAt time.Time // when people mean to replace it; zero: not planned
}

// Role is a role with what people read of it.
type Role struct {
	ID          policy.RoleID
	Name        string
	Description string
	Parents     []string // names
}

// Member is one membership as people read it.
type Member struct {
	Kind    policy.Kind
	ID      string
	Role    string
	Expires time.Time // zero is never
}

// Head is a read of the revision row on the primary: word from the store.
type Head struct {
	Revision Revision
	Schema   int64 // the schema version that the database is at
}

// TenantRoles is a tenant's role table as at Revision.
type TenantRoles struct {
	Tenant   TenantID
	Revision Revision
	Roles    []policy.RoleSpec
}

// GrantRow is a principal's memberships as at Revision. No membership is an
// empty Grant, not an error.
type GrantRow struct {
	Revision Revision
	Grant    policy.Grant
	// KeyBackedUntil is when the last of a user's unrevoked API keys expires, in
	// Unix nanoseconds: 0 where there is none, BackedForever where one never
	// expires. It is 0 for every other kind of principal.
	KeyBackedUntil int64
}

// KeyRow is a client key as at Revision; Key is nil where no such key is live or
// was ever known. A revoked or expired key is returned as it is.
type KeyRow struct {
	Revision Revision
	Key      *ClientKey
}

// ChangeKind says what a change row touched.
type ChangeKind uint8

// The kinds of change.
const (
	ChangeTenant       ChangeKind = 1 // a tenant was made, renamed or admitted, or its settings changed
	ChangeRoles        ChangeKind = 2 // a role, a role's permissions or parents of Tenant
	ChangeGrant        ChangeKind = 3 // the memberships or the API keys of Index in Tenant
	ChangeTenantGrants ChangeKind = 4 // memberships of more principals than are listed (past 1,000)
	ChangeKey          ChangeKind = 5 // the client key or user API key with Digest; Gone if it no longer opens anything
	ChangeDenial       ChangeKind = 6 // the entry of the deny-list with Digest; Gone if it was taken away
	ChangeSigning      ChangeKind = 7 // the public signing keys
)

// Change is one row of the change log. Deleting a role is a ChangeRoles alone:
// the id is absent from then on and grants nothing.
type Change struct {
	Revision int64
	Kind     ChangeKind
	Tenant   TenantID
	Index    Index
	Digest   Digest
	Gone     bool
	Before   int64 // of a ChangeDenial: DenyMark.Before
	Expires  int64 // of a ChangeDenial: DenyMark.Expires
}

// Delta is everything that a reader needs to go from one revision to Head, all
// read in one snapshot.
type Delta struct {
	Head    Revision
	Changes []Change      // in order; empty when the reader is at Head
	Passed  []Revision    // the revisions gone through, Head included, in order; the newest MaxDeltaPassed of them
	Tenants []Tenant      // the tenants that Changes name, as at Head
	Roles   []TenantRoles // held tenants with a ChangeRoles, as at Head
	Signing []SigningKey  // all public signing keys as at Head, where Changes has a ChangeSigning
	Ack     bool          // a writer waits for this: report the revision at once when applied
}

// Base is a full load, all read in one snapshot.
type Base struct {
	Head    Revision
	Tenants []Tenant
	Denied  []DenyMark   // that have not expired
	Signing []SigningKey // that have not expired
}

// Actor is who makes a write, for the audit.
type Actor struct {
	Name      string // "client:ci" for a key, "cli" for the command line, "system"
	Tenant    TenantID
	Address   string // client address, "" on the command line
	UserAgent string
	RequestID string
	Ack       bool // the writer waits until sidecars report the revision
}

// Outcome is what a write found. All are committed with their audit row.
type Outcome uint8

// The outcomes of a write.
const (
	OutcomeDone      Outcome = 1 // the tables changed
	OutcomeUnchanged Outcome = 2 // it was so already
	OutcomeMissing   Outcome = 3 // the role that it names is absent; nothing changed
)

// Result is what a committed write returns.
type Result struct {
	Revision Revision
	Outcome  Outcome
}

// ReportKind says what a sidecar reports.
type ReportKind uint8

// The kinds of report.
const (
	ReportHeartbeat ReportKind = 1 // alive, at Applied
	ReportApplied   ReportKind = 2 // has applied revision Applied
	ReportUses      ReportKind = 3 // Uses were seen
	ReportStopped   ReportKind = 4 // is going away and answers nothing any more
)

// KeyUse says when a client key or a user API key was last seen.
type KeyUse struct {
	Digest Digest
	At     time.Time
}

// Report is one row that a sidecar appends to sidecar_reports. A sidecar may
// write nothing else; an admin process folds the rows in.
type Report struct {
	Sidecar      string // random per process
	Kind         ReportKind
	At           time.Time
	Applied      int64
	Staleness    time.Duration // how long it may go without word from the store
	PolicyDigest string
	Masters      []string // ids of the master keys that it holds
	Uses         []KeyUse
}

// Sidecar is a sidecar as its reports show it, unfolded ones included.
type Sidecar struct {
	ID           string
	LastSeen     time.Time
	Applied      int64
	Staleness    time.Duration
	PolicyDigest string
	Masters      []string // ids of the master keys that it holds
	Stopped      bool
}

// Live reports whether the sidecar may still be answering at now: until it was
// last seen plus its staleness bound plus five seconds it has not surely failed
// closed.
func (s Sidecar) Live(now time.Time) bool {
	return !s.Stopped && now.Before(s.LastSeen.Add(s.Staleness+5*time.Second))
}

// NewKey is a client key to be registered.
type NewKey struct {
	Tenant  TenantID
	Name    string
	Digest  Digest
	Prefix  string
	Scopes  []Scope
	Expires time.Time // zero is never
	// RotateAt is when people mean to replace it; zero: not planned.
	RotateAt time.Time
}

// Reader is what a sidecar needs. Every method is one read snapshot, reads the
// primary, and is safe for concurrent use.
type Reader interface {
	// Head reads the revision row.
	Head(ctx context.Context) (Head, error)
	// Bootstrap loads the tenants, and yields the digest of every client key and
	// user API key that is neither revoked nor expired. An error from yield ends it
	// and comes back.
	Bootstrap(ctx context.Context, yield func(Digest) error) (Base, error)
	// Delta returns what came after the given revision, for a reader that holds
	// the role tables of held. ErrRevisionUnknown if the pair is not in the log, or
	// if more than 10,000 changes lie between.
	Delta(ctx context.Context, after Revision, held []TenantID) (Delta, error)
	// Roles loads one tenant's role table; an unknown tenant has none. A permission
	// that does not open is left out, counted and logged: what needs it is denied.
	Roles(ctx context.Context, tenant TenantID) (TenantRoles, error)
	// PrincipalIndex computes a principal's index under a key of its tenant (the
	// tenant's own Key). It reads no table where the fields are in clear. The caller
	// may keep it with the credential, for as long as the tenant keeps the key.
	// ErrKeyGone.
	PrincipalIndex(ctx context.Context, tenant TenantID, key KeyID, kind policy.Kind, id string) (Index, error)
	// Grant loads a principal's memberships, those expired already included, and
	// until when API keys back it. ErrUnreadable if one of them does not open.
	Grant(ctx context.Context, tenant TenantID, kind policy.Kind, id string) (GrantRow, error)
	// Key loads a client key by digest.
	Key(ctx context.Context, digest Digest) (KeyRow, error)
	// UserKey loads a user's API key by digest.
	UserKey(ctx context.Context, digest Digest) (UserKeyRow, error)
	// Report appends rows to sidecar_reports.
	Report(ctx context.Context, reports []Report) error
	// Wait blocks until something may have been committed since the last Wait
	// returned, or ctx ends (its error comes back). Spurious returns are fine; a
	// lost wake-up is not, except where the caller polls beneath it. Only one
	// goroutine may be in Wait at a time.
	Wait(ctx context.Context) error
}

// Store is the whole contract. Writes are serialised by the revision row; each
// returns after its commit.
type Store interface {
	Reader
	Rotator
	Denials
	SigningKeys
	RefreshTokens
	KeyRotations
	Importer
	AuditChains

	CreateTenant(ctx context.Context, by Actor, tenant NewTenant) (Tenant, Result, error) // ErrExists
	AdmitTenant(ctx context.Context, by Actor, tenant TenantID) (Result, error)           // ErrNotFound
	// RenameTenant gives the tenant another name; its id, keys, roles and audit stay.
	// The name that it has is OutcomeUnchanged. Tenant default keeps its name, which
	// settings and tokens without a tenant go by. ErrNotFound, ErrExists.
	RenameTenant(ctx context.Context, by Actor, tenant TenantID, name string) (Result, error)
	// SetStrictUsers says whether the tenant's users need an active API key.
	// ErrNotFound.
	SetStrictUsers(ctx context.Context, by Actor, tenant TenantID, strict bool) (Result, error)
	// OpenTenant makes a tenant and its first client key in one write. Where the
	// digest is known, the tenant that has it comes back, and the write is
	// OutcomeUnchanged; ErrRevoked where it no longer opens anything.
	OpenTenant(ctx context.Context, by Actor, tenant NewTenant, key NewKey) (Tenant, Result, error)
	TenantByName(ctx context.Context, name string) (Tenant, error) // ErrNotFound
	Tenants(ctx context.Context) ([]Tenant, error)                 // by name

	// PutRole creates the role, or sets its description where description is not
	// nil. Creating an existing role is OutcomeUnchanged.
	PutRole(ctx context.Context, by Actor, tenant TenantID, role string, description *string) (Result, error)
	// DeleteRole purges the role and all its links; an absent one is OutcomeMissing.
	DeleteRole(ctx context.Context, by Actor, tenant TenantID, role string) (Result, error)
	AddParent(ctx context.Context, by Actor, tenant TenantID, role, parent string) (Result, error) // ErrCycle
	RemoveParent(ctx context.Context, by Actor, tenant TenantID, role, parent string) (Result, error)
	AddPermission(ctx context.Context, by Actor, tenant TenantID, role, permission string) (Result, error)
	RemovePermission(ctx context.Context, by Actor, tenant TenantID, role, permission string) (Result, error)
	// AddMember sets the membership and its expiry (zero is never). In a tenant with
	// strict users a user without an active API key is ErrNotKeyBacked, whether the
	// role is there or not.
	AddMember(ctx context.Context, by Actor, tenant TenantID, kind policy.Kind, id, role string, expires time.Time) (Result, error)
	RemoveMember(ctx context.Context, by Actor, tenant TenantID, kind policy.Kind, id, role string) (Result, error)

	RoleList(ctx context.Context, tenant TenantID) ([]Role, error)                      // by name
	PermissionList(ctx context.Context, tenant TenantID, role string) ([]string, error) // a role's own, by name
	MemberList(ctx context.Context, tenant TenantID, role string) ([]Member, error)     // by kind, id
	HasRole(ctx context.Context, tenant TenantID, kind policy.Kind, id, role string, now time.Time) (bool, error)
	HasPermission(ctx context.Context, tenant TenantID, role, permission string) (bool, error) // the role's own

	// CreateKey registers a secret's digest. ErrExists if the digest is known.
	CreateKey(ctx context.Context, by Actor, key NewKey) (ClientKey, Result, error)
	// RevokeKeys revokes every live secret of the name, deletes the client's
	// memberships, and revokes the families of refresh tokens that it holds, expired
	// ones too. Its own access tokens are denied, and so are those that were made with
	// the families. It is one write, whose audit row says how many of each there were
	// (ClientState). The count is the secrets'. OutcomeUnchanged if there was none of
	// them. ErrNotFound if the name never had a key.
	RevokeKeys(ctx context.Context, by Actor, tenant TenantID, name string) (int, Result, error)
	// RegisterKey is AUTH_CLIENT_KEY at start: a digest never seen before becomes a
	// live key and the name's former live ones expire after overlap; a known live
	// one changes nothing (OutcomeUnchanged, no audit row); a revoked or expired one is ErrRevoked.
	RegisterKey(ctx context.Context, by Actor, key NewKey, overlap time.Duration) (Result, error)
	KeyList(ctx context.Context, tenant TenantID) ([]ClientKey, error) // by name, created

	// CreateUserKey registers the digest of a user's API key. ErrExists if the digest
	// is known, ErrKeyCap if the user has MaxUserKeys active keys.
	CreateUserKey(ctx context.Context, by Actor, key NewUserKey) (UserKey, Result, error)
	// RevokeUserKey revokes one API key of the user by its id; one that is revoked
	// already is OutcomeUnchanged. ErrNotFound if the user never had it.
	RevokeUserKey(ctx context.Context, by Actor, tenant TenantID, user, id string) (Result, error)
	UserKeyList(ctx context.Context, tenant TenantID, user string) ([]UserKey, error) // oldest first

	// RecordAudit writes rows that belong to no write: reads, failed
	// authentications. It takes no revision.
	RecordAudit(ctx context.Context, entries []AuditEntry) error
	Audit(ctx context.Context, q AuditQuery) (entries []AuditEntry, total int, err error)

	// FoldReports merges and removes the rows of sidecar_reports. Safe to run in
	// several processes at once.
	FoldReports(ctx context.Context) error
	Sidecars(ctx context.Context) ([]Sidecar, error)
	// PruneChanges drops all but the newest keep revisions of the change log.
	PruneChanges(ctx context.Context, keep int64) error

	// Close frees everything; calls in flight fail.
	Close() error
}
