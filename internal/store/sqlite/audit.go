package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"portcullis/internal/store"
)

const (
	sqlInsertAudit = `INSERT INTO audit (time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlAudit = `SELECT id, time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision
		FROM audit WHERE tenant_id = ? ORDER BY id DESC LIMIT ? OFFSET ?`

	sqlCountAudit = `SELECT count(*) FROM audit WHERE tenant_id = ?`

	sqlAuditOfAction = `SELECT id, time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision
		FROM audit WHERE tenant_id = ? AND action = ? COLLATE NOCASE ORDER BY id DESC LIMIT ? OFFSET ?`

	sqlCountAuditOfAction = `SELECT count(*) FROM audit WHERE tenant_id = ? AND action = ? COLLATE NOCASE`
)

func insertAudit(ctx context.Context, c *conn, e *store.AuditEntry) error {
	_, err := c.exec(ctx, sqlInsertAudit, e.Time.UnixNano(), int64(e.Tenant), e.Actor, e.User, string(e.Action), e.Resource,
		e.Before, e.After, e.Details, e.Outcome, e.Success, e.Address, e.UserAgent, e.RequestID, e.Revision)
	return err
}

// RecordAudit implements store.Store. An entry without a time gets the store's;
// its ID is the store's to give.
func (s *Store) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		for _, e := range entries {
			if e.Time.IsZero() {
				e.Time = s.cfg.Now()
			}
			if err := insertAudit(ctx, c, &e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record audit: %w", err)
	}
	return nil
}

// Audit implements store.Store.
func (s *Store) Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, int, error) {
	if q.Limit < 1 || q.Limit > 500 {
		return nil, 0, fmt.Errorf("read audit: limit: %d is outside 1 to 500", q.Limit)
	}
	if q.Offset < 0 {
		return nil, 0, fmt.Errorf("read audit: offset: %d is below 0", q.Offset)
	}
	list, count, in := sqlAudit, sqlCountAudit, args{int64(q.Tenant)}
	if q.Action != "" {
		list, count, in = sqlAuditOfAction, sqlCountAuditOfAction, append(in, string(q.Action))
	}
	var entries []store.AuditEntry
	var total int
	err := s.reading(ctx, "read audit", func(ctx context.Context, c *conn) error {
		entries = nil
		if err := c.scan(ctx, count, in, &total); err != nil {
			return err
		}
		page := append(in[:len(in):len(in)], q.Limit, q.Offset)
		return c.each(ctx, list, page, func(rows *sql.Rows) error {
			e, err := scanAudit(rows)
			entries = append(entries, e)
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, total, nil
}

func scanAudit(rows *sql.Rows) (store.AuditEntry, error) {
	var e store.AuditEntry
	var at int64
	err := rows.Scan(&e.ID, &at, &e.Tenant, &e.Actor, &e.User, &e.Action, &e.Resource, &e.Before, &e.After, &e.Details,
		&e.Outcome, &e.Success, &e.Address, &e.UserAgent, &e.RequestID, &e.Revision)
	e.Time = store.FromNanos(at)
	return e, err
}
