package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// sealedTable is how the rows of one table are sealed anew.
type sealedTable struct {
	// read lists the rows of the tenant ?1 after the id ?2 that are not under the key
	// ?3, by id, at most ?4.
	read string
	// exists says whether the tenant ?1 has a row that is not under the key ?2.
	exists string
	// count counts the rows that a rotation would write: ?1 is its kind, ?2 the
	// highest key id when it began, 0 where it is not under way.
	count string
	// scan reads a row of read.
	scan func(rows *sql.Rows) (resealing, error)
}

// resealing is one row on its way from one key to another.
type resealing interface {
	// at is the row's id, and the key that it is under.
	at() (row, key int64)
	// open opens what is sealed, and keeps it. It returns what does not open.
	open(keys sealing.Keys, tenant store.TenantID) error
	// write writes the row under the current key.
	write(tx *resealTx) error
	// move counts the row to the current key and leaves the rest as it is.
	move(tx *resealTx) error
}

// resealTx is a batch in progress.
type resealTx struct {
	*conn
	ctx    context.Context
	tenant store.TenantID
	key    *sealing.Key // the current one
}

func (tx *resealTx) put(query string, args ...any) error {
	_, err := tx.exec(tx.ctx, query, args...)
	return err
}

const (
	existsMembers     = `SELECT EXISTS (SELECT 1 FROM memberships WHERE tenant_id = ?1 AND key_id <> ?2)`
	existsPermissions = `SELECT EXISTS (SELECT 1 FROM permissions WHERE tenant_id = ?1 AND key_id <> ?2)`
	existsRoles       = `SELECT EXISTS (SELECT 1 FROM roles WHERE tenant_id = ?1 AND key_id <> ?2)`
	existsUserKeys    = `SELECT EXISTS (SELECT 1 FROM user_keys WHERE tenant_id = ?1 AND seal_key_id <> ?2)`
	existsAudit       = `SELECT EXISTS (SELECT 1 FROM audit WHERE tenant_id = ?1 AND key_id <> ?2)`

	whichRows = ` FROM (SELECT ?1 AS kind, ?2 AS before) AS r JOIN `
	whichKeys = ` WHERE (r.kind = 1 AND t.key_id <> 0 AND (r.before = 0 OR t.key_id <= r.before))
			OR (r.kind = 2 AND t.key_id = 0) OR (r.kind = 3 AND t.key_id <> 0)`

	countMembers     = `SELECT count(*)` + whichRows + `memberships AS t` + whichKeys
	countPermissions = `SELECT count(*)` + whichRows + `permissions AS t` + whichKeys
	countRoles       = `SELECT count(*)` + whichRows + `roles AS t` + whichKeys
	countUserKeys    = `SELECT count(*)` + whichRows + `(SELECT seal_key_id AS key_id FROM user_keys) AS t` + whichKeys
	countAudit       = `SELECT count(*)` + whichRows + `audit AS t` + whichKeys

	readMembers = `SELECT id, key_id, kind, role_id, principal_id FROM memberships
		WHERE tenant_id = ?1 AND id > ?2 AND key_id <> ?3 ORDER BY id LIMIT ?4`
	readPermissions = `SELECT id, key_id, role_id, name FROM permissions
		WHERE tenant_id = ?1 AND id > ?2 AND key_id <> ?3 ORDER BY id LIMIT ?4`
	readRoles = `SELECT id, key_id, description FROM roles
		WHERE tenant_id = ?1 AND id > ?2 AND key_id <> ?3 ORDER BY id LIMIT ?4`
	readUserKeys = `SELECT id, seal_key_id, key_id, digest, user_id, label FROM user_keys
		WHERE tenant_id = ?1 AND id > ?2 AND seal_key_id <> ?3 ORDER BY id LIMIT ?4`
	readAudit = `SELECT id, key_id, user, resource, before, after, details, coalesce(sealed, '') FROM audit
		WHERE tenant_id = ?1 AND id > ?2 AND key_id <> ?3 ORDER BY id LIMIT ?4`

	sqlResealMember     = `UPDATE memberships SET key_id = ?, principal_index = ?, principal_id = ? WHERE id = ?`
	sqlMoveMember       = `UPDATE memberships SET key_id = ? WHERE id = ?`
	sqlResealPermission = `UPDATE permissions SET key_id = ?, name_index = ?, name = ? WHERE id = ?`
	sqlMovePermission   = `UPDATE permissions SET key_id = ? WHERE id = ?`
	sqlResealRole       = `UPDATE roles SET key_id = ?, description = ? WHERE id = ?`
	sqlMoveRole         = `UPDATE roles SET key_id = ? WHERE id = ?`
	sqlResealUserKey    = `UPDATE user_keys SET seal_key_id = ?, principal_index = ?, user_id = ?, label = ? WHERE id = ?`
	sqlMoveUserKey      = `UPDATE user_keys SET seal_key_id = ? WHERE id = ?`
	sqlResealAudit      = `UPDATE audit SET key_id = ?, user = ?, resource = ?, before = ?, after = ?, details = ?, user_index = ?, sealed = ? WHERE id = ?`
	sqlMoveAudit        = `UPDATE audit SET key_id = ? WHERE id = ?`
)

