package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlEncryptionKeys = `SELECT count(*), coalesce(sum(k.master <> e.master), 0) FROM encryption AS e LEFT JOIN encryption_keys AS k`

	sqlForeignKeys = `SELECT id, tenant_id, wrapped, master FROM encryption_keys WHERE master <> ?`

	sqlWrapAnew = `UPDATE encryption_keys SET wrapped = ?, master = ? WHERE id = ?`

	sqlInsertEncryption = `INSERT INTO encryption (only_row, key_check, master) VALUES (1, ?, ?)`

	sqlCheckAnew = `UPDATE encryption SET key_check = ?, master = ?`

	sqlBeginRotation = `UPDATE encryption SET rotation = ?, rotation_before = (SELECT coalesce(max(id), 0) FROM encryption_keys)`

	sqlEndRotation = `UPDATE encryption SET rotation = 0, rotation_before = 0`

	// What the rotation has not finished: ?1 is its kind, ?2 the highest key id when
	// it began, ?3 a limit.
	sqlUnfinished = `SELECT t.id FROM (SELECT 0 AS id UNION ALL SELECT id FROM tenants) AS t
		LEFT JOIN tenant_keys AS k ON k.tenant_id = t.id
		WHERE k.former_key_id IS NOT NULL
			OR (?1 = 1 AND k.key_id BETWEEN 1 AND ?2)
			OR (?1 = 2 AND coalesce(k.key_id, 0) = 0)
			OR (?1 = 3 AND k.key_id <> 0)
		ORDER BY t.id LIMIT ?3`

	sqlDropKey = `DELETE FROM encryption_keys WHERE id = ?`

	sqlDropTenantKeys = `DELETE FROM tenant_keys WHERE tenant_id = ?`

	sqlDropAllKeys = `DELETE FROM encryption_keys`

	sqlDropAllTenantKeys = `DELETE FROM tenant_keys`

	sqlDropEncryption = `DELETE FROM encryption`

	sqlEmptyWAL = `PRAGMA wal_checkpoint(TRUNCATE)`
)

// needEncryption reads the state of the encryption under a write.
func (tx *writeTx) needEncryption() (*encryption, error) {
	e, err := readEncryption(tx.ctx, tx.conn)
	if err == nil && e == nil {
		err = fmt.Errorf("%w: the database is in clear: `portcullis rotate encryption --enable` seals it", store.ErrEncryption)
	}
	return e, err
}

// needRotation is needEncryption while a rotation is under way.
func (tx *writeTx) needRotation() (*encryption, error) {
	e, err := tx.needEncryption()
	if err == nil && e.rotation == 0 {
		err = fmt.Errorf("%w: no rotation is under way: begin one", store.ErrEncryption)
	}
	return e, err
}

// rotationStep is what a step of a rotation leaves in the log and the trail.
func rotationStep(kind store.RotationKind, step, resource string) *store.Written {
	return &store.Written{
		Outcome:  store.OutcomeDone,
		Action:   store.ActionRotateEncryption,
		Resource: resource,
		Details:  map[string]any{"kind": kind.String(), "step": step},
	}
}

// Encryption implements store.Rotator.
func (s *Store) Encryption(ctx context.Context) (store.Encryption, error) {
	var state store.Encryption
	err := s.reading(ctx, "read the state of the encryption", func(ctx context.Context, c *conn) error {
		state = store.Encryption{}
		e, err := readEncryption(ctx, c)
		if err != nil || e == nil {
			return err
		}
		state = store.Encryption{Enabled: true, Master: string(e.master), Rotation: e.rotation}
		return c.scan(ctx, sqlEncryptionKeys, nil, &state.Keys, &state.OtherMasters)
	})
	return state, err
}

