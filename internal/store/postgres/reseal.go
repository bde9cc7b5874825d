package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// givenUp is the key of a row that did not open when its tenant went into clear. No
// key has this id: the row stays unreadable.
const givenUp = -1

// resealTable is how one table's rows are sealed anew.
type resealTable struct {
	name string
	key  string // column
	some string // which of its rows have sealed columns; "" is all
	// read selects the rows of tenant $1 past id $2 that are not under key $3, $4 at
	// most, by id; write puts what reseal made of them.
	read, write string
	reseal      func(b *resealBatch, scan func(...any) error) error
	columns     func(b *resealBatch) []any
}

// resealTables are in the order of store.SealTable.
func resealTables() [store.NumSealTables]resealTable {
	return [store.NumSealTables]resealTable{
		{"memberships", "key_id", "", `
SELECT id, key_id, kind, principal_id, role_id, principal_index FROM portcullis.memberships
WHERE tenant_id = $1 AND id > $2 AND key_id <> $3 ORDER BY id LIMIT $4`, `
UPDATE portcullis.memberships t SET key_id = u.key_id, principal_id = u.text, principal_index = u.index
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS u (id, key_id, text, index) WHERE t.id = u.id`, resealMember, (*resealBatch).indexed},
		{"permissions", "key_id", "", `
SELECT id, key_id, role_id, name, name_index FROM portcullis.permissions
WHERE tenant_id = $1 AND id > $2 AND key_id <> $3 ORDER BY id LIMIT $4`, `
UPDATE portcullis.permissions t SET key_id = u.key_id, name = u.text, name_index = u.index
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS u (id, key_id, text, index) WHERE t.id = u.id`, resealPermission, (*resealBatch).indexed},
		{"roles", "key_id", "", `
SELECT id, key_id, description FROM portcullis.roles
WHERE tenant_id = $1 AND id > $2 AND key_id <> $3 ORDER BY id LIMIT $4`, `
UPDATE portcullis.roles t SET key_id = u.key_id, description = u.text
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS u (id, key_id, text) WHERE t.id = u.id`, resealRole, (*resealBatch).plain},
		// Locked in the order of ids, as FoldReports takes them.
		{"user_keys", "seal_key_id", "", `
SELECT ` + userKeyColumns + ` FROM portcullis.user_keys k
WHERE k.tenant_id = $1 AND k.id > $2 AND k.seal_key_id <> $3 ORDER BY k.id LIMIT $4 FOR UPDATE`, `
UPDATE portcullis.user_keys t SET seal_key_id = u.key_id, user_id = u.text, principal_index = u.index, label = u.label
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::text[]) AS u (id, key_id, text, index, label) WHERE t.id = u.id`, resealUserKey, (*resealBatch).labelled},
		{"audit", "key_id", "", `
SELECT ` + auditColumns + `, sealed IS NULL, user_index FROM portcullis.audit
WHERE tenant_id = $1 AND id > $2 AND key_id <> $3 ORDER BY id LIMIT $4`, `
UPDATE portcullis.audit t SET key_id = u.key_id, sealed = u.text, user_index = u.index,
    about = u.about, resource = u.resource, before = u.before, after = u.after, details = u.details
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
     AS u (id, key_id, text, index, at, about, resource, before, after, details)
WHERE t.id = u.id AND t.at = u.at`, resealAudit, (*resealBatch).audited},
		{"deny_list", "key_id", " AND kind = 2", `
SELECT ` + denialColumns + ` FROM portcullis.deny_list
WHERE tenant_id = $1 AND id > $2 AND key_id <> $3 AND kind = 2 ORDER BY id LIMIT $4`, sqlReindexDenials, resealDenial, (*resealBatch).digested},
		{"refresh_families", "key_id", "", `
SELECT id, key_id, principal_index, family, user_id FROM portcullis.refresh_families
WHERE tenant_id = $1 AND id > $2 AND key_id <> $3 ORDER BY id LIMIT $4`, `
UPDATE portcullis.refresh_families t SET key_id = u.key_id, user_id = u.text, principal_index = u.index
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS u (id, key_id, text, index) WHERE t.id = u.id`, resealRefresh, (*resealBatch).indexed},
	}
}

