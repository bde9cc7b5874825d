package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
)

// auditMonths is how many months have a partition of their own: this one and
// the three to come.
const auditMonths = 4

const (
	sqlInsertAudit = `
INSERT INTO portcullis.audit (at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`

	sqlAudit = `
SELECT id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision
FROM portcullis.audit WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3`

	sqlCountAudit = `SELECT count(*) FROM portcullis.audit WHERE tenant_id = $1`

	sqlAuditOfAction = `
SELECT id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision
FROM portcullis.audit WHERE tenant_id = $1 AND upper(action) = upper($4) ORDER BY id DESC LIMIT $2 OFFSET $3`

	sqlCountAuditOfAction = `SELECT count(*) FROM portcullis.audit WHERE tenant_id = $1 AND upper(action) = upper($2)`

	sqlEnsurePartitions = `SELECT portcullis.ensure_audit_partitions($1::date, $2::integer)`
)

func auditArgs(e *store.AuditEntry) []any {
	return []any{
		e.Time.UTC(), int64(e.Tenant), asText(e.Actor), asText(e.User), asText(string(e.Action)), asText(e.Resource),
		asText(e.Before), asText(e.After), asText(e.Details), asText(e.Outcome), e.Success,
		asText(e.Address), asText(e.UserAgent), asText(e.RequestID), e.Revision,
	}
}

// RecordAudit implements store.Store. An entry without a time gets the store's;
// its ID is the store's to give.
func (s *Store) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	now := s.now()
	return s.try(ctx, "record audit", func(ctx context.Context) error {
		b := &pgx.Batch{}
		b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
		for i := range entries {
			e := entries[i]
			if e.Time.IsZero() {
				e.Time = now
			}
			b.Queue(sqlInsertAudit, auditArgs(&e)...)
		}
		tx, err := s.sendTx(ctx, b)
		if err != nil {
			return err
		}
		if err := tx.Commit(ctx); err != nil {
			// Whether the rows are there is not known, and twice is a false record.
			return final{err}
		}
		return nil
	})
}

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
		entries = nil
		return s.snapshot(ctx, func(b *pgx.Batch) {
			if q.Action == "" {
				b.Queue(sqlCountAudit, int64(q.Tenant))
				b.Queue(sqlAudit, int64(q.Tenant), q.Limit, q.Offset)
			} else {
				b.Queue(sqlCountAuditOfAction, int64(q.Tenant), string(q.Action))
				b.Queue(sqlAuditOfAction, int64(q.Tenant), q.Limit, q.Offset, string(q.Action))
			}
		}, func(r pgx.BatchResults) error {
			if err := r.QueryRow().Scan(&total); err != nil {
				return err
			}
			rows, err := r.Query()
			return each(rows, err, func(scan func(...any) error) error {
				e, err := scanAudit(scan)
				entries = append(entries, e)
				return err
			})
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, total, nil
}

func scanAudit(scan func(...any) error) (store.AuditEntry, error) {
	var e store.AuditEntry
	err := scan(&e.ID, &e.Time, &e.Tenant, &e.Actor, &e.User, &e.Action, &e.Resource, &e.Before, &e.After, &e.Details,
		&e.Outcome, &e.Success, &e.Address, &e.UserAgent, &e.RequestID, &e.Revision)
	e.Time = e.Time.UTC()
	return e, err
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
