package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// sealTable is how the rows of one table are sealed anew.
type sealTable struct {
	rows   string // id, key_id and what reseal needs; ?1 tenant, ?2 current key, ?3 id that they come after, ?4 limit
	leave  string // ?1 current key, ?2 id
	left   string // whether a row of the tenant ?1 is not under the key ?2
	reseal func(r *resealing, rows *sql.Rows) (resealed, error)
	write  string // the texts and indexes of resealed, the key, the id
}

// resealing is the sealing anew of one tenant's rows.
type resealing struct {
	tenant store.TenantID
	keys   sealing.Keys
}

// resealed is a row as it is to be written: values come before the key and the id.
type resealed struct {
	id     int64
	under  int64         // the key that the row is under
	place  sealing.Place // what has the index; zero where no index is unique
	values []any
	broken error // the row does not open
}

// sealTables are in the order of store.SealTable.
var sealTables = [store.NumSealTables]sealTable{
	store.SealMemberships: {
		rows:  `SELECT id, key_id, principal_index, kind, role_id, principal_id FROM memberships` + rowsLeft,
		leave: `UPDATE memberships SET key_id = ? WHERE id = ?`, left: leftHead + `memberships` + leftTail,
		write:  `UPDATE memberships SET principal_id = ?, principal_index = ?, key_id = ? WHERE id = ?`,
		reseal: (*resealing).membership,
	},
	store.SealPermissions: {
		rows:  `SELECT id, key_id, name_index, role_id, name FROM permissions` + rowsLeft,
		leave: `UPDATE permissions SET key_id = ? WHERE id = ?`, left: leftHead + `permissions` + leftTail,
		write:  `UPDATE permissions SET name = ?, name_index = ?, key_id = ? WHERE id = ?`,
		reseal: (*resealing).permission,
	},
	store.SealRoles: {
		rows:  `SELECT id, key_id, description FROM roles` + rowsLeft,
		leave: `UPDATE roles SET key_id = ? WHERE id = ?`, left: leftHead + `roles` + leftTail,
		write:  `UPDATE roles SET description = ?, key_id = ? WHERE id = ?`,
		reseal: (*resealing).role,
	},
	store.SealUserKeys: {
		rows: `SELECT id, seal_key_id, principal_index, key_id, digest, user_id, label FROM user_keys
			WHERE tenant_id = ? AND seal_key_id <> ? AND seal_key_id >= 0 AND id > ? ORDER BY id LIMIT ?`,
		leave:  `UPDATE user_keys SET seal_key_id = ? WHERE id = ?`,
		left:   `SELECT EXISTS (SELECT 1 FROM user_keys WHERE tenant_id = ? AND seal_key_id <> ? AND seal_key_id >= 0)`,
		write:  `UPDATE user_keys SET user_id = ?, label = ?, principal_index = ?, seal_key_id = ? WHERE id = ?`,
		reseal: (*resealing).userKey,
	},
	store.SealAudit: {
		rows:  `SELECT id, key_id, user, resource, before, after, details, coalesce(sealed, '') FROM audit` + rowsLeft,
		leave: `UPDATE audit SET key_id = ? WHERE id = ?`, left: leftHead + `audit` + leftTail,
		write: `UPDATE audit SET user = ?, resource = ?, before = ?, after = ?, details = ?, user_index = ?, sealed = ?, key_id = ?
			WHERE id = ?`,
		reseal: (*resealing).audit,
	},
	store.SealDenials: {
		rows: `SELECT ` + denialColumns + ` FROM deny_list
			WHERE tenant_id = ? AND key_id <> ? AND key_id >= 0 AND id > ? AND kind = 2 ORDER BY id LIMIT ?`,
		leave:  `UPDATE deny_list SET key_id = ? WHERE id = ?`,
		left:   `SELECT EXISTS (SELECT 1 FROM deny_list WHERE tenant_id = ? AND key_id <> ? AND key_id >= 0 AND kind = 2)`,
		write:  `UPDATE deny_list SET principal_id = ?, principal_index = ?, digest = ?, key_id = ? WHERE id = ?`,
		reseal: (*resealing).denial,
	},
	store.SealRefresh: {
		rows:  `SELECT id, key_id, principal_index, family, user_id FROM refresh_families` + rowsLeft,
		leave: `UPDATE refresh_families SET key_id = ? WHERE id = ?`, left: leftHead + `refresh_families` + leftTail,
		write:  `UPDATE refresh_families SET user_id = ?, principal_index = ?, key_id = ? WHERE id = ?`,
		reseal: (*resealing).refresh,
	},
}

const (
	rowsLeft = ` WHERE tenant_id = ? AND key_id <> ? AND key_id >= 0 AND id > ? ORDER BY id LIMIT ?`

	leftHead = `SELECT EXISTS (SELECT 1 FROM `
	leftTail = ` WHERE tenant_id = ? AND key_id <> ? AND key_id >= 0)`
)

