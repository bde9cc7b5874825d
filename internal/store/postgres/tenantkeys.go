package postgres

import (
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlEncryption = `SELECT key_check, master, rotation, rotation_before FROM portcullis.encryption`

	// Above every key that is there: one write may make several at one moment.
	sqlKeyID = `SELECT greatest(nextval('portcullis.encryption_key_ids'), (SELECT coalesce(max(id), 0) + 1 FROM portcullis.encryption_keys))`

	sqlInsertWrapped = `INSERT INTO portcullis.encryption_keys (id, tenant_id, wrapped, master, created_at) VALUES ($1, $2, $3, $4, $5)`

	sqlPutPair = `
INSERT INTO portcullis.tenant_keys (tenant_id, key_id, former_key_id) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id) DO UPDATE SET key_id = excluded.key_id, former_key_id = excluded.former_key_id`
)

// encryption is the row of that name; enabled is false where there is none.
type encryption struct {
	enabled bool
	check   string
	master  sealing.MasterID
	kind    store.RotationKind
	before  int64
}

func (tx *writeTx) encryption() (encryption, error) {
	e := encryption{enabled: true}
	err := tx.scan(sqlEncryption, nil, &e.check, &e.master, &e.kind, &e.before)
	if isNoRows(err) {
		return encryption{}, nil
	}
	return e, err
}

// newKey makes a key of the tenant and stores it, wrapped under the master that the
// database is sealed under: every process that opens the one opens the other.
func (tx *writeTx) newKey(tenant store.TenantID, e encryption) (*sealing.Key, error) {
	if err := tx.store.ring.Masters().Verify(e.check, e.master); err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrEncryption, err)
	}
	var id int64
	if err := tx.scan(sqlKeyID, nil, &id); err != nil {
		return nil, err
	}
	key := sealing.NewKey(int64(tenant), sealing.FreshID(id, tx.now))
	wrapped, err := tx.store.ring.Masters().WrapUnder(key, e.master)
	if err != nil {
		return nil, err
	}
	if _, err := tx.exec(sqlInsertWrapped, key.ID, int64(tenant), wrapped, string(e.master), tx.now.UnixNano()); err != nil {
		return nil, err
	}
	tx.made[key.ID] = key
	return key, nil
}

// setPair puts the tenant under other keys, for what this write does from here on as
// well.
func (tx *writeTx) setPair(tenant store.TenantID, p sealing.Pair) error {
	var former *int64
	if p.Rotating {
		former = &p.Former
	}
	if _, err := tx.exec(sqlPutPair, int64(tenant), p.Current, former); err != nil {
		return err
	}
	tx.pairs[tenant] = p
	return nil
}

// keyForNew gives a new tenant its key, where the database is sealed and stays so.
func (tx *writeTx) keyForNew(tenant store.TenantID) (*sealing.Key, error) {
	e, err := tx.encryption()
	if err != nil || !e.enabled || e.kind == store.RotateDisable {
		return nil, err
	}
	key, err := tx.newKey(tenant, e)
	if err != nil {
		return nil, err
	}
	return key, tx.setPair(tenant, sealing.Pair{Current: key.ID})
}
