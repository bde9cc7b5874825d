package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlUserKeysKnown = `SELECT digest FROM portcullis.user_keys WHERE digest = ANY ($1)`

	sqlUserKeyIDsKnown = `SELECT key_id FROM portcullis.user_keys WHERE key_id = ANY ($1)`

	sqlManyUserKeyIDs = `SELECT nextval('portcullis.user_key_ids') FROM generate_series(1, $1::integer)`

	// The batch's rows lie between $1 and $2.
	sqlAuditBetween = `SELECT ` + auditColumns + ` FROM portcullis.audit WHERE at BETWEEN $1 AND $2 AND tenant_id = ANY ($3)`
)

// userKeyTarget and auditTarget are the columns that rows are copied into.
func userKeyTarget() []string {
	return []string{"id", "key_id", "tenant_id", "principal_index", "user_id", "digest", "prefix", "label", "created_at", "expires_at", "revoked_at", "last_used_at", "seal_key_id"}
}

func auditTarget() []string {
	return []string{"id", "at", "tenant_id", "actor", "about", "action", "resource", "before", "after", "details", "outcome", "success",
		"address", "user_agent", "request_id", "revision", "key_id", "user_index", "sealed", "chain_number", "commitment", "chain_link"}
}

func (tx *writeTx) copyInto(table string, columns []string, rows [][]any) error {
	_, err := tx.CopyFrom(tx.ctx, pgx.Identifier{"portcullis", table}, columns, pgx.CopyFromRows(rows))
	return err
}

// newUserKeys takes over users' API keys with their history. How many a user may
// have is not looked at: they are there.
func (im *importing) newUserKeys(list []store.ImportUserKey) error {
	if len(list) == 0 {
		return nil
	}
	digests := make([][]byte, len(list))
	var named []string
	for i := range list {
		digests[i] = list[i].Digest[:]
		if list[i].ID != "" && isText(list[i].ID) {
			named = append(named, list[i].ID)
		}
	}
	known, err := knownDigests(im.tx.Query(im.tx.ctx, sqlUserKeysKnown, digests))
	if err != nil {
		return err
	}
	taken := make(map[string]bool)
	ids, err := im.tx.names(sqlUserKeyIDsKnown, named)
	if err != nil {
		return err
	}
	for _, id := range ids {
		taken[id] = true
	}
	var fresh []*store.ImportUserKey
	for i := range list {
		k := &list[i]
		if known[k.Digest] {
			continue
		}
		known[k.Digest] = true
		if err := im.checkUserKey(k, taken); err != nil {
			return fmt.Errorf("API key %q of tenant %d: %w", k.Prefix, k.Tenant, err)
		}
		fresh = append(fresh, k)
	}
	if len(fresh) == 0 {
		return nil
	}
	rowIDs, err := im.tx.ids(sqlManyUserKeyIDs, len(fresh))
	if err != nil {
		return err
	}
	rows := make([][]any, len(fresh))
	for i, k := range fresh {
		if rows[i], err = im.userKeyRow(rowIDs[i], k); err != nil {
			return fmt.Errorf("API key %q of tenant %d: %w", k.Prefix, k.Tenant, err)
		}
	}
	im.counts.UserKeys = len(fresh)
	return im.tx.copyInto("user_keys", userKeyTarget(), rows)
}

func (im *importing) checkUserKey(k *store.ImportUserKey, taken map[string]bool) error {
	if _, err := im.keysOf(k.Tenant); err != nil {
		return err
	}
	err := errors.Join(mustBeText("id", k.ID), mustBeText("user", k.User), mustBeText("prefix", k.Prefix), mustBeText("label", k.Label))
	if err != nil || k.ID == "" {
		return err
	}
	if taken[k.ID] {
		return fmt.Errorf("id %q, of another secret: %w", k.ID, store.ErrExists)
	}
	taken[k.ID] = true
	return nil
}