// resealBatch are rows of one table on their way to another key.
type resealBatch struct {
	store  *Store
	tenant store.TenantID
	keys   sealing.Keys
	leave  bool // a row that does not open is counted to the new key as it is
	left   []error

	ids, keyIDs []int64
	texts       []*string
	indexes     [][]byte
	labels      []string
	digests     [][]byte
	entries     []store.AuditEntry
}

func (b *resealBatch) plain() []any    { return []any{b.ids, b.keyIDs, b.texts} }
func (b *resealBatch) indexed() []any  { return append(b.plain(), b.indexes) }
func (b *resealBatch) labelled() []any { return append(b.indexed(), b.labels) }

func (b *resealBatch) digested() []any { return append(b.indexed(), b.digests) }

func (b *resealBatch) audited() []any {
	args := b.indexed()
	times := make([]time.Time, len(b.entries))
	for i := range b.entries {
		times[i] = b.entries[i].Time
	}
	args = append(args, times)
	for field := range 5 {
		texts := make([]string, len(b.entries))
		for i := range b.entries {
			e := &b.entries[i]
			texts[i] = [...]string{e.User, e.Resource, e.Before, e.After, e.Details}[field]
		}
		args = append(args, texts)
	}
	return args
}

// add takes a row in, under its new key.
func (b *resealBatch) add(id int64, text *string, index []byte) {
	b.addUnder(id, b.keys.Current.KeyID(), text, index)
}

func (b *resealBatch) addUnder(id, key int64, text *string, index []byte) {
	b.ids, b.keyIDs, b.texts, b.indexes = append(b.ids, id), append(b.keyIDs, key), append(b.texts, text), append(b.indexes, index)
}

// asItIs takes in a row that does not open, where it is to be left.
func (b *resealBatch) asItIs(err error, id int64, text *string, index []byte) error {
	if !b.leave || !errors.Is(err, store.ErrUnreadable) {
		return err
	}
	b.left = append(b.left, err)
	key := b.keys.Current.KeyID()
	if key == 0 {
		key = givenUp
	}
	b.addUnder(id, key, text, index)
	return nil
}

func resealMember(b *resealBatch, scan func(...any) error) error {
	var m memberRow
	var index []byte
	if err := scan(&m.id, &m.keyID, &m.kind, &m.principal, &m.role, &index); err != nil {
		return err
	}
	id, err := b.store.openMember(b.keys, b.tenant, &m)
	if err != nil {
		return b.asItIs(err, m.id, &m.principal, index)
	}
	sealed, err := b.keys.Current.Seal(m.place(b.tenant), id)
	fresh := indexUnder(b.keys.Current, b.tenant, m.kind, id)
	b.add(m.id, &sealed, fresh[:])
	return err
}

func resealPermission(b *resealBatch, scan func(...any) error) error {
	var p permissionRow
	var index []byte
	if err := scan(&p.id, &p.keyID, &p.role, &p.name, &index); err != nil {
		return err
	}
	name, err := b.store.openPermission(b.keys, b.tenant, &p)
	if err != nil {
		return b.asItIs(err, p.id, &p.name, index)
	}
	sealed, err := b.keys.Current.Seal(p.place(b.tenant), name)
	index = nil
	if b.keys.Current != nil {
		fresh := b.keys.Current.PermissionIndex(int64(p.role), name)
		index = fresh[:]
	}
	b.add(p.id, &sealed, index)
	return err
}

func resealRole(b *resealBatch, scan func(...any) error) error {
	var r roleRow
	if err := scan(&r.id, &r.keyID, &r.description); err != nil {
		return err
	}
	place := func() sealing.Place { return r.place(b.tenant) }
	text, err := b.store.open(b.keys, r.keyID, r.description, place)
	if err != nil {
		return b.asItIs(err, int64(r.id), &r.description, nil)
	}
	sealed, err := b.keys.Current.Seal(place(), text)
	b.add(int64(r.id), &sealed, nil)
	return err
}

