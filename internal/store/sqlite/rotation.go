package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlCountKeys = `SELECT count(*), coalesce(sum(master <> ?), 0) FROM encryption_keys`

	sqlKeysUnderOthers = `SELECT id, tenant_id, wrapped, master FROM encryption_keys WHERE master <> ? ORDER BY id`

	sqlRewrapKey = `UPDATE encryption_keys SET wrapped = ?, master = ? WHERE id = ?`

	sqlRewrapCheck = `UPDATE encryption SET key_check = ?, master = ?`

	sqlInsertEncryption = `INSERT INTO encryption (only_row, key_check, master, rotation) VALUES (1, ?, ?, ?)`

	sqlSetRotation = `UPDATE encryption SET rotation = ?, rotation_before = (SELECT coalesce(max(id), 0) FROM encryption_keys)`

	sqlEndRotation = `UPDATE encryption SET rotation = 0`

	sqlDropEncryption = `DELETE FROM encryption`

	sqlDropKeys = `DELETE FROM encryption_keys`

	sqlDropKey = `DELETE FROM encryption_keys WHERE id = ?`

	sqlDropTenantKeys = `DELETE FROM tenant_keys WHERE tenant_id = ?`

	sqlTenantsToDeepen = `SELECT tenant_id FROM tenant_keys
		WHERE key_id <> 0 AND key_id <= ?1 OR former_key_id IS NOT NULL ORDER BY tenant_id LIMIT ?2`

	// Whoever has rows or may get some: tenants, what has keys, and 0 for the audit
	// rows of no tenant. ?1 is there to make the three alike.
	sqlTenantsToSeal = `SELECT t.id FROM (SELECT 0 AS id UNION SELECT id FROM tenants UNION SELECT tenant_id FROM tenant_keys) AS t
		LEFT JOIN tenant_keys AS k ON k.tenant_id = t.id
		WHERE ?1 >= 0 AND (coalesce(k.key_id, 0) = 0 OR k.former_key_id IS NOT NULL) ORDER BY t.id LIMIT ?2`

	sqlTenantsToUnseal = `SELECT tenant_id FROM tenant_keys
		WHERE ?1 >= 0 AND (key_id <> 0 OR former_key_id IS NOT NULL) ORDER BY tenant_id LIMIT ?2`
)

// Encryption implements store.Rotator.
func (s *Store) Encryption(ctx context.Context) (store.Encryption, error) {
	var state store.Encryption
	err := s.reading(ctx, "read the state of the encryption", func(ctx context.Context, c *conn) error {
		state = store.Encryption{}
		e, err := readEncryption(ctx, c)
		if err != nil || e == nil {
			return err
		}
		state.Enabled, state.Master, state.Rotation = true, string(e.master), e.rotation
		if err := c.scan(ctx, sqlCountKeys, args{string(e.master)}, &state.Keys, &state.OtherMasters); err != nil {
			return err
		}
		a, err := readAuditState(ctx, c)
		if err == nil && a.holder == sealing.HeldByEncryption {
			state.Keys++
			if a.master != e.master {
				state.OtherMasters++
			}
		}
		return err
	})
	return state, err
}

// enabled reads the state of a sealed database, which the masters must open.
func (tx *writeTx) enabled() (*encryption, error) {
	e, err := readEncryption(tx.ctx, tx.conn)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, fmt.Errorf("%w: the database is in clear: turn it on with `portcullis rotate encryption --enable`", store.ErrEncryption)
	}
	return e, e.unlockedBy(tx.store.cfg.Masters)
}

// rotating is enabled, with a rotation under way.
func (tx *writeTx) rotating() (*encryption, error) {
	e, err := tx.enabled()
	if err == nil && e.rotation == 0 {
		err = errNoRotation
	}
	return e, err
}

var errNoRotation = fmt.Errorf("%w: no rotation is under way: begin one with `portcullis rotate encryption`", store.ErrEncryption)

// Rewrap implements store.Rotator.
func (s *Store) Rewrap(ctx context.Context, by store.Actor) (int64, store.Result, error) {
	var n int64
	result, err := s.write(ctx, "rewrap the encryption keys", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.enabled()
		if err != nil {
			return nil, err
		}
		if n, err = tx.rewrapKeys(); err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Action:   store.ActionRewrapKeys,
			Resource: store.EncryptionResource,
			Details:  map[string]any{"keys": n},
		}
		if first := s.cfg.Masters.First(); e.master != first {
			check, master, err := s.cfg.Masters.Check()
			if err != nil {
				return nil, err
			}
			if _, err := tx.exec(tx.ctx, sqlRewrapCheck, check, string(master)); err != nil {
				return nil, err
			}
			w.Outcome = store.OutcomeDone
		}
		moved, err := tx.rewrapChainMaster()
		if err != nil {
			return nil, err
		}
		if n > 0 || moved {
			w.Outcome = store.OutcomeDone
		}
		return w, nil
	})
	if err != nil {
		return 0, store.Result{}, err
	}
	return n, result, nil
}

