package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// applicationID marks a database as Portcullis's in its header ("Pcls").
const applicationID = 0x50636c73

// newestSchema is the last migration's number.
const newestSchema = 5

// ownTables are the tables of the newest schema.
var ownTables = [...]string{
	"audit", "audit_anchors", "audit_chains", "audit_state", "change_log", "client_keys", "deny_list", "encryption", "encryption_keys", "goose_db_version",
	"imports", "memberships", "permissions", "refresh_families", "refresh_tokens", "replays", "revision",
	"revision_log", "role_parents", "roles", "sidecar_reports", "sidecars", "signing_keys", "tenant_keys",
	"tenants", "user_keys",
}

// authTables are tables that only Auth, the Python server, makes.
var authTables = [...]string{"auth_group", "auth_permission", "auth_membership", "auth_api_key", "auth_tenant_settings"}

const (
	sqlTables = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`

	sqlApplicationID = `PRAGMA application_id`

	sqlSchemaVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version`

	sqlMark = `PRAGMA application_id = 1348693107` // applicationID: a pragma takes no parameters
)

// refuseForeignFile is refuseForeign for a file that is not to be opened for
// more. Nil says nothing but that no other program's tables were found.
func refuseForeignFile(ctx context.Context, path string) error {
	connector, err := sqlite.NewConnector(dsn(Config{Path: path, LockTimeout: time.Second}, watching))
	if err != nil {
		return nil
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var foreign *foreignError
	if _, err := refuseForeign(ctx, db, path); errors.As(err, &foreign) {
		return foreign
	}
	return nil
}

// foreignError says that the file holds another program's tables.
type foreignError struct {
	path   string
	tables []string
	auth   bool
}

func (e *foreignError) Error() string {
	if e.auth {
		return fmt.Sprintf("%s holds the tables of Auth (%s): name another file for Portcullis (AUTH_SQLITE_PATH), and move the data over with `portcullis import auth --from sqlite://%s`",
			e.path, strings.Join(e.tables, ", "), e.path)
	}
	return fmt.Sprintf("%s holds another program's tables (%s): name another file (AUTH_SQLITE_PATH)", e.path, strings.Join(e.tables, ", "))
}

// refuseForeign returns a *foreignError for a database that holds what no
// Portcullis of this version or an earlier one has made. A newer one's tables
// pass: the schema version is what tells about them. fresh is true for an empty
// database, which is nobody's yet.
func refuseForeign(ctx context.Context, db *sql.DB, path string) (fresh bool, err error) {
	tables, err := tableNames(ctx, db)
	if err != nil {
		return false, fmt.Errorf("list the tables: %w", err)
	}
	var strange, auths []string
	for _, name := range tables {
		if slices.Contains(authTables[:], name) {
			auths = append(auths, name)
		} else if !slices.Contains(ownTables[:], name) {
			strange = append(strange, name)
		}
	}
	if len(auths) > 0 {
		return false, &foreignError{path: path, tables: auths, auth: true}
	}
	var mark int64
	if err := db.QueryRowContext(ctx, sqlApplicationID).Scan(&mark); err != nil {
		return false, fmt.Errorf("read the application id: %w", err)
	}
	switch {
	case len(tables) == 0 && mark == 0:
		return true, nil
	case mark != applicationID:
		return false, &foreignError{path: path, tables: tables}
	case len(strange) == 0:
		return false, nil
	}
	var version int64
	if err := db.QueryRowContext(ctx, sqlSchemaVersion).Scan(&version); err != nil {
		return false, fmt.Errorf("read the schema version: %w", err)
	}
	if version <= newestSchema {
		return false, &foreignError{path: path, tables: strange}
	}
	return false, nil
}

func tableNames(ctx context.Context, db *sql.DB) ([]string, error) {
	rows, err := db.QueryContext(ctx, sqlTables)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		tables = append(tables, name)
	}
	return tables, rows.Err()
}