func resealUserKey(b *resealBatch, scan func(...any) error) error {
	var k userKeyScan
	if err := scan(k.dest()...); err != nil {
		return err
	}
	key, err := b.store.openUserKey(b.keys, &k)
	if err != nil {
		b.labels = append(b.labels, orZero(k.label))
		return b.asItIs(err, *k.row, k.user, k.index[:])
	}
	user, err := b.keys.Current.Seal(k.userPlace(), key.User)
	if err != nil {
		return err
	}
	label, err := b.keys.Current.Seal(k.labelPlace(), key.Label)
	fresh := indexUnder(b.keys.Current, b.tenant, policy.KindUser, key.User)
	b.add(*k.row, &user, fresh[:])
	b.labels = append(b.labels, label)
	return err
}

func resealAudit(b *resealBatch, scan func(...any) error) error {
	var isNull bool
	var index []byte
	row, err := scanAudit(func(dest ...any) error { return scan(append(dest, &isNull, &index)...) })
	if err != nil {
		return err
	}
	if err := b.store.reveal(b.keys, &row); err != nil {
		b.entries = append(b.entries, row.AuditEntry)
		var text *string
		if !isNull {
			text = &row.sealed
		}
		return b.asItIs(err, row.ID, text, index)
	}
	key := b.keys.Current
	if key == nil {
		b.entries = append(b.entries, row.AuditEntry)
		b.add(row.ID, nil, nil)
		return nil
	}
	index = nil
	if row.User != "" {
		fresh := key.SubjectIndex(row.User)
		index = fresh[:]
	}
	sealed, err := key.Seal(sealing.AuditHidden(row.ID, int64(row.Tenant)), row.Hide())
	b.entries = append(b.entries, row.AuditEntry)
	b.add(row.ID, &sealed, index)
	return err
}

// Reseal implements store.Rotator. It holds the revision row, so no write comes
// between, and bumps nothing: what the rows say does not change.
func (s *Store) Reseal(ctx context.Context, tenant store.TenantID, from store.ResealCursor, limit int, leave func(error)) (next store.ResealCursor, rows int64, done bool, err error) {
	if limit < 1 {
		return from, 0, false, fmt.Errorf("reseal: limit: %d is below 1", limit)
	}
	var left []error
	err = s.try(ctx, "seal rows anew", func(ctx context.Context) error {
		next, rows, left = from, 0, nil
		tx, err := s.lock(ctx, tenant, nil)
		if err != nil {
			return err
		}
		defer rollback(ctx, tx)
		if !tx.pairs[tenant].Rotating {
			return fmt.Errorf("%w: the rotation of tenant %d is not begun", store.ErrEncryption, tenant)
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return err
		}
		for next.Table < store.NumSealTables && rows < int64(limit) {
			b := &resealBatch{store: s, tenant: tenant, keys: keys, leave: leave != nil}
			n, err := tx.resealFrom(resealTables()[next.Table], b, next.Row, limit-int(rows))
			if err != nil {
				return err
			}
			rows += int64(n)
			left = append(left, b.left...)
			if rows < int64(limit) {
				next = store.ResealCursor{Table: next.Table + 1}
			} else {
				next.Row = b.ids[n-1]
			}
		}
		return tx.Commit(ctx)
	})
	if err != nil {
		return from, 0, false, asOwner(err)
	}
	for _, err := range left {
		leave(err)
	}
	return next, rows, next.Table >= store.NumSealTables, nil
}

// resealFrom seals rows of one table and returns how many.
func (tx *writeTx) resealFrom(t resealTable, b *resealBatch, after int64, limit int) (int, error) {
	rows, err := tx.Query(tx.ctx, t.read, int64(b.tenant), after, b.keys.Pair.Current, limit)
	if err := each(rows, err, func(scan func(...any) error) error { return t.reseal(b, scan) }); err != nil {
		return 0, err
	}
	if len(b.ids) == 0 {
		return 0, nil
	}
	_, err = tx.exec(t.write, t.columns(b)...)
	return len(b.ids), err
}

