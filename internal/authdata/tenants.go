package authdata

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// Tenants yields each client key that owns a row, once. What stands in a table as
// creator and is no UUID in lower case gives a *RowError for the first of its
// rows: it never opened anything in Auth, and its rows are in no stream. A
// UUID need not be of version 4.
func (s *Source) Tenants(ctx context.Context) iter.Seq2[Secret, error] {
	return func(yield func(Secret, error) bool) {
		var parts []string
		for _, table := range tenantTables {
			creator := s.db.text(quote("t", columnCreator))
			parts = append(parts, "SELECT "+creator+" AS creator, '"+table+"' AS place, "+
				s.db.text("min(t.id)")+" AS id, "+s.db.text("count(*)")+" AS n FROM "+s.db.table(table)+" AS t GROUP BY "+creator)
		}
		sql := "SELECT creator, place, id, n FROM (" + strings.Join(parts, " UNION ALL ") + ") AS u ORDER BY creator COLLATE " + s.db.binary() + ", place"
		last := ""
		for row, err := range s.db.rows(ctx, sql) {
			if err != nil {
				yield(Secret{}, fmt.Errorf("list the tenants: %w", err))
				return
			}
			if row[0] == nil || !isUUID(*row[0]) {
				why := "is no client key, a UUID in lower case"
				if row[0] == nil {
					why = "is NULL"
				}
				bad := &RowError{Kind: Unreadable, Table: *row[1], ID: shown(row[2]), Column: columnCreator,
					Why: fmt.Sprintf("%s (rows of the table with the same: %s)", why, shown(row[3]))}
				if !yield(Secret{}, bad) {
					return
				}
				continue
			}
			if *row[0] == last {
				continue
			}
			last = strings.Clone(*row[0])
			if !yield(NewSecret(last), nil) {
				return
			}
		}
	}
}

// ofTenant is the conditions of a stream of one tenant's rows by id.
func (s *Source) ofTenant(table string, active bool) string {
	from := s.db.table(table) + " AS t WHERE t.creator = $1 AND t.id > CAST($2 AS BIGINT)"
	if active {
		from += " AND " + notFalse(s.db, quote("t", columnIsActive))
	}
	return from
}

// optional is a column where the table has it, else NULL.
func (s *Source) optional(table, name string) column {
	if s.tables.has(table, name) {
		return column{name, quote("t", name)}
	}
	return column{name, "NULL"}
}

// Settings yields the tenant's settings: one row, or none.
func (s *Source) Settings(ctx context.Context, tenant Secret, after Cursor) iter.Seq2[Settings, error] {
	id, _ := after.start()
	q := query{table: tableSettings, columns: cols("t", "id", "strict_users"), from: s.ofTenant(tableSettings, false), order: "t.id"}
	return stream(ctx, s, tenant, q, []any{tenant.Reveal(), id}, func(f *fields) (Settings, bool) {
		return Settings{Row: f.row, StrictUsers: f.boolean("strict_users")}, true
	})
}

// Roles yields the tenant's active roles. Names that differ in case are two roles.
func (s *Source) Roles(ctx context.Context, tenant Secret, after Cursor) iter.Seq2[Role, error] {
	id, _ := after.start()
	q := query{
		table:   tableRole,
		columns: append(cols("t", "id", "role", "description", columnIsActive), s.optional(tableRole, columnDateCreated)),
		from:    s.ofTenant(tableRole, true), order: "t.id",
	}
	return stream(ctx, s, tenant, q, []any{tenant.Reveal(), id}, func(f *fields) (Role, bool) {
		return Role{
			Row:         f.row,
			Name:        f.name("role", isRole),
			Description: f.sealed("description", nil),
			Created:     f.maybeTime(columnDateCreated),
		}, f.boolean(columnIsActive)
	})
}

// Permissions yields the tenant's active permissions.
func (s *Source) Permissions(ctx context.Context, tenant Secret, after Cursor) iter.Seq2[Permission, error] {
	id, _ := after.start()
	q := query{table: tablePermission, columns: cols("t", "id", "name", columnIsActive), from: s.ofTenant(tablePermission, true), order: "t.id"}
	return stream(ctx, s, tenant, q, []any{tenant.Reveal(), id}, func(f *fields) (Permission, bool) {
		return Permission{Row: f.row, Name: f.sealed("name", isPermission)}, f.boolean(columnIsActive)
	})
}

// UserKeys yields the tenant's API keys, former ones too: their digests must stay
// taken, and open nothing.
func (s *Source) UserKeys(ctx context.Context, tenant Secret, after Cursor) iter.Seq2[UserKey, error] {
	id, _ := after.start()
	q := query{
		table: tableUserKey,
		columns: append(cols("t", "id", "key_id", "user", "key_hash", "key_prefix", "label", columnIsActive, "revoked_at", "expires_at", "last_used_at"),
			s.optional(tableUserKey, columnDateCreated)),
		from: s.ofTenant(tableUserKey, false), order: "t.id",
	}
	return stream(ctx, s, tenant, q, []any{tenant.Reveal(), id}, func(f *fields) (UserKey, bool) {
		return UserKey{
			Row:      f.row,
			KeyID:    f.name("key_id", isUUID),
			User:     f.sealed("user", isUser),
			Digest:   f.digest("key_hash"),
			Prefix:   f.name("key_prefix", isPrefix),
			Label:    f.sealed("label", isLabel),
			Active:   f.boolean(columnIsActive),
			Created:  f.maybeTime(columnDateCreated),
			Revoked:  f.maybeTime("revoked_at"),
			Expires:  f.maybeTime("expires_at"),
			LastUsed: f.maybeTime("last_used_at"),
		}, true
	})
}
