package store

// MaxGrantChanges is how many principals one write may name in the change log.
// Past it, their tenants are named as a whole.
const MaxGrantChanges = 1000

// MaxDeltaChanges is how many changes one Delta carries. A reader that is
// further behind loads in full.
const MaxDeltaChanges = 10_000

// MaxDeltaPassed is how many of the revisions gone through one Delta lists.
const MaxDeltaPassed = 1024

// ChangeSet collects what one write touches. The zero ChangeSet is empty. It is
// not safe for concurrent use.
type ChangeSet struct {
	rows   []Change
	seen   map[Change]struct{}
	grants int
}

func (c *ChangeSet) add(row Change) {
	if _, dup := c.seen[row]; dup {
		return
	}
	if c.seen == nil {
		c.seen = make(map[Change]struct{})
	}
	c.seen[row] = struct{}{}
	c.rows = append(c.rows, row)
	if row.Kind == ChangeGrant {
		c.grants++
	}
}

// Tenant records that the tenant was made, renamed or admitted, or that its
// settings changed.
func (c *ChangeSet) Tenant(tenant TenantID) { c.add(Change{Kind: ChangeTenant, Tenant: tenant}) }

// Roles records that the tenant's role table changed.
func (c *ChangeSet) Roles(tenant TenantID) { c.add(Change{Kind: ChangeRoles, Tenant: tenant}) }

// Grant records that the principal's memberships or API keys changed.
func (c *ChangeSet) Grant(tenant TenantID, index Index) {
	c.add(Change{Kind: ChangeGrant, Tenant: tenant, Index: index})
}

// TenantGrants records that every principal of the tenant is named anew.
func (c *ChangeSet) TenantGrants(tenant TenantID) {
	c.add(Change{Kind: ChangeTenantGrants, Tenant: tenant})
}

// Key records that the client key or user API key changed; gone says that it
// opens nothing any more.
func (c *ChangeSet) Key(tenant TenantID, digest Digest, gone bool) {
	c.add(Change{Kind: ChangeKey, Tenant: tenant, Digest: digest, Gone: gone})
}

// Denial records that an entry of the deny-list was added or changed.
func (c *ChangeSet) Denial(tenant TenantID, mark DenyMark) {
	c.add(Change{Kind: ChangeDenial, Tenant: tenant, Digest: mark.Digest, Before: mark.Before, Expires: mark.Expires})
}

// DenialGone records that an entry of the deny-list was taken away.
func (c *ChangeSet) DenialGone(tenant TenantID, digest Digest) {
	c.add(Change{Kind: ChangeDenial, Tenant: tenant, Digest: digest, Gone: true})
}

// Signing records that the public signing keys changed.
func (c *ChangeSet) Signing() { c.add(Change{Kind: ChangeSigning}) }

// Rows returns the change rows of the write at revision, each thing once, in
// the order in which they were recorded. Where more than MaxGrantChanges
// principals were touched, one ChangeTenantGrants row for each of their tenants
// stands in for them.
func (c *ChangeSet) Rows(revision int64) []Change {
	whole := c.grants > MaxGrantChanges
	named := make(map[TenantID]bool)
	out := make([]Change, 0, len(c.rows))
	for _, row := range c.rows {
		if whole && row.Kind == ChangeGrant {
			if named[row.Tenant] {
				continue
			}
			named[row.Tenant] = true
			row = Change{Kind: ChangeTenantGrants, Tenant: row.Tenant}
		}
		row.Revision = revision
		out = append(out, row)
	}
	return out
}