const (
	// whyReindex says that a row's index is not that of what it holds.
	whyReindex = "its index is not that of its value: the row was edited by other hands"
	// whyTaken says that the new index is another row's. Every write looks for a row
	// under both keys before it makes one, so no write of ours leads there.
	whyTaken = "another row, under the tenant's new key, has its place: one of the two was put there by other hands"
)

// again opens a value and seals it anew for the same place.
func (r *resealing) again(under int64, p sealing.Place, sealed string) (text, anew string, err error) {
	if text, err = r.keys.Open(under, p, sealed); err != nil {
		return "", "", err
	}
	anew, err = r.keys.Current.Seal(p, text)
	return text, anew, err
}

// reindex is the principal's index under the current key, where the row has the
// one under its own key.
func (r *resealing) reindex(under int64, p sealing.Place, had []byte, kind policy.Kind, id string) ([]byte, error) {
	key, err := r.keys.Of(under, p)
	if err != nil {
		return nil, err
	}
	if was := indexUnder(key, r.tenant, kind, id); !bytes.Equal(was[:], had) {
		return nil, &sealing.Error{Place: p, Key: under, Why: whyReindex}
	}
	index := indexUnder(r.keys.Current, r.tenant, kind, id)
	return index[:], nil
}

func (r *resealing) membership(rows *sql.Rows) (resealed, error) {
	var m memberRow
	var had []byte
	if err := rows.Scan(&m.id, &m.key, &had, &m.kind, &m.role, &m.sealed); err != nil {
		return resealed{}, err
	}
	id, anew, err := r.again(m.key, m.place(r.tenant), m.sealed)
	if err != nil {
		return resealed{id: m.id, broken: err}, nil
	}
	index, err := r.reindex(m.key, m.place(r.tenant), had, m.kind, id)
	return resealed{id: m.id, under: m.key, place: m.place(r.tenant), values: []any{anew, index}, broken: err}, nil
}

func (r *resealing) permission(rows *sql.Rows) (resealed, error) {
	var p permissionRow
	var had []byte
	var role policy.RoleID
	if err := rows.Scan(&p.id, &p.key, &had, &role, &p.sealed); err != nil {
		return resealed{}, err
	}
	place := sealing.PermissionName(p.id, int64(r.tenant), int64(role))
	name, anew, err := r.again(p.key, place, p.sealed)
	if err != nil {
		return resealed{id: p.id, broken: err}, nil
	}
	key, err := r.keys.Of(p.key, place)
	if err == nil && !bytes.Equal(permissionIndex(key, role, name), had) {
		err = &sealing.Error{Place: place, Key: p.key, Why: whyReindex}
	}
	return resealed{id: p.id, under: p.key, place: place, values: []any{anew, permissionIndex(r.keys.Current, role, name)}, broken: err}, nil
}

func (r *resealing) role(rows *sql.Rows) (resealed, error) {
	var id, under int64
	var sealed string
	if err := rows.Scan(&id, &under, &sealed); err != nil {
		return resealed{}, err
	}
	_, anew, err := r.again(under, sealing.RoleDescription(id, int64(r.tenant)), sealed)
	return resealed{id: id, values: []any{anew}, broken: err}, nil
}

func (r *resealing) userKey(rows *sql.Rows) (resealed, error) {
	var k userKeyRow
	var had []byte
	k.key.Tenant = r.tenant
	if err := rows.Scan(&k.id, &k.under, &had, &k.key.ID, digestOf(&k.key.Digest), &k.key.User, &k.key.Label); err != nil {
		return resealed{}, err
	}
	userPlace, labelPlace := k.places()
	user, userAnew, err := r.again(k.under, userPlace, k.key.User)
	if err != nil {
		return resealed{id: k.id, broken: err}, nil
	}
	_, labelAnew, err := r.again(k.under, labelPlace, k.key.Label)
	if err != nil {
		return resealed{id: k.id, broken: err}, nil
	}
	index, err := r.reindex(k.under, userPlace, had, policy.KindUser, user)
	return resealed{id: k.id, values: []any{userAnew, labelAnew, index}, broken: err}, nil
}

func (r *resealing) audit(rows *sql.Rows) (resealed, error) {
	e := store.AuditEntry{Tenant: r.tenant}
	var under int64
	var sealed string
	if err := rows.Scan(&e.ID, &under, &e.User, &e.Resource, &e.Before, &e.After, &e.Details, &sealed); err != nil {
		return resealed{}, err
	}
	place := sealing.AuditHidden(e.ID, int64(r.tenant))
	hidden, err := r.keys.Open(under, place, sealed)
	if err == nil && under != 0 {
		if bad := e.Reveal(hidden); bad != nil {
			err = &sealing.Error{Place: place, Key: under, Why: bad.Error()}
		}
	}
	if err != nil {
		return resealed{id: e.ID, broken: err}, nil
	}
	h, err := hideAudit(r.keys.Current, e.ID, &e)
	return resealed{id: e.ID, values: []any{e.User, e.Resource, e.Before, e.After, e.Details, h.index, h.sealed}}, err
}

