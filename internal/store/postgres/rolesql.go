package postgres

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// loginSuffix makes the name of a user from that of the role it is a member of.
const loginSuffix = "_login"

// PasswordToFillIn stands in RoleSQL's text where a DBA writes the passwords of the
// users for admin processes and for sidecars.
func PasswordToFillIn() (admin, sidecar string) {
	return "FILL IN: password of the admin user", "FILL IN: password of the sidecar user"
}

// Logins are the users that RoleSQL makes.
func (r GroupRoles) Logins() (admin, sidecar string) {
	return r.Admin + loginSuffix, r.Sidecar + loginSuffix
}

// RoleSQLConfig is what RoleSQL writes about.
type RoleSQLConfig struct {
	Database string // its name
	Roles    GroupRoles
	// Subnets are where the users may log in from. Without one, no lines of
	// pg_hba.conf are written.
	Subnets []netip.Prefix
}

// ParseSubnet reads a subnet in CIDR form, IPv4 or IPv6, with no bit set beyond
// its length.
func ParseSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is no subnet: give an address and a length, as in 10.0.0.0/24 or fd00:1::/64", text)
	case subnet.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 address in IPv6's form: Postgres compares the two apart: write it as IPv4", text)
	case subnet != subnet.Masked():
		return netip.Prefix{}, fmt.Errorf("%q has bits set beyond its length: did you mean %s?", text, subnet.Masked())
	}
	return subnet, nil
}

// DatabaseName is the database that a connection URL names.
func DatabaseName(url string) (string, error) {
	cfg, err := readURL(url)
	if err != nil {
		return "", err
	}
	if cfg.ConnConfig.Database == "" {
		return cfg.ConnConfig.User, nil
	}
	return cfg.ConnConfig.Database, nil
}

// RoleSQL is the SQL with which a DBA makes the runtime roles and their users, for
// psql. It may be run again: what is right already stays, passwords too.
func RoleSQL(cfg RoleSQLConfig) (string, error) {
	if err := cfg.Roles.Check(); err != nil {
		return "", err
	}
	if cfg.Database == "" || strings.Contains(cfg.Database, "$guard$") || strings.ContainsFunc(cfg.Database, unicode.IsControl) {
		return "", fmt.Errorf("database: %q is no name that can be written into a script", cfg.Database)
	}
	for _, subnet := range cfg.Subnets {
		if _, err := ParseSubnet(subnet.String()); err != nil {
			return "", fmt.Errorf("subnet: %w", err)
		}
	}
	adminLogin, sidecarLogin := cfg.Roles.Logins()
	adminFill, sidecarFill := PasswordToFillIn()
	database := pgx.Identifier{cfg.Database}.Sanitize()
	fill := strings.NewReplacer(
		"{admin}", pgx.Identifier{cfg.Roles.Admin}.Sanitize(),
		"{sidecar}", pgx.Identifier{cfg.Roles.Sidecar}.Sanitize(),
		"{admin_login}", pgx.Identifier{adminLogin}.Sanitize(),
		"{sidecar_login}", pgx.Identifier{sidecarLogin}.Sanitize(),
		"{'admin}", literal(cfg.Roles.Admin),
		"{'sidecar}", literal(cfg.Roles.Sidecar),
		"{'admin_login}", literal(adminLogin),
		"{'sidecar_login}", literal(sidecarLogin),
		"{'admin_fill}", literal(adminFill),
		"{'sidecar_fill}", literal(sidecarFill),
		"{database}", database,
		"{'database}", literal(cfg.Database),
		"{grants}", grantSQL(cfg.Roles),
		"{hba}", hbaLines(cfg),
	)
	return fill.Replace(roleTemplate), nil
}

