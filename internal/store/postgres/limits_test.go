package postgres

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// refused tries a statement, undoes it, and reports whether the user lacked the
// right. Any other error means that the right was there.
func refused(t *testing.T, conn *pgx.Conn, sql string) bool {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), sql)
	var pg *pgconn.PgError
	if err != nil && !errors.As(err, &pg) {
		t.Fatalf("%s: %v", sql, err)
	}
	if pg != nil && pg.Code[:2] == "42" && pg.Code != codeNoRight {
		t.Fatalf("%s: %v: the statement is wrong, and shows nothing", sql, err)
	}
	return pg != nil && pg.Code == codeNoRight
}

// sqlTables lists every table of the schema, the audit's partitions too, each with
// the name of its first column.
const sqlTables = `
SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
WHERE c.relnamespace = 'portcullis'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname`

// Each role tries every kind of statement on every table, and succeeds in exactly
// what privilegeTable gives it.
func TestRolesDoWhatTheyMayAndNothingElse(t *testing.T) {
	db := divide(t)
	execSQL(t, db.admin, `SELECT portcullis.ensure_audit_partitions(date '2031-02-01', 1)`) // made later than the grants
	var tables [][2]string
	rows, err := connect(t, db.super).Query(t.Context(), sqlTables)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var table [2]string
		if err := rows.Scan(&table[0], &table[1]); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	if err := rows.Err(); err != nil || !slices.ContainsFunc(tables, func(table [2]string) bool { return table[0] == "audit_2031_02" }) {
		t.Fatalf("tables %v, error %v", tables, err)
	}
	for _, role := range []struct {
		name, url, group string
		of               func(privileges) string
	}{
		{"admin", db.admin, "portcullis_admin", func(p privileges) string { return p.admin }},
		{"sidecar", db.sidecar, "portcullis_sidecar", func(p privileges) string { return p.sidecar }},
	} {
		t.Run(role.name, func(t *testing.T) {
			conn := connect(t, role.url)
			may := make(map[string][]string)
			for _, p := range privilegesAt(schemaVersion) {
				may[p.name] = words(role.of(p))
			}
			try := func(sql string, allowed bool) {
				t.Helper()
				if refused(t, conn, sql) == allowed {
					t.Errorf("%s: allowed is %v, want %v", sql, !allowed, allowed)
				}
			}
			for _, table := range tables {
				name, column := "portcullis."+table[0], pgx.Identifier{table[1]}.Sanitize()
				has := func(privilege string) bool { return slices.Contains(may[table[0]], privilege) }
				changes := has("UPDATE") || has("DELETE")
				try(`SELECT count(*) FROM `+name, has("SELECT"))
				try(`SELECT `+column+` FROM `+name+` LIMIT 0`, has("SELECT"))
				try(`COPY (TABLE `+name+`) TO STDOUT`, has("SELECT"))
				try(`INSERT INTO `+name+` DEFAULT VALUES`, has("INSERT"))
				try(`UPDATE `+name+` SET `+column+` = DEFAULT WHERE false`, has("UPDATE"))
				try(`DELETE FROM `+name+` WHERE false`, has("DELETE"))
				try(`SELECT `+column+` FROM `+name+` LIMIT 0 FOR UPDATE`, has("SELECT") && has("UPDATE"))
				try(`LOCK TABLE `+name+` IN ACCESS EXCLUSIVE MODE`, changes)
				for _, sql := range []string{
					`TRUNCATE ` + name,
					`ALTER TABLE ` + name + ` ADD COLUMN mine integer`,
					`ALTER TABLE ` + name + ` OWNER TO ` + role.group,
					`ALTER TABLE ` + name + ` DISABLE TRIGGER ALL`,
					`ALTER TABLE ` + name + ` ENABLE ROW LEVEL SECURITY`,
					`ALTER TABLE ` + name + ` RENAME TO mine`,
					`DROP TABLE ` + name + ` CASCADE`,
					`CREATE INDEX mine ON ` + name + ` (` + column + `)`,
					`CREATE TRIGGER mine BEFORE INSERT ON ` + name + ` FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
					`CREATE RULE mine AS ON INSERT TO ` + name + ` DO ALSO NOTIFY mine`,
					`COMMENT ON TABLE ` + name + ` IS 'mine'`,
				} {
					try(sql, false)
				}
				mayNotPassOn(t, conn, `TABLE `+name, `has_table_privilege('pg_monitor', '`+name+`', 'SELECT, INSERT, UPDATE, DELETE')`)
			}
			for _, p := range privilegesAt(schemaVersion) {
				name := objectName(p.kind, p.name)
				switch p.kind {
				case onSequence:
					try(`SELECT nextval('`+name+`')`, slices.Contains(may[p.name], "USAGE"))
					try(`SELECT setval('`+name+`', 1)`, false)
					try(`SELECT last_value FROM `+name, false)
					try(`ALTER SEQUENCE `+name+` RESTART`, false)
					try(`DROP SEQUENCE `+name+` CASCADE`, false)
				case onFunction:
					try(`ALTER FUNCTION `+name+` SECURITY INVOKER`, false)
					try(`ALTER FUNCTION `+name+` RESET search_path`, false)
					try(`DROP FUNCTION `+name, false)
				}
			}
			try(`SELECT portcullis.ensure_audit_partitions(date '2031-02-01', 1)`, slices.Contains(may["ensure_audit_partitions(date, integer)"], "EXECUTE"))
			try(`SELECT portcullis.mark_sealed(true)`, role.name == "admin")
			for _, sql := range []string{
				`CREATE TABLE portcullis.mine ()`,
				`CREATE VIEW portcullis.mine AS SELECT 1`,
				`CREATE SEQUENCE portcullis.mine`,
				`CREATE FUNCTION portcullis.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'`,
				`CREATE TYPE portcullis.mine AS ENUM ('x')`,
				`CREATE SCHEMA mine`,
				`ALTER SCHEMA portcullis RENAME TO mine`,
				`DROP SCHEMA portcullis CASCADE`,
				`ALTER TABLE portcullis.audit DETACH PARTITION portcullis.audit_default`,
				`SET ROLE ` + ownerUser,
				`SET ROLE postgres`,
				`SET SESSION AUTHORIZATION ` + ownerUser,
				`GRANT ` + ownerUser + ` TO ` + role.group,
				`GRANT pg_read_all_data TO ` + role.group,
				`ALTER DEFAULT PRIVILEGES FOR ROLE ` + ownerUser + ` IN SCHEMA portcullis GRANT ALL ON TABLES TO PUBLIC`,
				`CREATE ROLE mine`,
				`ALTER ROLE ` + role.group + ` SUPERUSER`,
				`ALTER ROLE ` + ownerUser + ` PASSWORD 'mine'`,
				`CREATE PUBLICATION mine FOR TABLE portcullis.audit`,
				`COPY (SELECT 1) TO PROGRAM 'true'`,
				`SELECT pg_read_file('PG_VERSION')`,
				`SELECT pg_reload_conf()`,
				fmt.Sprintf(`ALTER DATABASE %s SET statement_timeout = 1`, pgx.Identifier{conn.Config().Database}.Sanitize()),
			} {
				try(sql, false)
			}
			for _, other := range []string{"portcullis_admin", "portcullis_sidecar"} {
				try(`SET ROLE `+other, other == role.group)
			}
		})
	}
}

// mayNotPassOn tries to give a right on the object to another role. Who holds some
// right on it is only warned, so the outcome is looked at.
func mayNotPassOn(t *testing.T, conn *pgx.Conn, object, has string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `GRANT ALL ON `+object+` TO pg_monitor`); err != nil {
		return
	}
	var given bool
	if err := tx.QueryRow(t.Context(), `SELECT `+has).Scan(&given); err != nil || given {
		t.Errorf("GRANT ON %s: given is %v, error %v", object, given, err)
	}
}