// Reseal implements store.Rotator. It holds SQLite's write lock, which excludes
// every write, and bumps no revision: the content stays as it was.
func (s *Store) Reseal(ctx context.Context, tenant store.TenantID, from store.ResealCursor, limit int, leave func(error)) (store.ResealCursor, int64, bool, error) {
	if limit < 1 {
		return from, 0, false, fmt.Errorf("reseal: limit: %d is below 1", limit)
	}
	next, written := from, int64(0)
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		next, written = from, 0
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		if !keys.Pair.Rotating {
			return fmt.Errorf("%w: tenant %d was not begun", store.ErrEncryption, tenant)
		}
		r := &resealing{tenant: tenant, keys: keys}
		for next.Table < store.NumSealTables && written < int64(limit) {
			last, n, err := s.resealTable(ctx, c, r, next, int64(limit)-written, leave)
			if err != nil {
				return err
			}
			written += n
			if written < int64(limit) {
				next = store.ResealCursor{Table: next.Table + 1}
			} else {
				next.Row = last
			}
		}
		return nil
	})
	if err != nil {
		return from, 0, false, fmt.Errorf("reseal tenant %d: %w", tenant, err)
	}
	return next, written, next.Table >= store.NumSealTables, nil
}

// resealTable seals up to limit rows of one table anew, and returns the last one's
// id and how many there were.
func (s *Store) resealTable(ctx context.Context, c *conn, r *resealing, from store.ResealCursor, limit int64, leave func(error)) (int64, int64, error) {
	t := &sealTables[from.Table]
	var batch []resealed
	err := c.each(ctx, t.rows, args{int64(r.tenant), r.keys.Pair.Current, from.Row, limit}, func(rows *sql.Rows) error {
		row, err := t.reseal(r, rows)
		batch = append(batch, row)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	last := from.Row
	for _, row := range batch {
		last = row.id
		if row.broken == nil {
			_, err := c.exec(ctx, t.write, append(row.values, r.keys.Pair.Current, row.id)...)
			switch {
			case err == nil:
				continue
			case !isTaken(err) || row.place == (sealing.Place{}):
				return 0, 0, err
			}
			row.broken = &sealing.Error{Place: row.place, Key: row.under, Why: whyTaken}
		}
		err := s.told(ctx, row.broken)
		if leave == nil || !errors.Is(err, store.ErrUnreadable) {
			return 0, 0, err
		}
		leave(err)
		if _, err := c.exec(ctx, t.leave, leftUnder(r.keys.Pair.Current), row.id); err != nil {
			return 0, 0, err
		}
	}
	return last, int64(len(batch)), nil
}

// lostKey stands for a key that nobody has: a row under it never opens.
const lostKey = -1

// leftUnder is what a row that does not open is counted to. In clear it would be
// taken for a text.
func leftUnder(current int64) int64 {
	if current == 0 {
		return lostKey
	}
	return current
}

const (
	sqlCountUpTo = `SELECT
		(SELECT count(*) FROM memberships WHERE key_id BETWEEN ?1 AND ?2), (SELECT count(*) FROM permissions WHERE key_id BETWEEN ?1 AND ?2),
		(SELECT count(*) FROM roles WHERE key_id BETWEEN ?1 AND ?2), (SELECT count(*) FROM user_keys WHERE seal_key_id BETWEEN ?1 AND ?2),
		(SELECT count(*) FROM audit WHERE key_id BETWEEN ?1 AND ?2),
		(SELECT count(*) FROM deny_list WHERE kind = 2 AND key_id BETWEEN ?1 AND ?2), (SELECT count(*) FROM refresh_families WHERE key_id BETWEEN ?1 AND ?2)`

	sqlHighestKey = `SELECT coalesce(max(id), 0) FROM encryption_keys`
)

// SealCounts implements store.Rotator.
func (s *Store) SealCounts(ctx context.Context, kind store.RotationKind) ([store.NumSealTables]int64, error) {
	var n [store.NumSealTables]int64
	err := s.reading(ctx, "count the rows to reseal", func(ctx context.Context, c *conn) error {
		var first, last int64 // of the key ids whose rows are written
		if kind != store.RotateEnable {
			e, err := readEncryption(ctx, c)
			if err != nil {
				return err
			}
			first = 1
			if err := c.scan(ctx, sqlHighestKey, nil, &last); err != nil {
				return err
			}
			if kind == store.RotateDeep && e != nil && e.rotation == store.RotateDeep {
				last = e.before
			}
		}
		return c.scan(ctx, sqlCountUpTo, args{first, last}, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6])
	})
	return n, err
}
