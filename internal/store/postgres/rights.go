package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const sqlLacked = `
SELECT u.privilege || ' on ' || u.name FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS u (kind, name, privilege, n)
WHERE NOT CASE u.kind
    WHEN 'TABLE' THEN has_table_privilege(u.name, u.privilege)
    WHEN 'SEQUENCE' THEN has_sequence_privilege(u.name, u.privilege)
    WHEN 'FUNCTION' THEN has_function_privilege(u.name, u.privilege)
    ELSE has_schema_privilege(u.name, u.privilege) END
ORDER BY u.n`

// LackedRights lists what the store's user may not do and an admin process, or a
// sidecar, has to: nothing where the user is a member of its role, or the owner.
func (s *Store) LackedRights(ctx context.Context, admin bool) ([]string, error) {
	var kinds, names, needed []string
	for _, p := range privilegesAt(schemaVersion) {
		list := p.sidecar
		if admin {
			list = p.admin
		}
		for _, word := range words(list) {
			kinds, names, needed = append(kinds, string(p.kind)), append(names, objectName(p.kind, p.name)), append(needed, word)
		}
	}
	var lacked []string
	err := s.try(ctx, "look up the user's rights", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sqlLacked, kinds, names, needed)
		if err != nil {
			return err
		}
		lacked, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return lacked, err
}
