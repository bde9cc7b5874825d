package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	// The key is (id, at): rows that share an id must not be parted by a page, whose next
	// one would pass over them.
	sqlWalkAudit = `
SELECT ` + auditColumns + `, chain_number, commitment, chain_link
FROM portcullis.audit WHERE tenant_id = $1 AND id >= $2 ORDER BY id FETCH FIRST ($3) ROWS WITH TIES`

	// The tenants of the audit, one step down its index for each.
	sqlAuditTenants = `
WITH RECURSIVE t (id) AS (
    SELECT min(tenant_id) FROM portcullis.audit
    UNION ALL
    SELECT (SELECT min(tenant_id) FROM portcullis.audit WHERE tenant_id > t.id) FROM t WHERE t.id IS NOT NULL
)
SELECT id FROM t WHERE id IS NOT NULL
UNION SELECT tenant_id FROM portcullis.audit_chains
UNION SELECT tenant_id FROM portcullis.audit_anchors
ORDER BY 1`

	sqlChainAnchor = `SELECT row_count, last_row, digest, number, link, at, mac FROM portcullis.audit_anchors WHERE tenant_id = $1`

	sqlPutAnchor = `
INSERT INTO portcullis.audit_anchors (tenant_id, row_count, last_row, digest, number, link, at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id) DO UPDATE SET row_count = excluded.row_count, last_row = excluded.last_row, digest = excluded.digest,
    number = excluded.number, link = excluded.link, at = excluded.at, mac = excluded.mac`

	sqlWasChained = `SELECT EXISTS (SELECT FROM portcullis.audit_anchors) OR EXISTS (SELECT FROM portcullis.audit WHERE chain_number <> 0)`

	// The last of the first $3 rows before which all are older than $2; 0 for none.
	sqlLastOlder = `
SELECT coalesce(max(id), 0) FROM (
    SELECT id FROM portcullis.audit
    WHERE tenant_id = $1 AND id < coalesce((SELECT min(id) FROM portcullis.audit WHERE tenant_id = $1 AND at >= $2), 9223372036854775807)
    ORDER BY id LIMIT $3
) AS older`

	sqlPruneAudit = `DELETE FROM portcullis.audit WHERE tenant_id = $1 AND id <= $2 AND at < $3`

	// Months before this one of which nothing is left. Whoever holds the table for long
	// keeps them: they go the next time.
	sqlDropEmptyMonths = `
DO $$
DECLARE
    part  regclass;
    empty boolean;
BEGIN
    SET LOCAL lock_timeout = '1s';
    PERFORM pg_advisory_xact_lock(hashtextextended('portcullis.ensure_audit_partitions', 0));
    FOR part IN
        SELECT i.inhrelid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'portcullis.audit'::regclass
          AND c.relname ~ '^audit_[0-9]{4}_[0-9]{2}$'
          AND c.relname < 'audit_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', part) INTO empty;
        CONTINUE WHEN NOT empty;
        LOCK TABLE portcullis.audit IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', part) INTO empty;
        CONTINUE WHEN NOT empty;
        EXECUTE format('DROP TABLE %s', part);
    END LOOP;
END $$`
)

// walkPage is how many rows are read at once where all of a tenant's are.
const walkPage = 1000

// AuditTenants implements store.AuditChains.
func (s *Store) AuditTenants(ctx context.Context) ([]store.TenantID, error) {
	var list []store.TenantID
	err := s.try(ctx, "list the tenants of the audit", func(ctx context.Context) (err error) {
		list, err = auditTenants(ctx, s.pool)
		return err
	})
	return list, err
}

func auditTenants(ctx context.Context, q querier) ([]store.TenantID, error) {
	rows, err := q.Query(ctx, sqlAuditTenants)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[store.TenantID])
}

// ChainHead implements store.AuditChains.
func (s *Store) ChainHead(ctx context.Context, tenant store.TenantID) (store.ChainHead, error) {
	var h store.ChainHead
	err := s.try(ctx, "read the end of the audit's chain", func(ctx context.Context) error {
		h = store.ChainHead{}
		h.Tenant = int64(tenant)
		err := s.pool.QueryRow(ctx, sqlChainHead, int64(tenant)).Scan(&h.Number, fixed(h.Link[:]), &h.Row)
		if isNoRows(err) {
			return nil
		}
		return err
	})
	return h, err
}

