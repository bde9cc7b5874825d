package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	auditColumns = `id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision, key_id, coalesce(sealed, '')`

	auditOfTenant = ` FROM portcullis.audit WHERE tenant_id = $1 AND $2::text = ''`

	auditOfAction = ` FROM portcullis.audit WHERE tenant_id = $1 AND upper(action) = upper($2)`

	// A subject is $8 in clear, or one of the indexes $9; $7 is whether one is asked for.
	auditFilters = ` AND at >= $3 AND at < $4
    AND ($5::text = '' OR actor = $5)
    AND ($6::text = '' OR outcome = $6)
    AND (NOT $7::boolean OR about = $8::text AND key_id = 0 OR user_index = ANY ($9::bytea[]))
    AND ($10::text = '' OR resource = $10 OR starts_with(resource, $10 || '/'))
    AND ($11::text[] IS NULL OR upper(action) = ANY ($11))`

	auditPage = ` AND id < $12 ORDER BY id DESC LIMIT $13 OFFSET $14`

	sqlAudit      = `SELECT ` + auditColumns + auditOfTenant + auditFilters + auditPage
	sqlCountAudit = `SELECT count(*)` + auditOfTenant + auditFilters

	sqlAuditOfAction      = `SELECT ` + auditColumns + auditOfAction + auditFilters + auditPage
	sqlCountAuditOfAction = `SELECT count(*)` + auditOfAction + auditFilters
)

// Audit implements store.Store.
func (s *Store) Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, int, error) {
	if err := q.Check(); err != nil {
		return nil, 0, fmt.Errorf("read audit: %w", err)
	}
	texts := []string{q.Entity, q.Subject, q.Actor, q.Outcome}
	for _, action := range q.Actions {
		texts = append(texts, string(action))
	}
	for _, text := range texts {
		if !isText(text) {
			return nil, 0, nil
		}
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

// auditFilter are the arguments of auditFilters, and of what comes before them.
func auditFilter(q *store.AuditQuery, keys sealing.Keys) []any {
	since, until := pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}, pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.Infinity}
	if !q.Since.IsZero() {
		since = timeBound(q.Since)
	}
	if !q.Until.IsZero() {
		until = timeBound(q.Until)
	}
	one, several := "", []string(nil)
	if len(q.Actions) == 1 {
		one = string(q.Actions[0])
	} else {
		for _, action := range q.Actions {
			several = append(several, strings.ToUpper(string(action)))
		}
	}
	indexes := [][]byte{} // none is an empty array, and no NULL
	if q.Subject != "" {
		for _, key := range keys.Live() {
			if key != nil { // in clear, the subject is looked for as it is
				index := key.SubjectIndex(q.Subject)
				indexes = append(indexes, index[:])
			}
		}
	}
	return []any{int64(q.Tenant), one, since, until, q.Actor, q.Outcome, q.Subject != "", q.Subject, indexes, q.Entity, several}
}

// timeBound is a time as a bound: one that Postgres does not reach is infinite.
func timeBound(t time.Time) pgtype.Timestamptz {
	switch year := t.UTC().Year(); {
	case year < -4000:
		return pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}
	case year > 290_000:
		return pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.Infinity}
	}
	return pgtype.Timestamptz{Valid: true, Time: t.UTC()}
}

func (s *Store) auditRows(ctx context.Context, q store.AuditQuery, keys sealing.Keys) (list []auditRow, total int, err error) {
	page, count := sqlAudit, sqlCountAudit
	if len(q.Actions) == 1 { // which has an index
		page, count = sqlAuditOfAction, sqlCountAuditOfAction
	}
	filter := auditFilter(&q, keys)
	before := q.Before
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.snapshot(ctx, func(b *pgx.Batch) {
		b.Queue(sqlPair, int64(q.Tenant))
		if !q.NoTotal {
			b.Queue(count, filter...)
		}
		b.Queue(page, append(filter[:len(filter):len(filter)], before, q.Limit, q.Offset)...)
	}, func(r pgx.BatchResults) error {
		var p pairScan
		if err := r.QueryRow().Scan(&p.current, &p.former); err != nil {
			return err
		}
		if err := p.under(keys); err != nil {
			return err
		}
		if !q.NoTotal {
			if err := r.QueryRow().Scan(&total); err != nil {
				return err
			}
		}
		rows, err := r.Query()
		list = nil
		return each(rows, err, func(scan func(...any) error) error {
			e, err := scanAudit(scan)
			list = append(list, e)
			return err
		})
	})
	return list, total, err
}

func (e *auditRow) dest() []any {
	return []any{&e.ID, (*utcTime)(&e.Time), &e.Tenant, &e.Actor, &e.User, &e.Action, &e.Resource, &e.Before, &e.After, &e.Details,
		&e.Outcome, &e.Success, &e.Address, &e.UserAgent, &e.RequestID, &e.Revision, &e.keyID, &e.sealed}
}

func scanAudit(scan func(...any) error) (auditRow, error) {
	var e auditRow
	err := scan(e.dest()...)
	return e, err
}

// utcTime scans a timestamptz as a time of UTC.
type utcTime time.Time

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (u *utcTime) ScanTimestamptz(v pgtype.Timestamptz) error {
	if !v.Valid || v.InfinityModifier != pgtype.Finite {
		return errors.New("the time is no time")
	}
	*u = utcTime(v.Time.UTC())
	return nil
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
