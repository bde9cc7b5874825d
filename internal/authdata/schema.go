package authdata

import (
	"fmt"
	"slices"
	"strings"
)

const (
	tableRole         = "auth_group"
	tablePermission   = "auth_permission"
	tableMembership   = "auth_membership"
	tableMemberRole   = "membership_groups"
	tablePermRole     = "permission_groups"
	tableUserKey      = "auth_api_key"
	tableSettings     = "auth_tenant_settings"
	tableAudit        = "audit_log"
	columnCreator     = "creator"
	columnIsActive    = "is_active"
	columnDateCreated = "date_created" // read where it is there
)

// required are the tables and columns that make a database one of Auth 3.1.
var required = []struct {
	table   string
	columns []string
}{
	{tableRole, []string{"id", "creator", "role", "description", "is_active"}},
	{tablePermission, []string{"id", "creator", "name", "is_active"}},
	{tableMembership, []string{"id", "creator", "user", "is_active"}},
	{tableMemberRole, []string{"membership_id", "group_id"}},
	{tablePermRole, []string{"permission_id", "group_id"}},
	{tableUserKey, []string{"id", "key_id", "creator", "user", "key_hash", "key_prefix", "label", "is_active", "revoked_at", "expires_at", "last_used_at"}},
	{tableSettings, []string{"id", "creator", "strict_users"}},
	{tableAudit, []string{"id", "timestamp", "client_id", "user", "action", "resource", "details", "ip_address", "user_agent", "success"}},
}

// tenantTables are those whose rows belong to a creator.
var tenantTables = [...]string{tableRole, tablePermission, tableMembership, tableUserKey, tableSettings}

// catalog holds the columns of each table.
type catalog map[string][]string

func (c catalog) has(table, column string) bool { return slices.Contains(c[table], column) }

// check returns ErrNotAuth with what is missing. A table that is absent is refused
// and not taken for an empty one: it may be in another schema, or behind a
// privilege, and its rows would be lost without a word.
func (c catalog) check() error {
	if len(c[tableRole]) == 0 && len(c[tablePermission]) == 0 && len(c[tableMembership]) == 0 {
		return fmt.Errorf("%w: it has none of the tables %s, %s and %s", ErrNotAuth, tableRole, tablePermission, tableMembership)
	}
	var missing []string
	for _, r := range required {
		if len(c[r.table]) == 0 {
			missing = append(missing, "the table "+r.table)
			continue
		}
		for _, column := range r.columns {
			if !c.has(r.table, column) {
				missing = append(missing, "the column "+r.table+"."+column)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: it lacks %s: start Auth 3.1 on it once, which adds what an older one lacks", ErrNotAuth, strings.Join(missing, ", "))
	}
	return nil
}
