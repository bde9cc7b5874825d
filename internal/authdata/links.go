package authdata

import (
	"context"
	"fmt"
	"iter"
	"strconv"
)

// noSub is a cursor's Sub where there is no other id, as a query has it.
const noSub = "-9223372036854775807"

// linked is the query of a tenant's links: from the owner's table (permissions or
// memberships) over the links to the roles. An owner without links is a row too,
// so that what is wrong with it is not passed over.
//
// The page of Auth's data names the owner's id first in both link tables, which is
// where an index begins.
func (s *Source) linked(links, owner, ownerID, name string) query {
	return query{
		table: links,
		columns: []column{
			{ownerID, "o.id"},
			{"group_id", "l.group_id"},
			{"linked", "l." + ownerID},
			{name, quote("o", name)},
			{columnIsActive, quote("o", columnIsActive)},
			{"role_id", "g.id"},
			{"role", "g.role"},
			{"role_active", quote("g", columnIsActive)},
			{"same_tenant", "CASE WHEN g.creator = o.creator THEN 1 ELSE 0 END"},
		},
		from: s.db.table(owner) + " AS o LEFT JOIN " + s.db.table(links) + " AS l ON l." + ownerID + " = o.id LEFT JOIN " +
			s.db.table(tableRole) + " AS g ON g.id = l.group_id WHERE o.creator = $1 AND o.id >= CAST($2 AS BIGINT) AND (o.id > CAST($2 AS BIGINT) OR COALESCE(l.group_id, " +
			noSub + ") > CAST($3 AS BIGINT)) AND " + notFalse(s.db, quote("o", columnIsActive)),
		order: "o.id, COALESCE(l.group_id, " + noSub + ")",
		links: true,
	}
}

// link reads what grants and memberships have in common: the owner's decrypted
// name and the role's. ok is false where there is no link, or a side is inactive.
func (f *fields) link(owner, name string, p pattern) (ownerName, role string, ok bool) {
	f.of(owner, shown(f.values[0]))
	active := f.boolean(columnIsActive)
	ownerName = f.sealed(name, p)
	if f.raw("linked") == nil {
		return "", "", false
	}
	f.of(f.row.Table, f.row.ID)
	switch {
	case f.raw("role_id") == nil:
		f.fail(Dangling, "group_id", "there is no such role")
		return "", "", false
	case *f.raw("same_tenant") != "1":
		f.fail(Dangling, "group_id", "the role is another tenant's")
		return "", "", false
	}
	f.of(tableRole, *f.raw("role_id"))
	if !f.booleanOf("role_active", columnIsActive) {
		return "", "", false
	}
	return ownerName, f.name("role", isRole), active
}

// Grants yields which active permission is in which active role of the tenant.
func (s *Source) Grants(ctx context.Context, tenant Secret, after Cursor) iter.Seq2[Grant, error] {
	id, sub := after.start()
	q := s.linked(tablePermRole, tablePermission, "permission_id", "name")
	return stream(ctx, s, tenant, q, []any{tenant.Reveal(), id, sub}, func(f *fields) (Grant, bool) {
		permission, role, ok := f.link(tablePermission, "name", isPermission)
		return Grant{Row: f.row, Role: role, Permission: permission}, ok
	})
}

// Memberships yields which active user is in which active role of the tenant.
func (s *Source) Memberships(ctx context.Context, tenant Secret, after Cursor) iter.Seq2[Membership, error] {
	id, sub := after.start()
	q := s.linked(tableMemberRole, tableMembership, "membership_id", "user")
	return stream(ctx, s, tenant, q, []any{tenant.Reveal(), id, sub}, func(f *fields) (Membership, bool) {
		user, role, ok := f.link(tableMembership, "user", isUser)
		return Membership{Row: f.row, User: user, Role: role}, ok
	})
}

// Orphans yields a *RowError of kind Dangling for each link whose permission or
// user is absent. Such a link belongs to no tenant, so no other stream meets it.
// A nil error is never yielded.
func (s *Source) Orphans(ctx context.Context) iter.Seq[error] {
	return func(yield func(error) bool) {
		for _, t := range []struct{ links, owner, id, what string }{
			{tablePermRole, tablePermission, "permission_id", "permission"},
			{tableMemberRole, tableMembership, "membership_id", "membership"},
		} {
			sql := "SELECT " + list(s.db, cols("l", t.id, "group_id")) + " FROM " + s.db.table(t.links) + " AS l WHERE NOT EXISTS (SELECT 1 FROM " +
				s.db.table(t.owner) + " AS o WHERE o.id = l." + t.id + ") ORDER BY l." + t.id + ", l.group_id"
			for row, err := range s.db.rows(ctx, sql) {
				if err != nil {
					yield(fmt.Errorf("read %s: %w", t.links, err))
					return
				}
				if !yield(&RowError{Kind: Dangling, Table: t.links, ID: shown(row[0]) + "/" + shown(row[1]), Column: t.id, Why: "there is no such " + t.what}) {
					return
				}
			}
		}
	}
}

func number(v *string) (int64, error) {
	if v == nil {
		return 0, fmt.Errorf("is NULL")
	}
	n, err := strconv.ParseInt(*v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("is not a whole number")
	}
	return n, nil
}

// sub is the second id of a link, or noSub.
func sub(v *string) (int64, error) {
	if v == nil {
		return before + 1, nil
	}
	return number(v)
}