// literal writes a string constant that reads the same whatever
// standard_conforming_strings says.
func literal(s string) string {
	quoted := "'" + strings.ReplaceAll(strings.ReplaceAll(s, `'`, `''`), `\`, `\\`) + "'"
	if strings.Contains(s, `\`) {
		return "E" + quoted
	}
	return quoted
}

// grantSQL takes all from each object and gives what privilegeTable says.
func grantSQL(roles GroupRoles) string {
	var b strings.Builder
	for _, p := range privilegesAt(schemaVersion) {
		on := string(p.kind) + " " + objectName(p.kind, p.name)
		fmt.Fprintf(&b, "REVOKE ALL ON %s FROM PUBLIC, %s, %s CASCADE;\n", on, granteeName(roles.Admin), granteeName(roles.Sidecar))
		for _, to := range []struct{ role, privileges string }{{roles.Admin, p.admin}, {roles.Sidecar, p.sidecar}} {
			if to.privileges != "" {
				fmt.Fprintf(&b, "GRANT %s ON %s TO %s;\n", to.privileges, on, granteeName(to.role))
			}
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// hbaPrefix marks the lines that belong into pg_hba.conf, in comments of the SQL.
const hbaPrefix = "--hba "

// hbaLines let the two users in over TLS with a scram password, from the subnets
// alone: the last lines turn away what the file's other lines might let in.
func hbaLines(cfg RoleSQLConfig) string {
	if len(cfg.Subnets) == 0 {
		return "-- (no --subnet was given: `portcullis migrate --print-roles --subnet 10.0.0.0/24` writes the lines)"
	}
	admin, sidecar := cfg.Roles.Logins()
	database, users := hbaWord(cfg.Database), admin+","+sidecar
	var lines []string
	for _, subnet := range cfg.Subnets {
		lines = append(lines, fmt.Sprintf("%shostssl  %s  %s  %s  scram-sha-256", hbaPrefix, database, users, subnet))
	}
	lines = append(lines, fmt.Sprintf("%shost     all  %s  all  reject", hbaPrefix, users))
	return strings.Join(lines, "\n")
}

// hbaWord quotes a database's name so that no keyword, comma or space in it means
// anything.
func hbaWord(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// roleTemplate is one transaction: where something stops it, nothing was done.
const roleTemplate = `-- The roles of Portcullis, for the database {database}.
--
-- Run it in that database, after ` + "`portcullis migrate`" + `, as a superuser, or as one who
-- may create roles and has the rights of the owners of database and schema:
--
--     psql -X -v ON_ERROR_STOP=1 -d DATABASE -f roles.sql
--
-- It may be run again at any time: a user that is there keeps its password, unless
-- another one is filled in.
BEGIN;

DO $guard$
BEGIN
    IF current_database() <> {'database} THEN
        RAISE EXCEPTION 'this is the database %, and the script is for %', current_database(), {'database};
    END IF;
    IF to_regnamespace('portcullis') IS NULL THEN
        RAISE EXCEPTION 'the database has no schema portcullis: run portcullis migrate first';
    END IF;
END
$guard$;

-- Nobody logs in as these two. Rights go to them, users are members of one.
-- The users: one for ` + "`portcullis admin`" + `, one for every ` + "`portcullis sidecar`" + `.
-- ` + "`portcullis migrate`" + ` logs in as the owner of the schema, who is neither.
--
-- Fill in two passwords, such as ` + "`openssl rand -hex 24`" + ` makes. A ready-made verifier
-- (SCRAM-SHA-256$4096:...) does as well, and then no clear text reaches the server.
SET LOCAL password_encryption = 'scram-sha-256';
DO $log$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN -- what follows stays out of the server's log
        SET LOCAL log_statement = 'none';
        SET LOCAL log_min_error_statement = 'panic';
        SET LOCAL log_min_duration_statement = -1;
        SET LOCAL log_min_duration_sample = -1;
        SET LOCAL log_duration = off;
    END IF;
END
$log$;
DO $users$
DECLARE
    admin_password   text := {'admin_fill};
    sidecar_password text := {'sidecar_fill};
    login            record;
BEGIN
    IF to_regrole({'admin}) IS NULL THEN
        CREATE ROLE {admin} NOLOGIN;
    END IF;
    IF to_regrole({'sidecar}) IS NULL THEN
        CREATE ROLE {sidecar} NOLOGIN;
    END IF;
    FOR login IN VALUES ({'admin_login}, admin_password), ({'sidecar_login}, sidecar_password) LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = login.column1) THEN
            CONTINUE WHEN login.column2 LIKE 'FILL IN:%';
            EXECUTE format('ALTER ROLE %I PASSWORD %L', login.column1, login.column2);
        ELSIF login.column2 LIKE 'FILL IN:%' OR login.column2 = '' THEN
            RAISE EXCEPTION 'fill in the password of %', login.column1;
        ELSE
            EXECUTE format('CREATE ROLE %I LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L',
                login.column1, login.column2);
        END IF;
    END LOOP;
END
$users$;
GRANT {admin} TO {admin_login};
GRANT {sidecar} TO {sidecar_login};

-- Settings are a user's own: a member does not take them from its role.
--
-- A sidecar's longest statement lists the digests of all live keys, once, at its
-- start. What takes longer than this is no sidecar's, or nobody waits for it.
ALTER ROLE {sidecar_login} SET statement_timeout = '60s';
-- It reads beside a migration, or tries again: it does not stand in a queue behind one.
ALTER ROLE {sidecar_login} SET lock_timeout = '5s';
ALTER ROLE {sidecar_login} SET idle_in_transaction_session_timeout = '10s';
-- Writes of an admin process bound themselves, and wait in line for the revision
-- row: no statement_timeout and no lock_timeout.
ALTER ROLE {admin_login} SET idle_in_transaction_session_timeout = '60s';

-- Who may enter the database: the two roles, and the owner of the schema. Any other
-- program that uses this database needs a GRANT CONNECT of its own from now on.
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
REVOKE ALL ON DATABASE {database} FROM {admin}, {sidecar};
GRANT CONNECT ON DATABASE {database} TO {admin}, {sidecar};
DO $database$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(),
        (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'portcullis'));
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
END
$database$;

-- What the roles may do. ` + "`portcullis migrate`" + ` keeps it so.
{grants}
DO $partitions$
DECLARE
    part text;
BEGIN
    FOR part IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'portcullis.audit'::regclass LOOP
        EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC, {admin}, {sidecar} CASCADE', part);
    END LOOP;
END
$partitions$;

COMMIT;

-- The beginning of pg_hba.conf, above every other line, for the first line that
-- fits decides; then SELECT pg_reload_conf(). Print them with
-- ` + "`sed -n 's/^--hba //p' roles.sql`" + `. hostssl: TLS, or no entry.
{hba}
`
