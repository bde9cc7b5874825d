package store

import (
	"context"
	"time"
)

// ImportBatch is rows of another program, in the order in which they are written:
// what a later list names must be in the store or in an earlier one. Names that are
// there already are left as they are, so that a batch that is written twice changes
// nothing the second time.
type ImportBatch struct {
	Tenants     []ImportTenant
	Roles       []ImportRole
	Permissions []ImportPermission
	Members     []ImportMember
	UserKeys    []ImportUserKey
	Audit       []AuditEntry // with their own times; Tenant is the store's
}

// ImportTenant is a tenant with the client key that names it in the other program.
// Where the key's digest is known, it stands for the tenant that has it.
type ImportTenant struct {
	Tenant NewTenant
	Key    NewKey // its Tenant is not read
}

// ImportRole is a role of a tenant that is in the store.
type ImportRole struct {
	Tenant      TenantID
	Name        string
	Description string
}

// ImportPermission is a role's permission.
type ImportPermission struct {
	Tenant TenantID
	Role   string
	Name   string
}

// ImportMember is a user's membership.
type ImportMember struct {
	Tenant TenantID
	User   string
	Role   string
}

// ImportUserKey is a user's API key with its history. A digest that is known is
// left as it is.
type ImportUserKey struct {
	NewUserKey
	ID       string // a UUID4; "" gives it a new one
	Created  time.Time
	Revoked  time.Time // zero is live
	LastUsed time.Time // zero is never
}

// ImportCounts says how many rows of a batch were new.
type ImportCounts struct {
	Tenants, Roles, Permissions, Members, UserKeys, Audit int
}

// Importer is the part of a store that takes over another program's data.
type Importer interface {
	// Import writes a batch and the cursor after it in one write. source is a
	// fingerprint of where the rows come from; done says that it was the last batch.
	// The audit gets one row for the batch (ActionImport), besides those in it.
	Import(ctx context.Context, by Actor, source string, batch ImportBatch, cursor string, done bool) (ImportCounts, Result, error)
	// ImportCursor is the cursor of the last batch of the source; "" where there was
	// none.
	ImportCursor(ctx context.Context, source string) (cursor string, done bool, err error)
}
