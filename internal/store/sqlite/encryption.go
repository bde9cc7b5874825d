package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlEncryption = `SELECT key_check, master, rotation, rotation_before FROM encryption`

	sqlKeyMasters = `SELECT DISTINCT master FROM encryption_keys ORDER BY master`

	sqlInsertEncryptionKey = `INSERT INTO encryption_keys (id, tenant_id, wrapped, master, created_at) VALUES (?, ?, ?, ?, ?)`

	sqlPutTenantKeys = `INSERT INTO tenant_keys (tenant_id, key_id, former_key_id) VALUES (?, ?, ?)
		ON CONFLICT (tenant_id) DO UPDATE SET key_id = excluded.key_id, former_key_id = excluded.former_key_id`
)

// encryption is the row that says how the database is sealed.
type encryption struct {
	check    string
	master   sealing.MasterID
	rotation store.RotationKind // 0: none is under way
	before   int64              // the highest key id when a deep rotation began
}

// readEncryption reads the row; nil where nothing is sealed.
func readEncryption(ctx context.Context, c *conn) (*encryption, error) {
	var e encryption
	err := c.scan(ctx, sqlEncryption, nil, &e.check, &e.master, &e.rotation, &e.before)
	switch {
	case absent(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the state of the encryption: %w", err)
	}
	return &e, nil
}

// unlockedBy is store.ErrEncryption unless the masters open the database.
func (e *encryption) unlockedBy(m *sealing.Masters) error {
	if err := m.Verify(e.check, e.master); err != nil {
		return fmt.Errorf("%w: %w", store.ErrEncryption, err)
	}
	return nil
}

// checkMasters stops an opening whose masters do not open the database, all of its
// keys included.
func (s *Store) checkMasters(ctx context.Context) error {
	return s.retryBusy(ctx, func() error {
		return s.reader.with(ctx, func(c *conn) error {
			e, err := readEncryption(ctx, c)
			if err != nil || e == nil {
				return err
			}
			if err := e.unlockedBy(s.cfg.Masters); err != nil {
				return err
			}
			return c.each(ctx, sqlKeyMasters, nil, func(rows *sql.Rows) error {
				var id sealing.MasterID
				if err := rows.Scan(&id); err != nil {
					return err
				}
				if !s.cfg.Masters.Holds(id) {
					return fmt.Errorf("%w: some tenants' keys are wrapped under the master key %s, which AUTH_ENCRYPTION_KEY does not hold: list it too", store.ErrEncryption, id)
				}
				return nil
			})
		})
	})
}

// keys gives the keys of a tenant, as they are under this write.
func (tx *writeTx) keys(tenant store.TenantID) (sealing.Keys, error) {
	if held, ok := tx.held[tenant]; ok {
		return held, nil
	}
	keys, err := tx.store.readKeys(tx.ctx, tx.conn, tenant)
	if err == nil {
		tx.hold(tenant, keys)
	}
	return keys, err
}

func (tx *writeTx) hold(tenant store.TenantID, keys sealing.Keys) {
	if tx.held == nil {
		tx.held = make(map[store.TenantID]sealing.Keys, 1)
	}
	tx.held[tenant] = keys
}

// newKey makes a key for the tenant and writes it down, wrapped. It is not kept in
// the ring: this write may yet be undone, and its id given to another key.
func (tx *writeTx) newKey(e *encryption, tenant store.TenantID) (*sealing.Key, error) {
	masters := tx.store.cfg.Masters
	if err := e.unlockedBy(masters); err != nil {
		return nil, err
	}
	var id int64
	if err := tx.scan(tx.ctx, sqlNextKey, nil, &id); err != nil {
		return nil, err
	}
	key := sealing.NewKey(int64(tenant), sealing.FreshID(id, tx.now))
	wrapped, err := masters.WrapUnder(key, e.master)
	if err != nil {
		return nil, fmt.Errorf("wrap the key of tenant %d: %w", tenant, err)
	}
	_, err = tx.exec(tx.ctx, sqlInsertEncryptionKey, key.ID, int64(tenant), wrapped, string(e.master), tx.now.UnixNano())
	return key, err
}

// setKeys gives the tenant its keys, for what follows of this write too.
func (tx *writeTx) setKeys(tenant store.TenantID, current, former *sealing.Key, rotating bool) error {
	pair := sealing.Pair{Current: current.KeyID(), Former: former.KeyID(), Rotating: rotating}
	tx.hold(tenant, sealing.Keys{Pair: pair, Current: current, Former: former})
	_, err := tx.exec(tx.ctx, sqlPutTenantKeys, int64(tenant), pair.Current, sql.NullInt64{Int64: pair.Former, Valid: rotating})
	return err
}

// sealTenant gives a tenant that was just made its key, where the database is
// sealed and stays so.
func (tx *writeTx) sealTenant(t *store.Tenant) error {
	e, err := readEncryption(tx.ctx, tx.conn)
	if err != nil || e == nil || e.rotation == store.RotateDisable {
		return err
	}
	key, err := tx.newKey(e, t.ID)
	if err != nil {
		return err
	}
	t.Key = store.KeyID(key.ID)
	return tx.setKeys(t.ID, key, nil, false)
}