// rewrapChainMaster wraps the secret of the audit's chain under the first master,
// where a master wraps it.
func (tx *writeTx) rewrapChainMaster() (bool, error) {
	a, err := readAuditState(tx.ctx, tx.conn)
	if err != nil || a.holder != sealing.HeldByEncryption || a.master == tx.store.cfg.Masters.First() {
		return false, err
	}
	secret, err := tx.store.chainKeys().OpenChain(a.holder, a.master, a.wrapped)
	if err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	first := tx.store.cfg.Masters.First()
	wrapped, err := tx.store.cfg.Masters.WrapSecret(sealing.ChainSecret, secret, first)
	if err != nil {
		return false, err
	}
	_, err = tx.exec(tx.ctx, sqlWrapChain, wrapped, a.holder, string(first))
	return true, err
}

func (tx *writeTx) rewrapKeys() (int64, error) {
	masters := tx.store.cfg.Masters
	var others []sealing.Wrapped
	err := tx.each(tx.ctx, sqlKeysUnderOthers, args{string(masters.First())}, func(rows *sql.Rows) error {
		var w sealing.Wrapped
		err := rows.Scan(&w.ID, &w.Tenant, &w.Wrapped, &w.Master)
		others = append(others, w)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, w := range others {
		key, err := masters.Unwrap(w.Tenant, w.ID, w.Wrapped, w.Master)
		if err != nil {
			return 0, tx.store.told(tx.ctx, err)
		}
		wrapped, master, err := masters.Wrap(key)
		if err != nil {
			return 0, err
		}
		if _, err := tx.exec(tx.ctx, sqlRewrapKey, wrapped, string(master), w.ID); err != nil {
			return 0, err
		}
	}
	return int64(len(others)), nil
}

// rotationStep is the trail of one step.
func rotationStep(kind store.RotationKind, step, resource string, outcome store.Outcome) *store.Written {
	return &store.Written{
		Outcome:  outcome,
		Action:   store.ActionRotateEncryption,
		Resource: resource,
		Details:  map[string]any{"kind": kind.String(), "step": step},
	}
}

// BeginRotation implements store.Rotator.
func (s *Store) BeginRotation(ctx context.Context, by store.Actor, kind store.RotationKind) (store.Result, error) {
	return s.write(ctx, "begin a rotation", by, func(tx *writeTx) (*store.Written, error) {
		if kind.String() == "" {
			return nil, fmt.Errorf("%w: kind: %d is no kind of rotation: use deep, enable or disable", store.ErrEncryption, kind)
		}
		w := rotationStep(kind, "begin", store.EncryptionResource, store.OutcomeDone)
		e, err := readEncryption(tx.ctx, tx.conn)
		if err != nil {
			return nil, err
		}
		if e == nil && kind == store.RotateEnable {
			check, master, err := s.cfg.Masters.Check()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", store.ErrEncryption, err)
			}
			_, err = tx.exec(tx.ctx, sqlInsertEncryption, check, string(master), int64(kind))
			return w, err
		}
		if e, err = tx.enabled(); err != nil {
			return nil, err
		}
		switch {
		case e.rotation == kind:
			w.Outcome = store.OutcomeUnchanged
			return w, nil
		case e.rotation != 0:
			return nil, fmt.Errorf("%w: a rotation (%s) is under way: finish it first", store.ErrEncryption, e.rotation)
		case kind == store.RotateEnable:
			return nil, fmt.Errorf("%w: it is on already", store.ErrEncryption)
		}
		_, err = tx.exec(tx.ctx, sqlSetRotation, int64(kind))
		return w, err
	})
}

// RotationTenants implements store.Rotator.
func (s *Store) RotationTenants(ctx context.Context, limit int) ([]store.TenantID, error) {
	if limit < 1 {
		return nil, fmt.Errorf("list the tenants to rotate: limit: %d is below 1", limit)
	}
	var list []store.TenantID
	err := s.reading(ctx, "list the tenants to rotate", func(ctx context.Context, c *conn) error {
		e, err := readEncryption(ctx, c)
		switch {
		case err != nil:
			return err
		case e == nil || e.rotation == 0:
			return errNoRotation
		}
		list, err = rotationTenants(ctx, c, e, limit)
		return err
	})
	return list, err
}

func rotationTenants(ctx context.Context, c *conn, e *encryption, limit int) ([]store.TenantID, error) {
	query := sqlTenantsToDeepen
	switch e.rotation {
	case store.RotateEnable:
		query = sqlTenantsToSeal
	case store.RotateDisable:
		query = sqlTenantsToUnseal
	}
	var list []store.TenantID
	err := c.each(ctx, query, args{e.before, limit}, func(rows *sql.Rows) error {
		var id store.TenantID
		err := rows.Scan(&id)
		list = append(list, id)
		return err
	})
	return list, err
}

// isLeft says whether the rotation has still to begin the tenant.
func (e *encryption) isLeft(p sealing.Pair) bool {
	switch {
	case p.Rotating:
		return false
	case e.rotation == store.RotateEnable:
		return p.Current == 0
	case e.rotation == store.RotateDisable:
		return p.Current != 0
	}
	return p.Current != 0 && p.Current <= e.before
}

// BeginTenant implements store.Rotator.
func (s *Store) BeginTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.write(ctx, "begin to rotate a tenant", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.rotating()
		if err != nil {
			return nil, err
		}
		if tenant != 0 {
			if _, err := tenantByID(tx.ctx, tx.conn, tenant); err != nil {
				return nil, err
			}
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		w := rotationStep(e.rotation, "begin", store.TenantEncryptionResource(tenant), store.OutcomeUnchanged)
		if !e.isLeft(keys.Pair) {
			return w, nil
		}
		var next *sealing.Key
		if e.rotation != store.RotateDisable {
			if next, err = tx.newKey(e, tenant); err != nil {
				return nil, err
			}
		}
		if err := tx.setKeys(tenant, next, keys.Current, true); err != nil {
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

// FinishTenant implements store.Rotator. A tenant that is finished already is
// OutcomeUnchanged.
func (s *Store) FinishTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.write(ctx, "finish rotating a tenant", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.rotating()
		if err != nil {
			return nil, err
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		w := rotationStep(e.rotation, "finish", store.TenantEncryptionResource(tenant), store.OutcomeUnchanged)
		if !keys.Pair.Rotating {
			if e.isLeft(keys.Pair) {
				return nil, fmt.Errorf("%w: tenant %d was not begun", store.ErrEncryption, tenant)
			}
			return w, nil
		}
		for t := range store.NumSealTables {
			var left bool
			if err := tx.scan(tx.ctx, sealTables[t].left, args{int64(tenant), keys.Pair.Current}, &left); err != nil {
				return nil, err
			}
			if left {
				return nil, fmt.Errorf("%w: a row of %s of tenant %d is not under the new key: reseal its rows first", store.ErrEncryption, t, tenant)
			}
		}
		if err := tx.setKeys(tenant, keys.Current, nil, false); err != nil {
			return nil, err
		}
		if keys.Current == nil {
			if _, err := tx.exec(tx.ctx, sqlDropTenantKeys, int64(tenant)); err != nil {
				return nil, err
			}
		}
		if _, err := tx.exec(tx.ctx, sqlDropKey, keys.Pair.Former); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		if tenant != 0 {
			w.Changes.Tenant(tenant)
		}
		return w, nil
	})
}

// FinishRotation implements store.Rotator. Before it records the end, it takes out
// of the file what the rotation replaced (scrub), but for one into clear, which
// has nothing to hide. Where that fails the rotation stays under way, and the next
// FinishRotation tries again.
func (s *Store) FinishRotation(ctx context.Context, by store.Actor) (store.Result, error) {
	state, err := s.Encryption(ctx)
	if err != nil {
		return store.Result{}, err
	}
	if state.Rotation == store.RotateDeep || state.Rotation == store.RotateEnable {
		left, err := s.RotationTenants(ctx, 1)
		if err != nil {
			return store.Result{}, err
		}
		if len(left) == 0 {
			if err := s.scrub(ctx); err != nil {
				return store.Result{}, err
			}
		}
	}
	return s.write(ctx, "finish a rotation", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.rotating()
		if err != nil {
			return nil, err
		}
		left, err := rotationTenants(tx.ctx, tx.conn, e, 1)
		if err != nil {
			return nil, err
		}
		if len(left) > 0 {
			return nil, fmt.Errorf("%w: tenant %d is not finished", store.ErrEncryption, left[0])
		}
		if e.rotation != store.RotateDisable {
			_, err = tx.exec(tx.ctx, sqlEndRotation)
		} else if _, err = tx.exec(tx.ctx, sqlDropKeys); err == nil {
			_, err = tx.exec(tx.ctx, sqlDropEncryption)
		}
		return rotationStep(e.rotation, "finish", store.EncryptionResource, store.OutcomeDone), err
	})
}
