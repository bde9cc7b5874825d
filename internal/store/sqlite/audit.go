package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlInsertAudit = `INSERT INTO audit (time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision, id, key_id, user_index, sealed, chain_number, commitment, chain_link)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	auditColumns = `id, time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision, key_id, coalesce(sealed, '')`

	auditOfTenant = ` FROM audit WHERE tenant_id = ?1`

	auditOfAction = ` FROM audit WHERE tenant_id = ?1 AND action = ?2 COLLATE NOCASE`

	// A subject is ?8 in clear, or one of two indexes; ?7 is whether one is asked for.
	auditFilters = ` AND time >= ?3 AND time < ?4
		AND (?5 = '' OR actor = ?5)
		AND (?6 = '' OR outcome = ?6)
		AND (NOT ?7 OR user = ?8 AND key_id = 0 OR user_index IN (?9, ?10))
		AND (?11 = '' OR resource = ?11 OR substr(resource, 1, length(?11) + 1) = ?11 || '/')
		AND (?12 IS NULL OR action COLLATE NOCASE IN (SELECT value FROM json_each(?12)))`

	auditPage = ` AND id < ?13 ORDER BY id DESC LIMIT ?14 OFFSET ?15`

	sqlAudit      = `SELECT ` + auditColumns + auditOfTenant + auditFilters + auditPage
	sqlCountAudit = `SELECT count(*)` + auditOfTenant + auditFilters

	sqlAuditOfAction      = `SELECT ` + auditColumns + auditOfAction + auditFilters + auditPage
	sqlCountAuditOfAction = `SELECT count(*)` + auditOfAction + auditFilters
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

// RecordAudit implements store.Store. An entry without a time gets the store's;
// its ID is the store's to give.
func (s *Store) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		t, err := s.openTrail(ctx, c)
		if err != nil || !t.enabled {
			return err
		}
		held := make(map[store.TenantID]sealing.Keys)
		for _, e := range entries {
			keys, ok := held[e.Tenant]
			if !ok {
				if keys, err = s.readKeys(ctx, c, e.Tenant); err != nil {
					return err
				}
				held[e.Tenant] = keys
			}
			if e.Time.IsZero() {
				e.Time = s.cfg.Now()
			}
			if err := t.add(ctx, keys.Current, e); err != nil {
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
	if err := q.Check(); err != nil {
		return nil, 0, fmt.Errorf("read audit: %w", err)
	}
	list, count := sqlAudit, sqlCountAudit
	if len(q.Actions) == 1 { // which has an index
		list, count = sqlAuditOfAction, sqlCountAuditOfAction
	}
	var entries []store.AuditEntry
	var total int
	err := s.reading(ctx, "read audit", func(ctx context.Context, c *conn) error {
		entries = nil
		keys, err := s.readKeys(ctx, c, q.Tenant)
		if err != nil {
			return err
		}
		in, err := auditArgs(&q, keys)
		if err != nil {
			return err
		}
		if !q.NoTotal {
			if err := c.scan(ctx, count, in, &total); err != nil {
				return err
			}
		}
		before := q.Before
		if before == 0 {
			before = math.MaxInt64
		}
		page := append(in[:len(in):len(in)], before, q.Limit, q.Offset)
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

// auditArgs are the arguments of auditFilters, and of what comes before them.
func auditArgs(q *store.AuditQuery, keys sealing.Keys) (args, error) {
	var one string
	var several any
	switch len(q.Actions) {
	case 0:
	case 1:
		one = string(q.Actions[0])
	default:
		text, err := json.Marshal(q.Actions)
		if err != nil {
			return nil, err
		}
		several = string(text)
	}
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !q.Since.IsZero() {
		since = boundNanos(q.Since)
	}
	if !q.Until.IsZero() {
		until = boundNanos(q.Until)
	}
	var indexes [2][]byte
	if q.Subject != "" {
		for i, key := range keys.Live() {
			if key != nil { // in clear, the subject is looked for as it is
				index := key.SubjectIndex(q.Subject)
				indexes[i] = index[:]
			}
		}
	}
	return args{int64(q.Tenant), one, since, until, q.Actor, q.Outcome, q.Subject != "", q.Subject, indexes[0], indexes[1], q.Entity, several}, nil
}

// boundNanos is a time as a bound: one that Unix nanoseconds do not reach is the
// nearest that they do.
func boundNanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
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
	return e, s.revealAudit(ctx, keysOf(e.Tenant), &e, under, sealed)
}

// revealAudit puts back what the row hides.
func (s *Store) revealAudit(ctx context.Context, keys sealing.Keys, e *store.AuditEntry, under int64, sealed string) error {
	place := sealing.AuditHidden(e.ID, int64(e.Tenant))
	hidden, err := s.open(ctx, keys, under, place, sealed)
	if err != nil || under == 0 {
		return err
	}
	if err := e.Reveal(hidden); err != nil {
		return s.strange(ctx, place, err.Error())
	}
	return nil
}
