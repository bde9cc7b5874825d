package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	encryptionState = `
SELECT e.master, e.rotation, (SELECT count(*) FROM portcullis.encryption_keys), (SELECT count(*) FROM portcullis.encryption_keys k WHERE k.master <> e.master), `

	// What the audit's chain is under, a sidecar has no right to read.
	sqlEncryptionState = encryptionState + `a.holder, a.master FROM portcullis.encryption e, portcullis.audit_state a`
	sqlEncryptionOnly  = encryptionState + `'', '' FROM portcullis.encryption e`

	sqlForeignKeys = `SELECT id, tenant_id, wrapped, master FROM portcullis.encryption_keys WHERE master <> $1 ORDER BY id`

	sqlRewrap = `
UPDATE portcullis.encryption_keys k SET wrapped = u.wrapped, master = $3
FROM unnest($1::bigint[], $2::text[]) AS u (id, wrapped) WHERE k.id = u.id`

	sqlPutCheck = `UPDATE portcullis.encryption SET key_check = $1, master = $2`

	// Programs that know nothing of sealing would write rows in clear, and find none.
	sqlEnable = `
INSERT INTO portcullis.encryption (key_check, master, rotation, clear_reader, clear_writer)
SELECT $1, $2, $3, oldest_reader, oldest_writer FROM portcullis.compatibility`

	sqlRaiseCompatibility = `SELECT portcullis.mark_sealed(true)`

	sqlLowerCompatibility = `SELECT portcullis.mark_sealed(false)`

	sqlSetRotation = `
UPDATE portcullis.encryption
SET rotation = $1, rotation_before = CASE $1::smallint WHEN 1 THEN coalesce((SELECT max(id) FROM portcullis.encryption_keys), 0) ELSE 0 END`

	// $1 is the kind of the rotation, $2 its rotation_before.
	sqlRotationTenants = `
SELECT t.id
FROM (SELECT id FROM portcullis.tenants UNION SELECT tenant_id FROM portcullis.tenant_keys UNION SELECT 0) t
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = t.id
WHERE e.former_key_id IS NOT NULL OR CASE $1::smallint
      WHEN 1 THEN e.key_id <> 0 AND e.key_id <= $2
      WHEN 2 THEN coalesce(e.key_id, 0) = 0
      ELSE e.key_id <> 0 END
ORDER BY t.id LIMIT $3`

	sqlDeletePair = `DELETE FROM portcullis.tenant_keys WHERE tenant_id = $1`

	sqlDeleteKey = `DELETE FROM portcullis.encryption_keys WHERE id = $1 AND tenant_id = $2`
)

var errNotEnabled = fmt.Errorf("%w: the database is not sealed: turn encryption on first, with `portcullis rotate encryption --enable`", store.ErrEncryption)

// lacksRight reports whether the store's user may not do what it tried.
func lacksRight(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}

// asOwner says what to do where the role lacks a right that a rotation needs.
func asOwner(err error) error {
	if lacksRight(err) {
		return fmt.Errorf("%w: a rotation needs more rights than a server has: run it with the owner's URL, as `portcullis migrate` is", err)
	}
	return err
}

// step is a write of a rotation, recorded as of no tenant.
func (s *Store) step(ctx context.Context, what string, tenant store.TenantID, by store.Actor, do func(tx *writeTx) (*store.Written, error)) (store.Result, error) {
	// Nobody's chain is held while sqlChangeKeys waits for rows that are on their way.
	result, err := s.writeLocking(ctx, what, tenant, nil, by, do)
	return result, asOwner(err)
}

func rotated(resource string, kind store.RotationKind, step string, outcome store.Outcome) *store.Written {
	return &store.Written{
		Outcome: outcome, Action: store.ActionRotateEncryption, Resource: resource,
		Details: map[string]any{"kind": kind.String(), "step": step},
	}
}

// Encryption implements store.Rotator.
func (s *Store) Encryption(ctx context.Context) (store.Encryption, error) {
	e := store.Encryption{Enabled: true}
	err := s.try(ctx, "read the state of the encryption", func(ctx context.Context) error {
		query := sqlEncryptionState
		if s.readOnly {
			query = sqlEncryptionOnly
		}
		var a auditState
		if err := s.pool.QueryRow(ctx, query).Scan(&e.Master, &e.Rotation, &e.Keys, &e.OtherMasters, &a.holder, &a.master); err != nil {
			return err
		}
		if a.holder == sealing.HeldByEncryption { // which wraps the secret of the audit's chain too
			e.Keys++
			if string(a.master) != e.Master {
				e.OtherMasters++
			}
		}
		return nil
	})
	switch {
	case isNoRows(err):
		return store.Encryption{}, nil
	case err != nil:
		return store.Encryption{}, err
	}
	return e, nil
}