// isResealed is store.ErrEncryption where a row of the table is not under the
// tenant's new key.
func isResealed(ctx context.Context, q querier, table store.SealTable, tenant store.TenantID, p sealing.Pair) error {
	t := resealTables()[table]
	mark := p.Current
	if mark == 0 {
		mark = givenUp
	}
	var row int64
	err := q.QueryRow(ctx, `SELECT id FROM portcullis.`+t.name+` WHERE tenant_id = $1 AND `+t.key+` NOT IN ($2, $3)`+t.some+` LIMIT 1`, int64(tenant), p.Current, mark).Scan(&row)
	switch {
	case isNoRows(err):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: row %d of %s is not under the new key of tenant %d: seal the rest anew", store.ErrEncryption, row, t.name, tenant)
}

func (s *Store) auditIsResealed(ctx context.Context, tenant store.TenantID) error {
	var p pairScan
	if err := s.pool.QueryRow(ctx, sqlPair, int64(tenant)).Scan(&p.current, &p.former); err != nil {
		return err
	}
	if !p.pair().Rotating {
		return nil
	}
	return isResealed(ctx, s.pool, store.SealAudit, tenant, p.pair())
}

// SealCounts implements store.Rotator.
func (s *Store) SealCounts(ctx context.Context, kind store.RotationKind) ([store.NumSealTables]int64, error) {
	var counts [store.NumSealTables]int64
	if kind.String() == "" {
		return counts, fmt.Errorf("%w: kind: %d is no kind of rotation", store.ErrEncryption, kind)
	}
	err := s.try(ctx, "count the rows of a rotation", func(ctx context.Context) error {
		return s.snapshot(ctx, func(b *pgx.Batch) {
			for _, t := range resealTables() {
				b.Queue(`SELECT count(*) FROM portcullis.`+t.name+` WHERE CASE $1::smallint WHEN 2 THEN `+t.key+` = 0
    WHEN 3 THEN `+t.key+` > 0
    ELSE `+t.key+` <> 0 AND `+t.key+` <= coalesce((SELECT nullif(rotation_before, 0) FROM portcullis.encryption WHERE rotation = 1), 9223372036854775807) END`+t.some, int16(kind))
			}
		}, func(r pgx.BatchResults) error {
			for i := range counts {
				if err := r.QueryRow().Scan(&counts[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return counts, err
}

// vacuumGently leaves the disk to those who read, and gives no pages back to it,
// which would take the table away from them.
func vacuumGently(ctx context.Context, conn *pgx.Conn, tables string) error {
	if _, err := conn.Exec(ctx, `SET vacuum_cost_delay = '2ms'`); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `VACUUM (TRUNCATE false, ANALYZE) `+tables, pgx.QueryExecModeSimpleProtocol)
	_, resetErr := conn.Exec(context.WithoutCancel(ctx), `RESET vacuum_cost_delay`)
	return errors.Join(err, resetErr)
}

// vacuum removes dead row versions. It is no part of the rotation: a failure is a
// warning that says what is left to do.
func (s *Store) vacuum(ctx context.Context) {
	var names []string
	for _, t := range resealTables() {
		names = append(names, "portcullis."+t.name)
	}
	tables := strings.Join(names, ", ")
	var owner bool
	err := s.pool.QueryRow(ctx, `SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'portcullis.memberships'::regclass`).Scan(&owner)
	if err == nil && !owner {
		err = errors.New("the role does not own the tables")
	}
	if err == nil {
		err = s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			return vacuumGently(ctx, conn.Conn(), tables)
		})
	}
	if err != nil {
		s.log.Warn("dead rows still hold what was there before the rotation: run VACUUM as the owner", "tables", tables, "error", err)
	}
}