// Rewrap implements store.Rotator.
func (s *Store) Rewrap(ctx context.Context, by store.Actor) (int64, store.Result, error) {
	var wrapped int64
	result, err := s.write(ctx, "wrap the encryption keys", by, func(tx *writeTx) (*store.Written, error) {
		wrapped = 0
		e, err := tx.needEncryption()
		if err != nil {
			return nil, err
		}
		masters := s.cfg.Masters
		if err := e.unlockedBy(masters); err != nil {
			return nil, err
		}
		var others []sealing.Wrapped
		err = tx.each(tx.ctx, sqlForeignKeys, args{string(masters.First())}, func(rows *sql.Rows) error {
			var w sealing.Wrapped
			err := rows.Scan(&w.ID, &w.Tenant, &w.Wrapped, &w.Master)
			others = append(others, w)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(others) == 0 && e.master == masters.First() {
			return nil, errNoWrite
		}
		for _, w := range others {
			key, err := masters.Unwrap(w.Tenant, w.ID, w.Wrapped, w.Master)
			if err != nil {
				return nil, s.told(tx.ctx, err)
			}
			text, under, err := masters.Wrap(key)
			if err != nil {
				return nil, err
			}
			if _, err := tx.exec(tx.ctx, sqlWrapAnew, text, string(under), w.ID); err != nil {
				return nil, err
			}
			wrapped++
		}
		check, under, err := masters.Check()
		if err != nil {
			return nil, err
		}
		if _, err := tx.exec(tx.ctx, sqlCheckAnew, check, string(under)); err != nil {
			return nil, err
		}
		return &store.Written{
			Outcome:  store.OutcomeDone,
			Action:   store.ActionRewrapKeys,
			Resource: store.EncryptionResource,
			Details:  map[string]any{"keys": wrapped, "former": string(e.master), "master": string(under)},
		}, nil
	})
	if err != nil {
		return 0, store.Result{}, err
	}
	return wrapped, result, nil
}

// BeginRotation implements store.Rotator.
func (s *Store) BeginRotation(ctx context.Context, by store.Actor, kind store.RotationKind) (store.Result, error) {
	return s.write(ctx, "begin a rotation", by, func(tx *writeTx) (*store.Written, error) {
		if kind.String() == "" {
			return nil, fmt.Errorf("%w: %d is no kind of rotation", store.ErrEncryption, kind)
		}
		e, err := readEncryption(tx.ctx, tx.conn)
		switch {
		case err != nil:
			return nil, err
		case e == nil && kind == store.RotateEnable:
			check, master, err := s.cfg.Masters.Check()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", store.ErrEncryption, err)
			}
			if _, err := tx.exec(tx.ctx, sqlInsertEncryption, check, string(master)); err != nil {
				return nil, err
			}
		case e == nil:
			_, err := tx.needEncryption()
			return nil, err
		case e.rotation == kind:
			return nil, errNoWrite
		case e.rotation != 0:
			return nil, fmt.Errorf("%w: a rotation is under way that was not finished: `portcullis rotate encryption --%s` resumes it", store.ErrEncryption, e.rotation)
		case kind == store.RotateEnable:
			return nil, fmt.Errorf("%w: the database is sealed already", store.ErrEncryption)
		default:
			if err := e.unlockedBy(s.cfg.Masters); err != nil {
				return nil, err
			}
		}
		if _, err := tx.exec(tx.ctx, sqlBeginRotation, int64(kind)); err != nil {
			return nil, err
		}
		return rotationStep(kind, "begin", store.EncryptionResource), nil
	})
}

// RotationTenants implements store.Rotator.
func (s *Store) RotationTenants(ctx context.Context, limit int) ([]store.TenantID, error) {
	var list []store.TenantID
	err := s.reading(ctx, "list the tenants of a rotation", func(ctx context.Context, c *conn) error {
		list = nil
		e, err := readEncryption(ctx, c)
		if err != nil || e == nil || e.rotation == 0 {
			return err
		}
		list, err = unfinished(ctx, c, e, limit)
		return err
	})
	return list, err
}

func unfinished(ctx context.Context, c *conn, e *encryption, limit int) ([]store.TenantID, error) {
	var list []store.TenantID
	err := c.each(ctx, sqlUnfinished, args{int64(e.rotation), e.before, limit}, func(rows *sql.Rows) error {
		var id store.TenantID
		err := rows.Scan(&id)
		list = append(list, id)
		return err
	})
	return list, err
}

// begun reports whether the rotation has given the tenant of these keys what it
// gives.
func (e *encryption) begun(keys sealing.Keys) bool {
	current := keys.Pair.Current
	switch e.rotation {
	case store.RotateDeep:
		// A tenant in clear is none of its business.
		return keys.Pair.Rotating || current == 0 || current > e.before
	case store.RotateEnable:
		return current != 0
	}
	return current == 0
}

// BeginTenant implements store.Rotator.
func (s *Store) BeginTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.write(ctx, "begin a tenant's rotation", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.needRotation()
		if err != nil {
			return nil, err
		}
		if err := tx.needTenant(tenant); err != nil {
			return nil, err
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		if e.begun(keys) {
			return nil, errNoWrite
		}
		var key *sealing.Key
		if e.rotation != store.RotateDisable {
			if key, err = tx.newKey(e, tenant); err != nil {
				return nil, err
			}
		}
		if err := tx.setKeys(tenant, key, keys.Current, true); err != nil {
			return nil, err
		}
		w := rotationStep(e.rotation, "begin tenant", store.TenantEncryptionResource(tenant))
		if tenant != 0 {
			w.Changes.Tenant(tenant)
			w.Changes.TenantGrants(tenant)
		}
		return w, nil
	})
}

