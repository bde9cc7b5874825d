package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// everybody is how GRANT spells the grantee that every role is.
const everybody = "PUBLIC"

// sqlHeld lists the objects of the schema with what PUBLIC and the two roles were
// granted there by the owner, in columns too. An object on which they hold nothing
// comes back once, with NULL for the grantee. A right that the owner let somebody
// else pass on is that somebody's.
const sqlHeld = `
WITH objects AS (
    SELECT 'SCHEMA' AS kind, n.nspname::text AS name, '' AS col, false AS partition, n.nspowner AS owner,
           coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl
    FROM pg_namespace n WHERE n.nspname = 'portcullis'
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname::text, '',
           EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = to_regclass('portcullis.audit')),
           c.relowner, coalesce(c.relacl, acldefault((CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", c.relowner))
    FROM pg_class c WHERE c.relnamespace = 'portcullis'::regnamespace AND c.relkind IN ('r', 'p', 'S')
    UNION ALL
    SELECT 'TABLE', c.relname::text, a.attname::text,
           EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = to_regclass('portcullis.audit')),
           c.relowner, a.attacl
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'portcullis'::regnamespace AND c.relkind IN ('r', 'p') AND a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'FUNCTION', p.proname || '(' || oidvectortypes(p.proargtypes) || ')', '', false,
           p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc p WHERE p.pronamespace = 'portcullis'::regnamespace
)
SELECT o.kind, o.name, o.col, o.partition, h.grantee, coalesce(h.privilege_type, ''), coalesce(h.is_grantable, false)
FROM objects o
LEFT JOIN LATERAL (
    SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END AS grantee, x.privilege_type, x.is_grantable
    FROM aclexplode(o.acl) x
    WHERE x.grantor = o.owner AND (x.grantee = 0 OR pg_get_userbyid(x.grantee) IN ($1, $2))
) h ON true
ORDER BY o.kind, o.name, o.col, h.grantee, h.privilege_type`

// A partition that is made meanwhile would change the same catalog rows.
const sqlLockPartitions = `SELECT pg_advisory_xact_lock(hashtextextended('portcullis.ensure_audit_partitions', 0))`

// right is one privilege on one object, held by one grantee.
type right struct {
	kind      objectKind
	name      string
	column    string // "" is all of the object
	grantee   string
	privilege string
}

// on names the object in a statement.
func (r right) on() string { return string(r.kind) + " " + objectName(r.kind, r.name) }

func (r right) words() string {
	if r.column == "" {
		return r.privilege
	}
	return r.privilege + " (" + pgx.Identifier{r.column}.Sanitize() + ")"
}

func (r right) grant() string {
	return "GRANT " + r.words() + " ON " + r.on() + " TO " + granteeName(r.grantee)
}

func granteeName(grantee string) string {
	if grantee == everybody {
		return everybody
	}
	return pgx.Identifier{grantee}.Sanitize()
}

// revoke takes it away, or the right to pass it on alone. CASCADE: what its holder
// has passed on goes with it.
func (r right) revoke(grantOption bool) string {
	what := r.words()
	if grantOption {
		what = "GRANT OPTION FOR " + what
	}
	return "REVOKE " + what + " ON " + r.on() + " FROM " + granteeName(r.grantee) + " CASCADE"
}

// objectName is an object's name in a statement. Names that come from the database
// are quoted where they need it; functions are privilegeTable's own.
func objectName(kind objectKind, name string) string {
	switch {
	case kind == onSchema:
		return name
	case kind == onFunction || roleName.MatchString(name):
		return "portcullis." + name
	}
	return pgx.Identifier{"portcullis", name}.Sanitize()
}

// adjust brings the rights of PUBLIC and of those roles that are there to what
// privilegeTable says, in one transaction.
func adjust(ctx context.Context, db *sql.DB, roles GroupRoles, out *EnsuredRoles) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	if _, err := tx.ExecContext(ctx, sqlLockPartitions); err != nil {
		return err
	}
	granted, revoked, err := differences(ctx, tx, roles, out.Missing)
	if err != nil {
		return err
	}
	for _, statement := range append(slices.Clone(revoked), granted...) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	if len(granted)+len(revoked) > 0 {
		// GRANT by a stranger to the table warns and does nothing.
		more, less, err := differences(ctx, tx, roles, out.Missing)
		if err != nil {
			return err
		}
		if left := append(less, more...); len(left) > 0 {
			return fmt.Errorf("%q has no effect: have the object belong to who owns the schema (ALTER ... OWNER TO)", left[0])
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	out.Granted, out.Revoked = granted, revoked
	return nil
}

// differences are the statements that are left to run.
func differences(ctx context.Context, tx *sql.Tx, roles GroupRoles, missing []string) (grants, revokes []string, err error) {
	wanted := make(map[right]bool)
	ours := make(map[[2]string]bool) // by kind and name: whether it was found
	var order []right
	for _, p := range privilegesAt(schemaVersion) {
		ours[[2]string{string(p.kind), p.name}] = false
		for _, to := range []struct{ role, privileges string }{{roles.Admin, p.admin}, {roles.Sidecar, p.sidecar}} {
			if slices.Contains(missing, to.role) {
				continue
			}
			for _, word := range words(to.privileges) {
				r := right{kind: p.kind, name: p.name, grantee: to.role, privilege: word}
				wanted[r], order = true, append(order, r)
			}
		}
	}
	held := make(map[right]bool)
	rows, err := tx.QueryContext(ctx, sqlHeld, roles.Admin, roles.Sidecar)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r right
		var grantee *string
		var partition, grantable bool
		if err := rows.Scan(&r.kind, &r.name, &r.column, &partition, &grantee, &r.privilege, &grantable); err != nil {
			return nil, nil, err
		}
		object := [2]string{string(r.kind), r.name}
		if _, known := ours[object]; known {
			ours[object] = true
		} else if !partition {
			continue // somebody else's table in our schema
		}
		if grantee == nil {
			continue
		}
		r.grantee = *grantee
		switch {
		case !wanted[r]:
			revokes = append(revokes, r.revoke(false))
		case grantable:
			revokes = append(revokes, r.revoke(true))
		}
		held[r] = true
	}
	if err := rows.Err(); err != nil {
		return nil, nil, err
	}
	for object, found := range ours {
		if !found {
			return nil, nil, fmt.Errorf("the %s %s is missing: migrate the schema first", strings.ToLower(object[0]), object[1])
		}
	}
	for _, r := range order {
		if !held[r] {
			grants = append(grants, r.grant())
		}
	}
	return grants, revokes, nil
}
