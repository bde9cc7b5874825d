package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// auditMonths is how many months have a partition of their own: this one and
// the three to come.
const auditMonths = 4

const (
	sqlInsertAudit = `
INSERT INTO portcullis.audit (id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision, key_id, user_index, sealed, chain_number, commitment, chain_link)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`

	// Rows that belong to no write are not under the revision's lock: this one keeps
	// keys from changing until they are committed. Changing keys takes it alone.
	sqlHoldKeys   = `SELECT pg_advisory_xact_lock_shared(hashtextextended('portcullis.audit_keys', 0))`
	sqlChangeKeys = `SELECT pg_advisory_xact_lock(hashtextextended('portcullis.audit_keys', 0))`

	sqlPairs = `
SELECT t.id, e.key_id, e.former_key_id
FROM unnest($1::bigint[]) AS t (id) LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = t.id`

	sqlAuditIDs = `SELECT nextval('portcullis.audit_ids') FROM generate_series(1, $1::integer)`

	sqlEnsurePartitions = `SELECT portcullis.ensure_audit_partitions($1::date, $2::integer)`
)

// keptAudit is the entry as the database will give it back.
func keptAudit(e *store.AuditEntry) store.AuditEntry {
	row := *e
	row.Time = row.Time.UTC().Truncate(time.Microsecond)
	for _, text := range auditTexts(&row) {
		*text = asText(*text)
	}
	return row
}

// auditArgs are the columns of a keptAudit, which has its id, under the tenant's
// current key.
func auditArgs(row store.AuditEntry, to store.ChainLink, key *sealing.Key) ([]any, error) {
	var sealed *string
	var index []byte
	if key != nil {
		if row.User != "" {
			subject := key.SubjectIndex(row.User)
			index = subject[:]
		}
		text, err := key.Seal(sealing.AuditHidden(row.ID, int64(row.Tenant)), row.Hide())
		if err != nil {
			return nil, err
		}
		sealed = &text
	}
	var commitment, link []byte
	if to.Number != 0 {
		commitment, link = to.Commitment[:], to.Link[:]
	}
	return []any{
		row.ID, row.Time, int64(row.Tenant), row.Actor, row.User, string(row.Action), row.Resource,
		row.Before, row.After, row.Details, row.Outcome, row.Success,
		row.Address, row.UserAgent, row.RequestID, row.Revision, key.KeyID(), index, sealed,
		to.Number, commitment, link,
	}, nil
}

// auditTexts are the texts of an entry.
func auditTexts(e *store.AuditEntry) []*string {
	return []*string{
		&e.Actor, &e.User, (*string)(&e.Action), &e.Resource, &e.Before, &e.After, &e.Details,
		&e.Outcome, &e.Address, &e.UserAgent, &e.RequestID,
	}
}

// RecordAudit implements store.Store. An entry without a time gets the store's;
// its ID is the store's to give. The rows are written under the keys that were last
// heard of, which are compared before the commit, and at the end of their tenants' chains.
func (s *Store) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	now := s.now().UTC().Truncate(time.Microsecond)
	return s.try(ctx, "record audit", func(ctx context.Context) error {
		var err error
		for range keyAttempts {
			var others map[store.TenantID]sealing.Pair
			if others, err = s.record(ctx, entries, now); len(others) == 0 {
				return err
			}
			for tenant, pair := range others {
				s.ring.Learn(int64(tenant), pair)
			}
		}
		return err
	})
}

// record writes the entries, or writes none and returns the pairs of those tenants
// that are under others than was assumed.
func (s *Store) record(ctx context.Context, entries []store.AuditEntry, now time.Time) (others map[store.TenantID]sealing.Pair, err error) {
	assumed := make(map[store.TenantID]sealing.Keys)
	tenants := make([]store.TenantID, 0, 1)
	for i := range entries {
		tenant := entries[i].Tenant
		if _, done := assumed[tenant]; done {
			continue
		}
		pair := s.ring.Pair(int64(tenant))
		keys, err := s.keysOf(ctx, s.pool, tenant, pair)
		switch {
		case errors.Is(err, sealing.ErrKeyGone):
			var found pairScan
			if err := s.pool.QueryRow(ctx, sqlPair, int64(tenant)).Scan(&found.current, &found.former); err != nil {
				return nil, err
			}
			if found.pair() == pair {
				return nil, s.missingKey(ctx, s.pool, tenant, pair)
			}
			return map[store.TenantID]sealing.Pair{tenant: found.pair()}, err
		case err != nil:
			return nil, err
		}
		assumed[tenant] = keys
		tenants = append(tenants, tenant)
	}
	slices.Sort(tenants)
	var t trail
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	b.Queue(sqlHoldKeys)
	b.Queue(sqlPairs, numbers(tenants)).Query(func(rows pgx.Rows) error {
		return each(rows, nil, func(scan func(...any) error) error {
			var tenant store.TenantID
			var p pairScan
			if err := scan(&tenant, &p.current, &p.former); err != nil {
				return err
			}
			if p.under(assumed[tenant]) != nil {
				if others == nil {
					others = make(map[store.TenantID]sealing.Pair)
				}
				others[tenant] = p.pair()
			}
			return nil
		})
	})
	b.Queue(sqlMakeChains, numbers(tenants), make([]byte, chain.Size))
	t.queue(b, tenants)
	var ids []int64 // of rows behind all that the chains have by then
	b.Queue(sqlAuditIDs, len(entries)).Query(func(rows pgx.Rows) (err error) {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	tx, err := s.sendTx(ctx, b)
	if err != nil {
		return nil, err
	}
	defer rollback(ctx, tx)
	if len(others) > 0 {
		return others, errKeysChanging
	}
	if t.key, err = s.chainKey(t.state); err != nil || !t.state.enabled {
		return nil, err
	}
	b = &pgx.Batch{}
	for i := range entries {
		e := keptAudit(&entries[i])
		if entries[i].Time.IsZero() {
			e.Time = now
		}
		e.ID = ids[i]
		row, err := auditArgs(e, t.link(&e), assumed[e.Tenant].Current)
		if err != nil {
			return nil, err
		}
		b.Queue(sqlInsertAudit, row...)
	}
	t.queueMoves(b, tenants...)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		// Whether the rows are there is not known, and twice is a false record.
		return nil, final{err}
	}
	return nil, nil
}

// errKeysChanging ends a call whose tenant's keys changed each time that it started
// over.
var errKeysChanging = errors.New("the tenant's encryption keys change too fast: try again")

// EnsureAuditPartitions makes the audit's partitions for this month and the
// three to come, and returns how many were new. An admin process runs it daily;
// several may at once. Should none run for long, rows go to the default
// partition, and the next run moves them.
func (s *Store) EnsureAuditPartitions(ctx context.Context) (int, error) {
	var made int
	err := s.try(ctx, "make the audit's partitions", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, sqlEnsurePartitions, s.now().UTC(), auditMonths).Scan(&made)
	})
	return made, err
}
