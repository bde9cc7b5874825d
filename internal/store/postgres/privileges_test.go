package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What the roles may do at the most, in words of its own: the table of privileges
// is what the other tests go by, so that they cannot tell when it says too much.
func TestThePrivilegesAreFew(t *testing.T) {
	sidecarReads := strings.Fields(`revision revision_log change_log tenants roles role_parents permissions memberships
		client_keys user_keys encryption encryption_keys tenant_keys deny_list signing_keys compatibility goose_db_version`)
	adminOnlyReads := []string{"compatibility", "goose_db_version"}
	for _, p := range privilegeTable() {
		admin, sidecar := words(p.admin), words(p.sidecar)
		for _, word := range append(slices.Clone(admin), sidecar...) {
			if !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "USAGE", "EXECUTE"}, word) {
				t.Errorf("%s: somebody has %q", p.name, word)
			}
		}
		want := ""
		switch {
		case p.kind == onSchema:
			want = "USAGE"
		case p.name == "sidecar_reports":
			want = "INSERT"
		case slices.Contains(sidecarReads, p.name):
			want = "SELECT"
		}
		if p.sidecar != want {
			t.Errorf("%s: sidecars have %q, want %q", p.name, p.sidecar, want)
		}
		switch {
		case p.name == "audit" && p.admin != "SELECT, INSERT":
			t.Errorf("audit: admin processes have %q: what was recorded must stay", p.admin)
		case slices.Contains(adminOnlyReads, p.name) && p.admin != "SELECT":
			t.Errorf("%s: admin processes have %q, want SELECT", p.name, p.admin)
		case p.kind == onSequence && p.admin != "" && p.admin != "USAGE":
			t.Errorf("%s: admin processes have %q, want USAGE at the most", p.name, p.admin)
		case p.kind == onSchema && p.admin != "USAGE":
			t.Errorf("the schema: admin processes have %q, want USAGE", p.admin)
		}
	}
}

// A table that a migration adds must be in the table of privileges, and a row must
// have its object once the schema is at its version.
func TestEveryObjectHasItsPrivileges(t *testing.T) {
	url := migrated(t)
	rows, err := connect(t, url).Query(t.Context(), `
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || ' ' || c.relname FROM pg_class c
WHERE c.relnamespace = 'portcullis'::regnamespace AND c.relkind NOT IN ('i', 'I', 't', 'c')
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = 'portcullis.audit'::regclass)
UNION ALL
SELECT 'FUNCTION ' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')' FROM pg_proc p WHERE p.pronamespace = 'portcullis'::regnamespace
UNION ALL
SELECT 'SCHEMA portcullis'`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, p := range privilegesAt(schemaVersion) {
		known = append(known, string(p.kind)+" "+p.name)
	}
	for _, object := range found {
		if !slices.Contains(known, object) {
			t.Errorf("%s has no row in privilegeTable: say who may do what with it", object)
		}
	}
	for _, object := range known {
		if !slices.Contains(found, object) {
			t.Errorf("privilegeTable has %s, and schema %d has not", object, schemaVersion)
		}
	}
	if slices.Sort(known); len(slices.Compact(known)) != len(privilegesAt(schemaVersion)) {
		t.Error("privilegeTable names an object twice")
	}
}