// sealedTables are the tables with sealed columns, by store.SealTable.
func sealedTables() [store.NumSealTables]sealedTable {
	return [store.NumSealTables]sealedTable{
		store.SealMemberships: {readMembers, existsMembers, countMembers, scanMemberAnew},
		store.SealPermissions: {readPermissions, existsPermissions, countPermissions, scanPermissionAnew},
		store.SealRoles:       {readRoles, existsRoles, countRoles, scanRoleAnew},
		store.SealUserKeys:    {readUserKeys, existsUserKeys, countUserKeys, scanUserKeyAnew},
		store.SealAudit:       {readAudit, existsAudit, countAudit, scanAuditAnew},
	}
}

// mustBeResealed is store.ErrEncryption where a row of the tenant is under another
// key.
func (tx *writeTx) mustBeResealed(tenant store.TenantID, key int64) error {
	for i, table := range sealedTables() {
		var left bool
		if err := tx.scan(tx.ctx, table.exists, args{int64(tenant), key}, &left); err != nil {
			return err
		}
		if left {
			return fmt.Errorf("%w: some rows of %s of tenant %d are not under its new key", store.ErrEncryption, store.SealTable(i), tenant)
		}
	}
	return nil
}

// SealCounts implements store.Rotator.
func (s *Store) SealCounts(ctx context.Context, kind store.RotationKind) ([store.NumSealTables]int64, error) {
	var counts [store.NumSealTables]int64
	err := s.reading(ctx, "count the rows of a rotation", func(ctx context.Context, c *conn) error {
		e, err := readEncryption(ctx, c)
		if err != nil {
			return err
		}
		var before int64
		if e != nil && e.rotation == store.RotateDeep {
			before = e.before
		}
		for i, table := range sealedTables() {
			if err := c.scan(ctx, table.count, args{int64(kind), before}, &counts[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return counts, err
}

// Reseal implements store.Rotator.
func (s *Store) Reseal(ctx context.Context, tenant store.TenantID, from store.ResealCursor, limit int, leave func(error)) (store.ResealCursor, int64, bool, error) {
	if limit < 1 {
		return from, 0, false, fmt.Errorf("seal rows anew: limit: %d is below 1", limit)
	}
	next, written, done := from, int64(0), false
	var left []error // told once the batch is written: it may be tried again
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		next, written, done, left = from, 0, false, nil
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		if !keys.Pair.Rotating {
			done = true
			return nil
		}
		tx := &resealTx{conn: c, ctx: ctx, tenant: tenant, key: keys.Current}
		for ; next.Table < store.NumSealTables; next = (store.ResealCursor{Table: next.Table + 1}) {
			table := sealedTables()[next.Table]
			var batch []resealing
			room := int64(limit) - written
			if room == 0 {
				return nil
			}
			err := tx.each(ctx, table.read, args{int64(tenant), next.Row, keys.Pair.Current, room}, func(rows *sql.Rows) error {
				r, err := table.scan(rows)
				batch = append(batch, r)
				return err
			})
			if err != nil {
				return err
			}
			for _, r := range batch {
				if err := s.resealRow(tx, keys, r, leave != nil, &left); err != nil {
					return err
				}
				next.Row, _ = r.at()
				written++
			}
			if int64(len(batch)) == room {
				return nil
			}
		}
		done = true
		return nil
	})
	if err != nil {
		return from, 0, false, fmt.Errorf("seal rows anew: %w", err)
	}
	for _, err := range left {
		leave(err)
	}
	return next, written, done, nil
}

func (s *Store) resealRow(tx *resealTx, keys sealing.Keys, r resealing, leave bool, left *[]error) error {
	if err := s.told(tx.ctx, r.open(keys, tx.tenant)); err != nil {
		if !leave || !errors.Is(err, store.ErrUnreadable) {
			return err
		}
		*left = append(*left, err)
		return r.move(tx)
	}
	return r.write(tx)
}

type memberAnew struct {
	row memberRow
	id  string
}

func scanMemberAnew(rows *sql.Rows) (resealing, error) {
	var m memberAnew
	err := rows.Scan(&m.row.id, &m.row.key, &m.row.kind, &m.row.role, &m.row.sealed)
	return &m, err
}

func (m *memberAnew) at() (int64, int64) { return m.row.id, m.row.key }

func (m *memberAnew) open(keys sealing.Keys, tenant store.TenantID) (err error) {
	m.id, err = keys.Open(m.row.key, m.row.place(tenant), m.row.sealed)
	return err
}

func (m *memberAnew) write(tx *resealTx) error {
	sealed, err := tx.key.Seal(m.row.place(tx.tenant), m.id)
	if err != nil {
		return err
	}
	index := indexUnder(tx.key, tx.tenant, m.row.kind, m.id)
	return tx.put(sqlResealMember, tx.key.KeyID(), index[:], sealed, m.row.id)
}

func (m *memberAnew) move(tx *resealTx) error {
	return tx.put(sqlMoveMember, tx.key.KeyID(), m.row.id)
}

type permissionAnew struct {
	row  permissionRow
	role policy.RoleID
	name string
}

func scanPermissionAnew(rows *sql.Rows) (resealing, error) {
	var p permissionAnew
	err := rows.Scan(&p.row.id, &p.row.key, &p.role, &p.row.sealed)
	return &p, err
}

func (p *permissionAnew) at() (int64, int64) { return p.row.id, p.row.key }

func (p *permissionAnew) place(tenant store.TenantID) sealing.Place {
	return sealing.PermissionName(p.row.id, int64(tenant), int64(p.role))
}

func (p *permissionAnew) open(keys sealing.Keys, tenant store.TenantID) (err error) {
	p.name, err = keys.Open(p.row.key, p.place(tenant), p.row.sealed)
	return err
}

func (p *permissionAnew) write(tx *resealTx) error {
	sealed, err := tx.key.Seal(p.place(tx.tenant), p.name)
	if err != nil {
		return err
	}
	return tx.put(sqlResealPermission, tx.key.KeyID(), permissionIndex(tx.key, p.role, p.name), sealed, p.row.id)
}

func (p *permissionAnew) move(tx *resealTx) error {
	return tx.put(sqlMovePermission, tx.key.KeyID(), p.row.id)
}

type roleAnew struct {
	row         roleRow
	description string
}

func scanRoleAnew(rows *sql.Rows) (resealing, error) {
	var r roleAnew
	err := rows.Scan(&r.row.id, &r.row.key, &r.row.sealed)
	return &r, err
}

func (r *roleAnew) at() (int64, int64) { return int64(r.row.id), r.row.key }

func (r *roleAnew) open(keys sealing.Keys, tenant store.TenantID) (err error) {
	r.description, err = keys.Open(r.row.key, sealing.RoleDescription(int64(r.row.id), int64(tenant)), r.row.sealed)
	return err
}

func (r *roleAnew) write(tx *resealTx) error {
	sealed, err := tx.key.Seal(sealing.RoleDescription(int64(r.row.id), int64(tx.tenant)), r.description)
	if err != nil {
		return err
	}
	return tx.put(sqlResealRole, tx.key.KeyID(), sealed, int64(r.row.id))
}

func (r *roleAnew) move(tx *resealTx) error {
	return tx.put(sqlMoveRole, tx.key.KeyID(), int64(r.row.id))
}

type userKeyAnew struct {
	row         userKeyRow
	user, label string
}

func scanUserKeyAnew(rows *sql.Rows) (resealing, error) {
	var u userKeyAnew
	k := &u.row.key
	err := rows.Scan(&u.row.id, &u.row.under, &k.ID, digestOf(&k.Digest), &k.User, &k.Label)
	return &u, err
}

func (u *userKeyAnew) at() (int64, int64) { return u.row.id, u.row.under }

func (u *userKeyAnew) open(keys sealing.Keys, tenant store.TenantID) (err error) {
	u.row.key.Tenant = tenant
	user, label := u.row.places()
	if u.user, err = keys.Open(u.row.under, user, u.row.key.User); err != nil {
		return err
	}
	u.label, err = keys.Open(u.row.under, label, u.row.key.Label)
	return err
}

func (u *userKeyAnew) write(tx *resealTx) error {
	userPlace, labelPlace := u.row.places()
	user, err := tx.key.Seal(userPlace, u.user)
	if err != nil {
		return err
	}
	label, err := tx.key.Seal(labelPlace, u.label)
	if err != nil {
		return err
	}
	index := indexUnder(tx.key, tx.tenant, policy.KindUser, u.user)
	return tx.put(sqlResealUserKey, tx.key.KeyID(), index[:], user, label, u.row.id)
}

func (u *userKeyAnew) move(tx *resealTx) error {
	return tx.put(sqlMoveUserKey, tx.key.KeyID(), u.row.id)
}

type auditAnew struct {
	entry  store.AuditEntry
	key    int64
	sealed string
}

func scanAuditAnew(rows *sql.Rows) (resealing, error) {
	var a auditAnew
	e := &a.entry
	err := rows.Scan(&e.ID, &a.key, &e.User, &e.Resource, &e.Before, &e.After, &e.Details, &a.sealed)
	return &a, err
}

func (a *auditAnew) at() (int64, int64) { return a.entry.ID, a.key }

func (a *auditAnew) open(keys sealing.Keys, tenant store.TenantID) error {
	place := sealing.AuditHidden(a.entry.ID, int64(tenant))
	key, err := keys.Of(a.key, place)
	if err != nil || key == nil {
		return err
	}
	text, err := key.Open(place, a.sealed)
	if err == nil && a.entry.Reveal(text) != nil {
		err = &sealing.Error{Place: place, Key: a.key, Why: "what it hides is cut off"}
	}
	return err
}

func (a *auditAnew) write(tx *resealTx) error {
	e := &a.entry
	var index []byte
	var sealed sql.NullString
	if tx.key != nil {
		if e.User != "" {
			fingerprint := tx.key.SubjectIndex(e.User)
			index = fingerprint[:]
		}
		var err error
		if sealed.String, err = tx.key.Seal(sealing.AuditHidden(e.ID, int64(tx.tenant)), e.Hide()); err != nil {
			return err
		}
		sealed.Valid = true
	}
	return tx.put(sqlResealAudit, tx.key.KeyID(), e.User, e.Resource, e.Before, e.After, e.Details, index, sealed, e.ID)
}

func (a *auditAnew) move(tx *resealTx) error {
	return tx.put(sqlMoveAudit, tx.key.KeyID(), a.entry.ID)
}