// userKeyRow seals a key for userKeyTarget.
func (im *importing) userKeyRow(row int64, k *store.ImportUserKey) ([]any, error) {
	made, expires, err := k.Make(im.tx.now)
	if err != nil {
		return nil, err
	}
	if k.ID != "" {
		made.ID = k.ID
	}
	if !k.Created.IsZero() {
		made.Created = k.Created
	}
	made.Revoked = k.Revoked
	key := im.tenants[k.Tenant].Current
	scan := userKeyScan{key: made, row: &row}
	user, err := key.Seal(scan.userPlace(), made.User)
	if err != nil {
		return nil, err
	}
	label, err := key.Seal(scan.labelPlace(), made.Label)
	if err != nil {
		return nil, err
	}
	index := indexUnder(key, k.Tenant, policy.KindUser, k.User)
	im.w.Changes.Key(k.Tenant, k.Digest, !made.Active(im.tx.now))
	im.w.Changes.Grant(k.Tenant, index)
	return []any{row, made.ID, int64(k.Tenant), index[:], user, made.Digest[:], made.Prefix, label,
		made.Created.UnixNano(), orNull(expires), nanosOf(k.Revoked), nanosOf(k.LastUsed), key.KeyID()}, nil
}

// nanosOf is a time as a column holds it: NULL for the zero time.
func nanosOf(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.UnixNano()
	return &n
}

// audit takes over audit rows. They have no name of their own: a row that is there
// already in all that it says is left out, unless the batch has more such rows.
// Nothing is looked for before the source's first batch.
func (im *importing) audit(entries []store.AuditEntry, look bool) error {
	if len(entries) == 0 {
		return nil
	}
	for i := range entries {
		if entries[i].Time.IsZero() {
			return errors.New("time: is missing: a row keeps its own")
		}
		if _, err := im.keysOf(entries[i].Tenant); err != nil {
			return err
		}
	}
	there := make(map[store.AuditEntry]int)
	if look {
		if err := im.auditThere(entries, there); err != nil {
			return err
		}
	}
	var fresh []*store.AuditEntry
	for i := range entries {
		if same := importedAudit(entries[i]); there[same] > 0 {
			there[same]--
			continue
		}
		fresh = append(fresh, &entries[i])
	}
	if len(fresh) == 0 {
		return nil
	}
	return im.newAudit(fresh)
}

// newAudit puts rows at the end of their tenants' chains, and the write's own row
// behind them.
func (im *importing) newAudit(fresh []*store.AuditEntry) error {
	tx := im.tx
	var tenants []store.TenantID
	for _, e := range fresh {
		tenants = append(tenants, e.Tenant)
	}
	slices.Sort(tenants)
	tenants = slices.Compact(tenants)
	if err := tx.lockChains(tenants...); err != nil {
		return err
	}
	ids, err := tx.ids(sqlAuditIDs, len(fresh)+1)
	if err != nil {
		return err
	}
	tx.auditID = ids[len(fresh)]
	rows := make([][]any, len(fresh))
	for i, e := range fresh {
		row := keptAudit(e)
		row.ID = ids[i]
		if rows[i], err = auditArgs(row, tx.trail.link(&row), im.tenants[row.Tenant].Current); err != nil {
			return err
		}
	}
	im.counts.Audit = len(fresh)
	if err := tx.copyInto("audit", auditTarget(), rows); err != nil {
		return err
	}
	b := &pgx.Batch{}
	tx.trail.queueMoves(b, tenants...)
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(tx.ctx, b).Close()
}

// auditThere counts the rows of the batch's time that are there. One that does not
// open is like no other.
func (im *importing) auditThere(entries []store.AuditEntry, there map[store.AuditEntry]int) error {
	first, last := entries[0].Time, entries[0].Time
	named := make(map[store.TenantID]bool)
	var tenants []int64
	for i := range entries {
		e := &entries[i]
		if e.Time.Before(first) {
			first = e.Time
		}
		if e.Time.After(last) {
			last = e.Time
		}
		if !named[e.Tenant] {
			named[e.Tenant] = true
			tenants = append(tenants, int64(e.Tenant))
		}
	}
	rows, err := im.tx.Query(im.tx.ctx, sqlAuditBetween, first.UTC(), last.UTC(), tenants)
	return each(rows, err, func(scan func(...any) error) error {
		row, err := scanAudit(scan)
		if err != nil {
			return err
		}
		if err := im.tx.store.reveal(im.tenants[row.Tenant], &row); err != nil {
			if isUnreadable(err) {
				return nil
			}
			return err
		}
		there[importedAudit(row.AuditEntry)]++
		return nil
	})
}

// importedAudit is what an audit row says, as the database keeps it, without what
// the store gives it.
func importedAudit(e store.AuditEntry) store.AuditEntry {
	e = keptAudit(&e)
	e.ID, e.Revision = 0, 0
	return e
}
