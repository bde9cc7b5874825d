package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// auditMonths is how many months have a partition of their own: this one and
// the three to come.
const auditMonths = 4

const (
	sqlInsertAudit = `
INSERT INTO portcullis.audit (id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision, key_id, user_index, sealed)
VALUES (coalesce($1, nextval('portcullis.audit_ids')), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`

	auditColumns = `id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision, key_id, coalesce(sealed, '')`

	sqlAudit = `
SELECT ` + auditColumns + `
FROM portcullis.audit WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3`

	sqlCountAudit = `SELECT count(*) FROM portcullis.audit WHERE tenant_id = $1`

	sqlAuditOfAction = `
SELECT ` + auditColumns + `
FROM portcullis.audit WHERE tenant_id = $1 AND upper(action) = upper($4) ORDER BY id DESC LIMIT $2 OFFSET $3`

	sqlCountAuditOfAction = `SELECT count(*) FROM portcullis.audit WHERE tenant_id = $1 AND upper(action) = upper($2)`

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

// auditArgs are the columns of an entry, under the tenant's current key. id is the
// row's; in clear it may be 0, for the database to choose.
func auditArgs(e *store.AuditEntry, id int64, key *sealing.Key) ([]any, error) {
	row := *e
	for _, text := range auditTexts(&row) {
		*text = asText(*text)
	}
	var sealed *string
	var index []byte
	if key != nil {
		hidden := row
		text, err := key.Seal(sealing.AuditHidden(id, int64(row.Tenant)), hidden.Hide())
		if err != nil {
			return nil, err
		}
		if row.User != "" {
			subject := key.SubjectIndex(row.User)
			index = subject[:]
		}
		row, sealed = hidden, &text
	}
	return []any{
		orNull(id), row.Time.UTC(), int64(row.Tenant), row.Actor, row.User, string(row.Action), row.Resource,
		row.Before, row.After, row.Details, row.Outcome, row.Success,
		row.Address, row.UserAgent, row.RequestID, row.Revision, key.KeyID(), index, sealed,
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
// heard of, which are compared before the commit.
func (s *Store) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	now := s.now()
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
	tenants := make([]int64, 0, 1)
	isSealed := false
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
		tenants = append(tenants, int64(tenant))
		isSealed = isSealed || keys.Current != nil
	}
	ids := make([]int64, len(entries))
	if isSealed { // a sealed value is bound to its row's id
		rows, err := s.pool.Query(ctx, sqlAuditIDs, len(entries))
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		if err != nil {
			return nil, err
		}
	}
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	b.Queue(sqlHoldKeys)
	b.Queue(sqlPairs, tenants).Query(func(rows pgx.Rows) error {
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
	for i := range entries {
		e := entries[i]
		if e.Time.IsZero() {
			e.Time = now
		}
		row, err := auditArgs(&e, ids[i], assumed[e.Tenant].Current)
		if err != nil {
			return nil, err
		}
		b.Queue(sqlInsertAudit, row...)
	}
	tx, err := s.sendTx(ctx, b)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		rollback(ctx, tx)
		return others, errKeysChanging
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

// Audit implements store.Store.
func (s *Store) Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, int, error) {
	if q.Limit < 1 || q.Limit > 500 {
		return nil, 0, fmt.Errorf("read audit: limit: %d is outside 1 to 500", q.Limit)
	}
	if q.Offset < 0 {
		return nil, 0, fmt.Errorf("read audit: offset: %d is below 0", q.Offset)
	}
	if !isText(string(q.Action)) {
		return nil, 0, nil
	}
	var entries []store.AuditEntry
	var total int
	err := s.try(ctx, "read audit", func(ctx context.Context) error {
		return s.withKeys(ctx, q.Tenant, func(keys sealing.Keys) (err error) {
			var rows []auditRow
			if rows, total, err = s.auditRows(ctx, q, keys); err != nil {
				return err
			}
			entries = nil
			for i := range rows {
				if err := s.reveal(keys, &rows[i]); err != nil {
					return err
				}
				entries = append(entries, rows[i].AuditEntry)
			}
			return nil
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, total, nil
}

// auditRow is an audit row as it lies in the database.
type auditRow struct {
	store.AuditEntry
	keyID  int64
	sealed string // what its key hides
}

func (s *Store) auditRows(ctx context.Context, q store.AuditQuery, keys sealing.Keys) (list []auditRow, total int, err error) {
	err = s.snapshot(ctx, func(b *pgx.Batch) {
		b.Queue(sqlPair, int64(q.Tenant))
		if q.Action == "" {
			b.Queue(sqlCountAudit, int64(q.Tenant))
			b.Queue(sqlAudit, int64(q.Tenant), q.Limit, q.Offset)
		} else {
			b.Queue(sqlCountAuditOfAction, int64(q.Tenant), string(q.Action))
			b.Queue(sqlAuditOfAction, int64(q.Tenant), q.Limit, q.Offset, string(q.Action))
		}
	}, func(r pgx.BatchResults) error {
		var p pairScan
		if err := r.QueryRow().Scan(&p.current, &p.former); err != nil {
			return err
		}
		if err := p.under(keys); err != nil {
			return err
		}
		if err := r.QueryRow().Scan(&total); err != nil {
			return err
		}
		rows, err := r.Query()
		return each(rows, err, func(scan func(...any) error) error {
			e, err := scanAudit(scan)
			list = append(list, e)
			return err
		})
	})
	return list, total, err
}

func scanAudit(scan func(...any) error) (auditRow, error) {
	var e auditRow
	err := scan(&e.ID, &e.Time, &e.Tenant, &e.Actor, &e.User, &e.Action, &e.Resource, &e.Before, &e.After, &e.Details,
		&e.Outcome, &e.Success, &e.Address, &e.UserAgent, &e.RequestID, &e.Revision, &e.keyID, &e.sealed)
	e.Time = e.Time.UTC()
	return e, err
}

// reveal puts back what the row hides.
func (s *Store) reveal(keys sealing.Keys, row *auditRow) error {
	if row.keyID == 0 && keys.Pair.Admits(0) {
		return nil
	}
	place := sealing.AuditHidden(row.ID, int64(row.Tenant))
	text, err := s.open(keys, row.keyID, row.sealed, func() sealing.Place { return place })
	if err != nil {
		return err
	}
	if err := row.Reveal(text); err != nil {
		return s.noted(&sealing.Error{Place: place, Key: row.keyID, Why: err.Error()})
	}
	return nil
}

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
