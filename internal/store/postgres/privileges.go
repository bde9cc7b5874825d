package postgres

import "strings"

// objectKind is what a privilege is on, as GRANT spells it.
type objectKind string

const (
	onSchema   objectKind = "SCHEMA"
	onTable    objectKind = "TABLE"
	onSequence objectKind = "SEQUENCE"
	onFunction objectKind = "FUNCTION"
)

// privileges says what the two runtime roles may do with one object of the schema.
// PUBLIC may do nothing with any.
type privileges struct {
	kind    objectKind
	name    string // without the schema; a function with the types of its arguments
	since   int64  // the schema version that brings it
	admin   string // words with a comma between; "" is nothing
	sidecar string
}

// The rights of an admin process on a table that it keeps.
const keeps = "SELECT, INSERT, UPDATE, DELETE"

// privilegeTable is every table, sequence and function of the schema, and what the
// roles get there: the one place that says so. A row whose version is above
// schemaVersion waits for its migration.
//
// The audit's partitions have no rows: a right on the parent reaches them through
// it, and none of their own is granted, so that a new month needs no grant.
func privilegeTable() []privileges {
	return []privileges{
		{onSchema, "portcullis", 1, "USAGE", "USAGE"},

		// The head is moved, and never made or removed. Logs are appended to and
		// pruned, and never rewritten.
		{onTable, "revision", 1, "SELECT, UPDATE", "SELECT"},
		{onTable, "revision_log", 1, "SELECT, INSERT, DELETE", "SELECT"},
		{onTable, "change_log", 1, "SELECT, INSERT, DELETE", "SELECT"},

		{onTable, "tenants", 1, keeps, "SELECT"},
		{onTable, "roles", 1, keeps, "SELECT"},
		{onTable, "role_parents", 1, keeps, "SELECT"},
		{onTable, "permissions", 1, keeps, "SELECT"},
		{onTable, "memberships", 1, keeps, "SELECT"},
		{onTable, "client_keys", 1, keeps, "SELECT"},
		{onTable, "user_keys", 2, keeps, "SELECT"},
		{onSequence, "tenant_ids", 1, "USAGE", ""},
		{onSequence, "role_ids", 1, "USAGE", ""},
		{onSequence, "permission_ids", 1, "USAGE", ""},
		{onSequence, "membership_ids", 1, "USAGE", ""},
		{onSequence, "client_key_ids", 1, "USAGE", ""},
		{onSequence, "user_key_ids", 2, "USAGE", ""},

		{onTable, "encryption", 3, keeps, "SELECT"},
		{onTable, "encryption_keys", 3, keeps, "SELECT"},
		{onTable, "tenant_keys", 3, keeps, "SELECT"},
		{onSequence, "encryption_key_ids", 3, "USAGE", ""},
		{onFunction, "mark_sealed(boolean)", 3, "EXECUTE", ""},
		{onFunction, "mark_tokens()", 4, "EXECUTE", ""},

		{onTable, "deny_list", 4, keeps, "SELECT"},
		{onTable, "signing_keys", 4, keeps, "SELECT"},
		{onTable, "refresh_families", 4, keeps, ""},
		{onTable, "refresh_tokens", 4, keeps, ""},
		{onTable, "replays", 4, keeps, ""},
		{onTable, "imports", 4, keeps, ""},
		{onSequence, "deny_list_ids", 4, "USAGE", ""},
		{onSequence, "refresh_family_ids", 4, "USAGE", ""},

		// A sidecar appends, and reads not even what it wrote itself; whoever serves as
		// both halves in one process appends as well.
		{onTable, "sidecar_reports", 1, "SELECT, INSERT, DELETE", "INSERT"},
		{onSequence, "sidecar_reports_id_seq", 1, "", ""}, // an identity column asks for no right
		{onTable, "sidecars", 1, keeps, ""},

		// What was recorded stays: pruning is the owner's.
		{onTable, "audit", 1, "SELECT, INSERT", ""},
		{onSequence, "audit_ids", 1, "USAGE", ""},
		{onFunction, "ensure_audit_partitions(date, integer)", 1, "EXECUTE", ""},
		{onTable, "audit_state", 5, "SELECT, UPDATE", ""},
		{onTable, "audit_chains", 5, "SELECT, INSERT, UPDATE", ""},
		{onTable, "audit_anchors", 5, "SELECT, INSERT, UPDATE", ""},

		// Which programs run on this schema is the migration's word.
		{onTable, "compatibility", 1, "SELECT", "SELECT"},
		{onTable, "goose_db_version", 1, "SELECT", "SELECT"},
		{onSequence, "goose_db_version_id_seq", 1, "", ""},
	}
}

// privilegesAt is privilegeTable as of one version of the schema.
func privilegesAt(version int64) []privileges {
	var at []privileges
	for _, p := range privilegeTable() {
		if p.since <= version {
			at = append(at, p)
		}
	}
	return at
}

// words are the privileges of a column of the table.
func words(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ", ")
}