// ChainHeads implements store.AuditChains.
func (s *Store) ChainHeads(ctx context.Context) ([]store.ChainHead, error) {
	var heads []store.ChainHead
	err := s.try(ctx, "read the ends of the audit's chains", func(ctx context.Context) error {
		heads = nil
		rows, err := s.pool.Query(ctx, sqlChainHeads)
		return each(rows, err, func(scan func(...any) error) error {
			var h store.ChainHead
			err := scan(&h.Tenant, &h.Number, fixed(h.Link[:]), &h.Row)
			heads = append(heads, h)
			return err
		})
	})
	return heads, err
}

// ChainAnchor implements store.AuditChains.
func (s *Store) ChainAnchor(ctx context.Context, tenant store.TenantID) (*chain.Anchor, chain.Sum, error) {
	var anchor *chain.Anchor
	var mac chain.Sum
	err := s.try(ctx, "read the audit's anchor", func(ctx context.Context) (err error) {
		anchor, mac, err = readAnchor(ctx, s.pool, tenant)
		return err
	})
	return anchor, mac, err
}

func readAnchor(ctx context.Context, q querier, tenant store.TenantID) (*chain.Anchor, chain.Sum, error) {
	a := &chain.Anchor{Tenant: int64(tenant)}
	var mac chain.Sum
	err := q.QueryRow(ctx, sqlChainAnchor, int64(tenant)).Scan(&a.Rows, &a.LastRow, fixed(a.Digest[:]), &a.Number, fixed(a.Link[:]), &a.At, fixed(mac[:]))
	if isNoRows(err) {
		return nil, mac, nil
	}
	return a, mac, err
}

// WalkAudit implements store.AuditChains.
func (s *Store) WalkAudit(ctx context.Context, tenant store.TenantID, from int64, limit int) ([]chain.Entry, error) {
	if limit < 1 || limit > store.MaxAuditWalk {
		return nil, fmt.Errorf("walk through the audit: limit: %d is outside 1 to %d", limit, store.MaxAuditWalk)
	}
	var page []chain.Entry
	err := s.try(ctx, "walk through the audit", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			var rows []walkedRow
			err := s.snapshot(ctx, func(b *pgx.Batch) {
				b.Queue(sqlPair, int64(tenant))
				b.Queue(sqlWalkAudit, int64(tenant), from, limit)
			}, func(r pgx.BatchResults) error {
				var p pairScan
				if err := r.QueryRow().Scan(&p.current, &p.former); err != nil {
					return err
				}
				if err := p.under(keys); err != nil {
					return err
				}
				found, err := r.Query()
				rows, err = walkedRows(found, err)
				return err
			})
			if err == nil {
				page, err = s.revealWalked(keys, rows)
			}
			return err
		})
	})
	return page, err
}

// walkedRow is a row with its place in its chain.
type walkedRow struct {
	auditRow
	in chain.Entry
}

func walkedRows(rows pgx.Rows, err error) ([]walkedRow, error) {
	var list []walkedRow
	err = each(rows, err, func(scan func(...any) error) error {
		var w walkedRow
		err := scan(append(w.dest(), &w.in.Number, fixed(w.in.Commitment[:]), fixed(w.in.Link[:]))...)
		list = append(list, w)
		return err
	})
	return list, err
}

func (s *Store) revealWalked(keys sealing.Keys, rows []walkedRow) ([]chain.Entry, error) {
	page := make([]chain.Entry, len(rows))
	for i := range rows {
		w := &rows[i]
		switch err := s.reveal(keys, &w.auditRow); {
		case isUnreadable(err):
			w.in.Unreadable = err.Error()
		case err != nil:
			return nil, err
		}
		w.in.Row = w.ChainRow()
		page[i] = w.in
	}
	return page, nil
}

// eachAudit calls fn for every row of a tenant's audit up to the id last, by id.
func (tx *writeTx) eachAudit(tenant store.TenantID, last int64, fn func(*chain.Entry)) error {
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	for from := int64(store.FirstAuditRow); ; {
		rows, err := walkedRows(tx.Query(tx.ctx, sqlWalkAudit, int64(tenant), from, walkPage))
		if err != nil || len(rows) == 0 {
			return err
		}
		page, err := tx.store.revealWalked(keys, rows)
		if err != nil {
			return err
		}
		for i := range page {
			if page[i].ID > last {
				return nil
			}
			fn(&page[i])
		}
		more := false
		if from, more = store.AfterWalk(page); !more {
			return nil
		}
	}
}

