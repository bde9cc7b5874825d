package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// GroupRoles names the two roles that nobody logs in as: the users of admin
// processes are members of the one, those of sidecars of the other.
type GroupRoles struct {
	Admin   string
	Sidecar string
}

// DefaultGroupRoles are the names that are taken where nobody names others.
func DefaultGroupRoles() GroupRoles {
	return GroupRoles{Admin: "portcullis_admin", Sidecar: "portcullis_sidecar"}
}

// maxRoleName leaves room for loginSuffix within the 63 bytes of an identifier.
const maxRoleName = 57

var roleName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// Check checks both names, and that they are two.
func (r GroupRoles) Check() error {
	if err := CheckRoleName(r.Admin); err != nil {
		return fmt.Errorf("admin role: %w", err)
	}
	if err := CheckRoleName(r.Sidecar); err != nil {
		return fmt.Errorf("sidecar role: %w", err)
	}
	if r.Admin == r.Sidecar {
		return fmt.Errorf("%q is the admin role too: sidecars need a role of their own", r.Sidecar)
	}
	return nil
}

// CheckRoleName refuses names that would have to be quoted wherever they are
// written, and those that Postgres keeps for itself.
func CheckRoleName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxRoleName:
		return fmt.Errorf("%q is longer than %d bytes", name, maxRoleName)
	case !roleName.MatchString(name):
		return fmt.Errorf("%q is no name of small letters, digits and underscores that begins with no digit", name)
	case strings.HasPrefix(name, "pg_"), name == "public", name == "none":
		return fmt.Errorf("%q is a name that Postgres keeps for itself", name)
	}
	return nil
}

func (r GroupRoles) names() []string { return []string{r.Admin, r.Sidecar} }

// EnsuredRoles is what EnsureRoles has done and found.
type EnsuredRoles struct {
	Made    []string // roles that were not there
	Missing []string // roles that are not there, and that the user may not make
	Granted []string // the statements that gave a right
	Revoked []string // the statements that took one away
}

// EnsureRoles makes the roles where they are missing and the user may (CREATEROLE
// or superuser), and brings what they and PUBLIC may do in the schema to what
// privilegeTable says. A role that is missing afterwards is told and is no error.
// It changes nothing that is right already. The schema must be this program's
// version and the user its owner; locks are as with Migrate.
func EnsureRoles(ctx context.Context, url string, roles GroupRoles, allowed ...Allowance) (EnsuredRoles, error) {
	out, err := ensureRoles(ctx, url, roles, allowed)
	if err != nil {
		return out, fmt.Errorf("grant the runtime roles their rights: %w", err)
	}
	return out, nil
}

func ensureRoles(ctx context.Context, url string, roles GroupRoles, allowed []Allowance) (out EnsuredRoles, err error) {
	if err := roles.Check(); err != nil {
		return out, err
	}
	cfg, err := parseURL(url, allowed...)
	if err != nil {
		return out, err
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	unlock, err := lockMigration(ctx, db)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := mustOwnSchema(ctx, db); err != nil {
		return out, err
	}
	for _, name := range roles.names() {
		made, present, err := ensureRole(ctx, db, name)
		switch {
		case err != nil:
			return out, err
		case !present:
			out.Missing = append(out.Missing, name)
			continue
		case made:
			out.Made = append(out.Made, name)
		}
	}
	if err := mustBeBelow(ctx, db, roles); err != nil {
		return out, err
	}
	return out, adjust(ctx, db, roles, &out)
}

// mustOwnSchema gives the reason at once where GRANT would only warn.
func mustOwnSchema(ctx context.Context, db *sql.DB) error {
	var user, owner string
	var owns bool
	err := db.QueryRowContext(ctx, `SELECT current_user::text, pg_get_userbyid(nspowner)::text, pg_has_role(nspowner, 'USAGE')
FROM pg_namespace WHERE nspname = 'portcullis'`).Scan(&user, &owner, &owns)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errors.New("the database has no schema portcullis: migrate it first")
	case err != nil:
		return err
	case !owns:
		return fmt.Errorf("the schema portcullis belongs to %s and this user is %s: run portcullis migrate as %s", owner, user, owner)
	}
	return nil
}

// ensureRole makes a role unless it is there. Neither made nor present is a role
// that this user may not make.
func ensureRole(ctx context.Context, db *sql.DB, name string) (made, present bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name).Scan(&present)
	if err != nil || present {
		return false, present, err
	}
	_, err = db.ExecContext(ctx, `CREATE ROLE `+pgx.Identifier{name}.Sanitize()+` NOLOGIN`)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return true, true, nil
	case !errors.As(err, &refused):
		return false, false, err
	}
	switch refused.Code {
	case codeNoRight:
		return false, false, nil
	case codeRoleExists, codeUnique: // roles are the server's: another database's migration made it
		return false, true, nil
	}
	return false, false, err
}

const (
	codeNoRight    = "42501" // insufficient_privilege
	codeRoleExists = "42710" // duplicate_object
	codeUnique     = "23505" // of pg_authid: made at this very moment
)

// mustBeBelow refuses roles that no grant can limit.
func mustBeBelow(ctx context.Context, db *sql.DB, roles GroupRoles) error {
	for _, name := range roles.names() {
		var owner string
		var owns, super bool
		err := db.QueryRowContext(ctx, `SELECT pg_get_userbyid(n.nspowner)::text, pg_has_role(r.oid, n.nspowner, 'MEMBER'), r.rolsuper
FROM pg_namespace n, pg_roles r WHERE n.nspname = 'portcullis' AND r.rolname = $1`, name).Scan(&owner, &owns, &super)
		switch {
		case errors.Is(err, sql.ErrNoRows): // missing, which is told
		case err != nil:
			return err
		case super:
			return fmt.Errorf("the role %s is a superuser, whom no grant limits: name another, or ALTER ROLE %s NOSUPERUSER", name, name)
		case owns:
			return fmt.Errorf("the role %s has the rights of %s, who owns the schema: name another, or REVOKE %s FROM %s", name, owner, owner, name)
		}
	}
	var both bool
	err := db.QueryRowContext(ctx, `SELECT pg_has_role(s.oid, a.oid, 'MEMBER') FROM pg_roles s, pg_roles a WHERE s.rolname = $1 AND a.rolname = $2`,
		roles.Sidecar, roles.Admin).Scan(&both)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	case both:
		return fmt.Errorf("the role %s has the rights of %s: REVOKE %s FROM %s", roles.Sidecar, roles.Admin, roles.Admin, roles.Sidecar)
	}
	return nil
}