// Rewrap implements store.Rotator.
func (s *Store) Rewrap(ctx context.Context, by store.Actor) (int64, store.Result, error) {
	var n int64
	result, err := s.step(ctx, "wrap the encryption keys", 0, by, func(tx *writeTx) (*store.Written, error) {
		n = 0
		e, err := tx.encryption()
		if err != nil {
			return nil, err
		}
		if !e.enabled {
			return nil, errNotEnabled
		}
		masters := s.ring.Masters()
		check, first, err := masters.Check()
		if err != nil {
			return nil, err
		}
		if n, err = tx.rewrap(masters, first); err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome: store.OutcomeUnchanged, Action: store.ActionRewrapKeys, Resource: store.EncryptionResource,
			Details: map[string]any{"keys": n, "master": string(first)},
		}
		moved, err := tx.rewrapChainMaster(first)
		if err != nil {
			return nil, err
		}
		if n == 0 && !moved && e.master == first {
			return w, nil
		}
		if _, err := tx.exec(sqlPutCheck, check, string(first)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		return w, nil
	})
	if err != nil {
		return 0, store.Result{}, err
	}
	return n, result, nil
}

func (tx *writeTx) rewrap(masters *sealing.Masters, first sealing.MasterID) (int64, error) {
	var wrapped []sealing.Wrapped
	rows, err := tx.Query(tx.ctx, sqlForeignKeys, string(first))
	if err := each(rows, err, func(scan func(...any) error) error {
		var w sealing.Wrapped
		err := scan(&w.ID, &w.Tenant, &w.Wrapped, &w.Master)
		wrapped = append(wrapped, w)
		return err
	}); err != nil || len(wrapped) == 0 {
		return 0, err
	}
	ids, texts := make([]int64, len(wrapped)), make([]string, len(wrapped))
	for i, w := range wrapped {
		key, err := masters.Unwrap(w.Tenant, w.ID, w.Wrapped, w.Master)
		if err != nil {
			return 0, tx.store.noted(err)
		}
		ids[i] = w.ID
		if texts[i], _, err = masters.Wrap(key); err != nil {
			return 0, err
		}
	}
	return tx.exec(sqlRewrap, ids, texts, string(first))
}

// BeginRotation implements store.Rotator.
func (s *Store) BeginRotation(ctx context.Context, by store.Actor, kind store.RotationKind) (store.Result, error) {
	if kind.String() == "" {
		return store.Result{}, fmt.Errorf("%w: kind: %d is no kind of rotation", store.ErrEncryption, kind)
	}
	return s.step(ctx, "begin the rotation", 0, by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.encryption()
		if err != nil {
			return nil, err
		}
		switch {
		case e.kind == kind:
			return rotated(store.EncryptionResource, kind, "begin", store.OutcomeUnchanged), nil
		case e.kind != 0:
			return nil, fmt.Errorf("%w: a rotation of the kind %q is under way: finish it first", store.ErrEncryption, e.kind)
		case kind == store.RotateEnable && e.enabled:
			return nil, fmt.Errorf("%w: it is turned on already", store.ErrEncryption)
		case kind != store.RotateEnable && !e.enabled:
			return nil, errNotEnabled
		}
		if kind == store.RotateEnable {
			err = tx.enable()
		} else {
			_, err = tx.exec(sqlSetRotation, int16(kind))
		}
		return rotated(store.EncryptionResource, kind, "begin", store.OutcomeDone), err
	})
}

func (tx *writeTx) enable() error {
	check, master, err := tx.store.ring.Masters().Check()
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrEncryption, err)
	}
	if _, err = tx.exec(sqlEnable, check, string(master), int16(store.RotateEnable)); err == nil {
		_, err = tx.exec(sqlRaiseCompatibility)
	}
	return err
}

// underWay is the rotation that is under way, or store.ErrEncryption.
func (tx *writeTx) underWay() (encryption, error) {
	e, err := tx.encryption()
	if err == nil && e.kind == 0 {
		err = fmt.Errorf("%w: no rotation is under way: begin one", store.ErrEncryption)
	}
	return e, err
}

// RotationTenants implements store.Rotator.
func (s *Store) RotationTenants(ctx context.Context, limit int) ([]store.TenantID, error) {
	var list []store.TenantID
	err := s.try(ctx, "list the tenants that are left", func(ctx context.Context) error {
		var e encryption
		err := s.pool.QueryRow(ctx, sqlEncryption).Scan(&e.check, &e.master, &e.kind, &e.before)
		if isNoRows(err) || err == nil && e.kind == 0 {
			return fmt.Errorf("%w: no rotation is under way: begin one", store.ErrEncryption)
		}
		if err != nil {
			return err
		}
		list, err = rotationTenants(ctx, s.pool, e, limit)
		return err
	})
	return list, err
}