// StartChain implements store.AuditChains.
func (s *Store) StartChain(ctx context.Context, by store.Actor) (store.Result, error) {
	return s.step(ctx, "begin the audit's chain", 0, by, func(tx *writeTx) (*store.Written, error) {
		if tx.trail.key != nil {
			return nil, errNoWrite
		}
		// Rows that are being written in no chain are committed first, and so anchored.
		if _, err := tx.exec(sqlChangeKeys); err != nil {
			return nil, err
		}
		var was bool
		if err := tx.scan(sqlWasChained, nil, &was); err != nil {
			return nil, err
		}
		if was {
			return nil, fmt.Errorf("%w: %w", store.ErrChain, errSecretGone)
		}
		secret := chain.NewSecret()
		state, err := tx.wrapChain(secret)
		if err != nil {
			return nil, err
		}
		key, err := chain.NewKey(secret)
		if err != nil {
			return nil, err
		}
		tenants, err := auditTenants(tx.ctx, tx)
		if err != nil {
			return nil, err
		}
		for _, tenant := range tenants {
			a := chain.Anchor{Tenant: int64(tenant), At: tx.now.UnixMicro()}
			if err := tx.eachAudit(tenant, math.MaxInt64, func(e *chain.Entry) { key.Begin(&a, e) }); err != nil {
				return nil, err
			}
			if err := tx.putAnchor(&a, key.Sign(&a)); err != nil {
				return nil, err
			}
		}
		tx.trail.key = key
		return store.ChainWritten(nil, state), nil
	})
}

func (tx *writeTx) putAnchor(a *chain.Anchor, mac chain.Sum) error {
	_, err := tx.exec(sqlPutAnchor, a.Tenant, a.Rows, a.LastRow, a.Digest[:], a.Number, a.Link[:], a.At, mac[:])
	return err
}

// PruneAudit implements store.AuditChains. Months of which nothing is left by then
// lose their partitions.
func (s *Store) PruneAudit(ctx context.Context, by store.Actor, tenant store.TenantID, before time.Time) (int64, store.Result, error) {
	var gone store.PruneState
	result, err := s.writeLocking(ctx, "prune the audit", tenant, nil, by, func(tx *writeTx) (*store.Written, error) {
		if before.IsZero() || before.After(tx.now) {
			return nil, errors.New("before: is not in the past: say up to when rows may go")
		}
		gone = store.PruneState{Before: before}
		var last int64
		if err := tx.scan(sqlLastOlder, []any{int64(tenant), timeBound(before), store.MaxAuditPrune}, &last); err != nil {
			return nil, err
		}
		if last == 0 {
			return nil, errNoWrite
		}
		if err := tx.anchorBehind(tenant, last, &gone); err != nil {
			return nil, err
		}
		n, err := tx.exec(sqlPruneAudit, int64(tenant), last, timeBound(before))
		gone.Rows = n
		return store.AuditPruned(tenant, gone), err
	})
	if err != nil {
		return 0, store.Result{}, asPruner(err)
	}
	if err := s.try(ctx, "drop the audit's empty months", func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, sqlDropEmptyMonths)
		return err
	}); err != nil {
		s.log.Warn("empty partitions of the audit stay until the next pruning", "error", err)
	}
	return gone.Rows, result, nil
}

// asPruner says what to do where the role lacks the right to delete.
func asPruner(err error) error {
	if lacksRight(err) {
		return fmt.Errorf("%w: a server may not delete what was recorded: prune with the owner's URL, as `portcullis migrate` is run", err)
	}
	return err
}

// anchorBehind checks what goes and anchors what remains, where the audit is chained.
func (tx *writeTx) anchorBehind(tenant store.TenantID, last int64, gone *store.PruneState) error {
	if tx.trail.key == nil {
		return nil
	}
	anchor, mac, err := readAnchor(tx.ctx, tx, tenant)
	if err != nil {
		return err
	}
	p := chain.NewPruner(tx.trail.key, int64(tenant), anchor, mac, last, tx.now.UnixMicro())
	read := last
	if anchor != nil {
		read = max(read, anchor.LastRow)
	}
	if err := tx.eachAudit(tenant, read, p.Next); err != nil {
		return err
	}
	next, signed, _, err := p.Anchor()
	if err != nil {
		return fmt.Errorf("%w: nothing was pruned, since what would go does not verify: %w", store.ErrChain, err)
	}
	gone.Number = next.Number
	return tx.putAnchor(&next, signed)
}
