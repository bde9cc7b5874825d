package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlInsertAudit = `INSERT INTO audit (time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision, id, key_id, user_index, sealed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlAudit = `SELECT id, time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision, key_id, coalesce(sealed, '')
		FROM audit WHERE tenant_id = ? ORDER BY id DESC LIMIT ? OFFSET ?`

	sqlCountAudit = `SELECT count(*) FROM audit WHERE tenant_id = ?`

	sqlAuditOfAction = `SELECT id, time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision, key_id, coalesce(sealed, '')
		FROM audit WHERE tenant_id = ? AND action = ? COLLATE NOCASE ORDER BY id DESC LIMIT ? OFFSET ?`

	sqlCountAuditOfAction = `SELECT count(*) FROM audit WHERE tenant_id = ? AND action = ? COLLATE NOCASE`
)

// hiddenAudit is what an audit row hides: NULL, both, in clear.
type hiddenAudit struct {
	index  []byte
	sealed sql.NullString
}

// hideAudit takes out of e what is sealed, for the row id.
func hideAudit(key *sealing.Key, id int64, e *store.AuditEntry) (hiddenAudit, error) {
	var h hiddenAudit
	if key == nil {
		return h, nil
	}
	if e.User != "" {
		fingerprint := key.SubjectIndex(e.User)
		h.index = fingerprint[:]
	}
	h.sealed.Valid = true
	var err error
	h.sealed.String, err = key.Seal(sealing.AuditHidden(id, int64(e.Tenant)), e.Hide())
	return h, err
}

// insertAudit writes a row under the key of its tenant, and takes out of e what is
// sealed.
func insertAudit(ctx context.Context, c *conn, key *sealing.Key, e *store.AuditEntry) error {
	id, err := newID(ctx, c, key, sqlNextAudit)
	if err != nil {
		return err
	}
	h, err := hideAudit(key, id.Int64, e)
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, sqlInsertAudit, e.Time.UnixNano(), int64(e.Tenant), e.Actor, e.User, string(e.Action), e.Resource,
		e.Before, e.After, e.Details, e.Outcome, e.Success, e.Address, e.UserAgent, e.RequestID, e.Revision,
		id, key.KeyID(), h.index, h.sealed)
	return err
}

// RecordAudit implements store.Store. An entry without a time gets the store's;
// its ID is the store's to give.
func (s *Store) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		held := make(map[store.TenantID]sealing.Keys)
		for _, e := range entries {
			keys, ok := held[e.Tenant]
			if !ok {
				var err error
				if keys, err = s.readKeys(ctx, c, e.Tenant); err != nil {
					return err
				}
				held[e.Tenant] = keys
			}
			if e.Time.IsZero() {
				e.Time = s.cfg.Now()
			}
			if err := insertAudit(ctx, c, keys.Current, &e); err != nil {
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
		keys, err := s.readKeys(ctx, c, q.Tenant)
		if err != nil {
			return err
		}
		page := append(in[:len(in):len(in)], q.Limit, q.Offset)
		return c.each(ctx, list, page, func(rows *sql.Rows) error {
			e, err := s.scanAudit(ctx, func(store.TenantID) sealing.Keys { return keys }, rows)
			entries = append(entries, e)
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, total, nil
}

func (s *Store) scanAudit(ctx context.Context, keysOf func(store.TenantID) sealing.Keys, rows *sql.Rows) (store.AuditEntry, error) {
	var e store.AuditEntry
	var at, under int64
	var sealed string
	err := rows.Scan(&e.ID, &at, &e.Tenant, &e.Actor, &e.User, &e.Action, &e.Resource, &e.Before, &e.After, &e.Details,
		&e.Outcome, &e.Success, &e.Address, &e.UserAgent, &e.RequestID, &e.Revision, &under, &sealed)
	if err != nil {
		return e, err
	}
	e.Time = store.FromNanos(at)
	place := sealing.AuditHidden(e.ID, int64(e.Tenant))
	hidden, err := s.open(ctx, keysOf(e.Tenant), under, place, sealed)
	if err != nil || under == 0 {
		return e, err
	}
	if err := e.Reveal(hidden); err != nil {
		return e, s.strange(ctx, place, err.Error())
	}
	return e, nil
}
