package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/store"
)

// planOf is how SQLite goes about a query.
func planOf(t *testing.T, db *sql.DB, query string, args ...any) string {
	t.Helper()
	rows, err := db.Query(`EXPLAIN QUERY PLAN `+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "; ")
}

// A batch costs what its own rows do, however many tenants and rows there are: it
// begins in the tenant's index behind the row that the last one ended with, and
// sorts nothing. So a whole rotation is linear in the rows.
func TestRotationGoesByTheTenantsIndex(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	db := past(t, s)
	for _, statistics := range []string{"none", "300 tenants"} {
		if statistics != "none" {
			// Enough for ANALYZE to know that a tenant has few of the rows.
			for _, statement := range []string{
				`WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
					INSERT INTO tenants (id, name, admitted, created_at) SELECT i, 't' || i, 1, 0 FROM n`,
				`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19)
					INSERT INTO roles (tenant_id, name, description, created_at) SELECT id, 'r' || i, '', 0 FROM tenants, n`,
				`INSERT INTO permissions (tenant_id, role_id, name) SELECT tenant_id, id, 'p' FROM roles`,
				`INSERT INTO memberships (tenant_id, principal_index, kind, principal_id, role_id) SELECT tenant_id, randomblob(16), 1, 'u', id FROM roles`,
				`INSERT INTO user_keys (key_id, tenant_id, principal_index, user_id, digest, prefix, label, created_at)
					SELECT printf('%036d', id), tenant_id, randomblob(16), 'u', randomblob(32), 'p', '', 0 FROM roles`,
				`ANALYZE`,
			} {
				if _, err := db.Exec(statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
		}
		for table := range store.NumSealTables {
			for what, plan := range map[string]string{
				"a batch":          planOf(t, db, sealTables[table].rows, 7, 1, 1000, 500),
				"whether one left": planOf(t, db, sealTables[table].left, 7, 1),
			} {
				behind := "(tenant_id=?)"
				if what == "a batch" {
					behind = "(tenant_id=? AND id>?)"
				}
				plan = strings.ReplaceAll(plan, "rowid>?", "id>?")
				search := fmt.Sprintf("SEARCH %s USING INDEX ", table)
				if !strings.Contains(plan, search) || !strings.Contains(plan, behind) || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN "+table.String()) {
					t.Errorf("statistics of %s: %s of %s: %s", statistics, what, table, plan)
				}
			}
		}
		// Of each tenant's steps, none looks at another's rows.
		for what, plan := range map[string]string{
			"the tenant's keys":  planOf(t, db, sqlPair, 7),
			"drop its keys":      planOf(t, db, sqlDropTenantKeys, 7),
			"drop a key":         planOf(t, db, sqlDropKey, 7),
			"what is left, deep": planOf(t, db, sqlTenantsToDeepen, 7, 100),
			"what is left, off":  planOf(t, db, sqlTenantsToUnseal, 7, 100),
		} {
			for table := range store.NumSealTables {
				if strings.Contains(plan, table.String()) {
					t.Errorf("statistics of %s: %s reads %s: %s", statistics, what, table, plan)
				}
			}
			if strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("statistics of %s: %s sorts: %s", statistics, what, plan)
			}
		}
	}
}