// needTenant is store.ErrNotFound unless the tenant is there; 0 always is.
func (tx *writeTx) needTenant(tenant store.TenantID) error {
	if tenant == 0 {
		return nil
	}
	_, err := tenantByID(tx.ctx, tx.conn, tenant)
	return err
}

// FinishTenant implements store.Rotator.
func (s *Store) FinishTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.write(ctx, "finish a tenant's rotation", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.needRotation()
		if err != nil {
			return nil, err
		}
		if err := tx.needTenant(tenant); err != nil {
			return nil, err
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		if !keys.Pair.Rotating {
			if !e.begun(keys) {
				return nil, fmt.Errorf("%w: the rotation of tenant %d was not begun", store.ErrEncryption, tenant)
			}
			return nil, errNoWrite
		}
		if err := tx.mustBeResealed(tenant, keys.Pair.Current); err != nil {
			return nil, err
		}
		if _, err := tx.exec(tx.ctx, sqlDropKey, keys.Pair.Former); err != nil {
			return nil, err
		}
		if keys.Current == nil {
			_, err = tx.exec(tx.ctx, sqlDropTenantKeys, int64(tenant))
			tx.hold(tenant, sealing.Keys{})
		} else {
			err = tx.setKeys(tenant, keys.Current, nil, false)
		}
		if err != nil {
			return nil, err
		}
		w := rotationStep(e.rotation, "finish tenant", store.TenantEncryptionResource(tenant))
		if tenant != 0 {
			w.Changes.Tenant(tenant)
		}
		return w, nil
	})
}

// FinishRotation implements store.Rotator. It empties the WAL as well, which still
// holds pages as they were; pages of the file itself are overwritten as rows change
// (secure_delete).
func (s *Store) FinishRotation(ctx context.Context, by store.Actor) (store.Result, error) {
	result, err := s.write(ctx, "finish the rotation", by, func(tx *writeTx) (*store.Written, error) {
		e, err := tx.needRotation()
		if err != nil {
			return nil, err
		}
		left, err := unfinished(tx.ctx, tx.conn, e, 1)
		if err != nil {
			return nil, err
		}
		if len(left) > 0 {
			return nil, fmt.Errorf("%w: the rotation of tenant %d is not finished", store.ErrEncryption, left[0])
		}
		end := []string{sqlEndRotation}
		if e.rotation == store.RotateDisable {
			end = []string{sqlDropAllTenantKeys, sqlDropAllKeys, sqlDropEncryption}
		}
		for _, statement := range end {
			if _, err := tx.exec(tx.ctx, statement); err != nil {
				return nil, err
			}
		}
		return rotationStep(e.rotation, "finish", store.EncryptionResource), nil
	})
	if err == nil {
		s.emptyWAL(ctx)
	}
	return result, err
}

// emptyWAL tries for some seconds to write the whole WAL into the file and cut it to
// nothing, which waits for all readers to look away at once.
func (s *Store) emptyWAL(ctx context.Context) {
	var blocked int
	var err error
	for range 100 {
		err = s.calling(ctx, func(ctx context.Context) error {
			return s.writer.with(ctx, func(c *conn) error {
				var log, done int
				return c.scan(ctx, sqlEmptyWAL, nil, &blocked, &log, &done)
			})
		})
		if err == nil && blocked == 0 || ctx.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil || blocked != 0 {
		s.cfg.Logger.Warn("the WAL could not be emptied and may hold rows as they were before the rotation: it is overwritten as the store goes on", "error", err)
	}
}