func rotationTenants(ctx context.Context, q querier, e encryption, limit int) ([]store.TenantID, error) {
	rows, err := q.Query(ctx, sqlRotationTenants, int16(e.kind), e.before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[store.TenantID])
}

// BeginTenant implements store.Rotator.
func (s *Store) BeginTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.step(ctx, "begin a tenant's rotation", tenant, by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.underWay()
		if err != nil {
			return nil, err
		}
		if tenant != 0 {
			if _, err := tx.tenant(tenant); err != nil {
				return nil, err
			}
		}
		was := tx.pairs[tenant]
		w := rotated(store.TenantEncryptionResource(tenant), e.kind, "begin", store.OutcomeUnchanged)
		if was.Rotating || !e.replaces(was.Current) {
			return w, nil
		}
		// Audit rows that are being written under the former key are committed first.
		if _, err := tx.exec(sqlChangeKeys); err != nil {
			return nil, err
		}
		now := sealing.Pair{Former: was.Current, Rotating: true}
		if e.kind != store.RotateDisable {
			key, err := tx.newKey(tenant, e)
			if err != nil {
				return nil, err
			}
			now.Current = key.ID
		}
		if err := tx.setPair(tenant, now); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		if tenant != 0 {
			w.Changes.Tenant(tenant)
			w.Changes.TenantGrants(tenant)
			if err := tx.reindexDenials(tenant, &w.Changes); err != nil {
				return nil, err
			}
		}
		return w, nil
	})
}

// replaces reports whether the rotation takes the key out of use; 0 is no key.
func (e *encryption) replaces(key int64) bool {
	switch e.kind {
	case store.RotateDeep:
		return key != 0 && key <= e.before
	case store.RotateEnable:
		return key == 0
	}
	return key != 0
}

// FinishTenant implements store.Rotator. The audit, which may be long, is looked
// through before the lock: since BeginTenant nothing has been written under the
// former key.
func (s *Store) FinishTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	if err := s.try(ctx, "finish a tenant's rotation", func(ctx context.Context) error {
		return s.auditIsResealed(ctx, tenant)
	}); err != nil {
		return store.Result{}, asOwner(err)
	}
	return s.step(ctx, "finish a tenant's rotation", tenant, by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.underWay()
		if err != nil {
			return nil, err
		}
		w := rotated(store.TenantEncryptionResource(tenant), e.kind, "finish", store.OutcomeUnchanged)
		was := tx.pairs[tenant]
		if !was.Rotating {
			return w, nil
		}
		if _, err := tx.exec(sqlChangeKeys); err != nil {
			return nil, err
		}
		for table := range store.NumSealTables {
			if table == store.SealAudit {
				continue
			}
			if err := isResealed(tx.ctx, tx, table, tenant, was); err != nil {
				return nil, err
			}
		}
		if err := tx.retire(tenant, was); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		if tenant != 0 {
			w.Changes.Tenant(tenant)
		}
		return w, nil
	})
}

// retire takes the former key out of use.
func (tx *writeTx) retire(tenant store.TenantID, was sealing.Pair) error {
	if was.Current != 0 {
		if err := tx.setPair(tenant, sealing.Pair{Current: was.Current}); err != nil {
			return err
		}
	} else {
		if _, err := tx.exec(sqlDeletePair, int64(tenant)); err != nil {
			return err
		}
		tx.pairs[tenant] = sealing.Pair{}
	}
	_, err := tx.exec(sqlDeleteKey, was.Former, int64(tenant))
	return err
}

// FinishRotation implements store.Rotator. Afterwards it has the dead row versions
// removed, in which the former texts still lie, where the role may.
func (s *Store) FinishRotation(ctx context.Context, by store.Actor) (store.Result, error) {
	result, err := s.step(ctx, "finish the rotation", 0, by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.underWay()
		if err != nil {
			return nil, err
		}
		left, err := rotationTenants(tx.ctx, tx, e, 1)
		if err != nil {
			return nil, err
		}
		if len(left) > 0 {
			return nil, fmt.Errorf("%w: tenant %d is not finished", store.ErrEncryption, left[0])
		}
		if e.kind == store.RotateDisable {
			err = tx.disable()
		} else {
			_, err = tx.exec(sqlSetRotation, 0)
		}
		return rotated(store.EncryptionResource, e.kind, "finish", store.OutcomeDone), err
	})
	if err == nil {
		s.vacuum(ctx)
	}
	return result, err
}

func (tx *writeTx) disable() error {
	for _, sql := range []string{
		sqlLowerCompatibility,
		`DELETE FROM portcullis.encryption`, `DELETE FROM portcullis.encryption_keys`, `DELETE FROM portcullis.tenant_keys`,
	} {
		if _, err := tx.exec(sql); err != nil {
			return err
		}
	}
	clear(tx.pairs)
	return nil
}
