package authdata

import (
	"context"
	"fmt"
	"strconv"
)

// probeRows are tried of each column, at either end of its table and among the
// marked values: encryption may have been turned on late, or off again.
const probeRows = 16

// sealable are the columns that Auth encrypts. Free text has no pattern.
var sealable = []struct {
	table, column string
	matches       pattern
	active        bool // only these rows count
}{
	{tableMembership, "user", isUser, true},
	{tablePermission, "name", isPermission, true},
	{tableUserKey, "user", isUser, false},
	{tableRole, "description", nil, true},
	{tableUserKey, "label", isLabel, false},
}

// tryKey tells before the first row is read whether the key is needed, missing or
// wrong. One field that opens proves the key: no other passes the check of an IV.
func (s *Source) tryKey(ctx context.Context) error {
	seen, sealed := false, false
	for _, c := range sealable {
		value, where := quote("t", c.column), ""
		if c.active {
			where = " AND " + notFalse(s.db, quote("t", columnIsActive))
		}
		base := "SELECT " + list(s.db, []column{{"creator", "t.creator"}, {"value", value}}) +
			" FROM " + s.db.table(c.table) + " AS t WHERE " + value + " IS NOT NULL" + where
		end := " LIMIT " + strconv.Itoa(probeRows)
		for _, query := range []string{
			base + " AND substr(" + s.db.text(value) + ", 1, 3) = '" + cipherTag + "' ORDER BY t.id" + end,
			base + " ORDER BY t.id" + end,
			base + " ORDER BY t.id DESC" + end,
		} {
			for row, err := range s.db.rows(ctx, query) {
				if err != nil {
					return fmt.Errorf("try the key on %s.%s: %w", c.table, c.column, err)
				}
				if row[1] == nil || *row[1] == "" {
					continue
				}
				seen = true
				if looksSealed(*row[1], c.matches) {
					sealed = true
				}
				if s.keys == nil {
					continue
				}
				creator := ""
				if row[0] != nil {
					creator = *row[0]
				}
				// What is no ciphertext opens as itself, and proves nothing.
				if plain, err := s.keys.open(creator, *row[1]); err == nil && plain != *row[1] {
					return nil
				}
			}
		}
	}
	switch {
	case s.keys == nil && sealed:
		return ErrKeyNeeded
	case s.keys != nil && sealed:
		return ErrWrongKey
	case s.keys != nil && seen:
		return ErrNotEncrypted
	}
	return nil
}
