package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlWalkAudit = `SELECT ` + auditColumns + `, chain_number, commitment, chain_link
		FROM audit WHERE tenant_id = ? AND id >= ? ORDER BY id LIMIT ?`

	// The tenants of the audit, one step down its index for each.
	sqlAuditTenants = `WITH RECURSIVE t (id) AS (
			SELECT min(tenant_id) FROM audit
			UNION ALL
			SELECT (SELECT min(tenant_id) FROM audit WHERE tenant_id > t.id) FROM t WHERE t.id IS NOT NULL
		)
		SELECT id FROM t WHERE id IS NOT NULL
		UNION SELECT tenant_id FROM audit_chains
		UNION SELECT tenant_id FROM audit_anchors
		ORDER BY 1`

	sqlChainAnchor = `SELECT row_count, last_row, digest, number, link, at, mac FROM audit_anchors WHERE tenant_id = ?`

	sqlPutAnchor = `INSERT INTO audit_anchors (tenant_id, row_count, last_row, digest, number, link, at, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (tenant_id) DO UPDATE SET row_count = excluded.row_count, last_row = excluded.last_row, digest = excluded.digest,
			number = excluded.number, link = excluded.link, at = excluded.at, mac = excluded.mac`

	sqlWasChained = `SELECT EXISTS (SELECT 1 FROM audit_anchors) OR EXISTS (SELECT 1 FROM audit WHERE chain_number <> 0)`

	// The last of the first ?3 rows before which all are older than ?2; 0 for none.
	sqlLastOlder = `SELECT coalesce(max(id), 0) FROM (
			SELECT id FROM audit
			WHERE tenant_id = ?1 AND id < coalesce((SELECT id FROM audit WHERE tenant_id = ?1 AND time >= ?2 ORDER BY id LIMIT 1), 9223372036854775807)
			ORDER BY id LIMIT ?3
		)`

	sqlPruneAudit = `DELETE FROM audit WHERE tenant_id = ? AND id <= ?`
)

// walkPage is how many rows are read at once where all of a tenant's are.
const walkPage = 1000

// AuditTenants implements store.AuditChains.
func (s *Store) AuditTenants(ctx context.Context) ([]store.TenantID, error) {
	var list []store.TenantID
	err := s.borrowing(ctx, "list the tenants of the audit", func(ctx context.Context, c *conn) (err error) {
		list, err = auditTenants(ctx, c)
		return err
	})
	return list, err
}

func auditTenants(ctx context.Context, c *conn) ([]store.TenantID, error) {
	var list []store.TenantID
	err := c.each(ctx, sqlAuditTenants, nil, func(rows *sql.Rows) error {
		var id store.TenantID
		err := rows.Scan(&id)
		list = append(list, id)
		return err
	})
	return list, err
}

// ChainHead implements store.AuditChains.
func (s *Store) ChainHead(ctx context.Context, tenant store.TenantID) (store.ChainHead, error) {
	var head store.ChainHead
	err := s.borrowing(ctx, "read the end of the audit's chain", func(ctx context.Context, c *conn) (err error) {
		head, err = readHead(ctx, c, tenant)
		return err
	})
	return head, err
}

// ChainHeads implements store.AuditChains.
func (s *Store) ChainHeads(ctx context.Context) ([]store.ChainHead, error) {
	var heads []store.ChainHead
	err := s.borrowing(ctx, "read the ends of the audit's chains", func(ctx context.Context, c *conn) error {
		heads = nil
		return c.each(ctx, sqlChainHeads, nil, func(rows *sql.Rows) error {
			var h store.ChainHead
			err := rows.Scan(&h.Tenant, &h.Number, fixed(h.Link[:]), &h.Row)
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
	err := s.borrowing(ctx, "read the audit's anchor", func(ctx context.Context, c *conn) (err error) {
		anchor, mac, err = readAnchor(ctx, c, tenant)
		return err
	})
	return anchor, mac, err
}

func readAnchor(ctx context.Context, c *conn, tenant store.TenantID) (*chain.Anchor, chain.Sum, error) {
	a := &chain.Anchor{Tenant: int64(tenant)}
	var mac chain.Sum
	err := c.scan(ctx, sqlChainAnchor, args{int64(tenant)}, &a.Rows, &a.LastRow, fixed(a.Digest[:]), &a.Number, fixed(a.Link[:]), &a.At, fixed(mac[:]))
	if absent(err) {
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
	err := s.reading(ctx, "walk through the audit", func(ctx context.Context, c *conn) error {
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		page, err = s.walkAudit(ctx, c, keys, tenant, from, limit)
		return err
	})
	return page, err
}

func (s *Store) walkAudit(ctx context.Context, c *conn, keys sealing.Keys, tenant store.TenantID, from int64, limit int) ([]chain.Entry, error) {
	var page []chain.Entry
	err := c.each(ctx, sqlWalkAudit, args{int64(tenant), from, limit}, func(rows *sql.Rows) error {
		var e store.AuditEntry
		var in chain.Entry
		var at, under int64
		var sealed string
		err := rows.Scan(&e.ID, &at, &e.Tenant, &e.Actor, &e.User, &e.Action, &e.Resource, &e.Before, &e.After, &e.Details,
			&e.Outcome, &e.Success, &e.Address, &e.UserAgent, &e.RequestID, &e.Revision, &under, &sealed,
			&in.Number, fixed(in.Commitment[:]), fixed(in.Link[:]))
		if err != nil {
			return err
		}
		e.Time = store.FromNanos(at)
		switch err := s.revealAudit(ctx, keys, &e, under, sealed); {
		case isUnreadable(err):
			in.Unreadable = err.Error()
		case err != nil:
			return err
		}
		in.Row = e.ChainRow()
		page = append(page, in)
		return nil
	})
	return page, err
}

// each calls fn for every row of a tenant's audit up to the id last, by id.
func (tx *writeTx) eachAudit(tenant store.TenantID, last int64, fn func(*chain.Entry)) error {
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	for from := int64(store.FirstAuditRow); ; {
		page, err := tx.store.walkAudit(tx.ctx, tx.conn, keys, tenant, from, walkPage)
		if err != nil || len(page) == 0 {
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
	return s.write(ctx, "begin the audit's chain", by, func(tx *writeTx) (*store.Written, error) {
		if tx.trail.key != nil {
			return nil, errNoWrite
		}
		var was bool
		if err := tx.scan(tx.ctx, sqlWasChained, nil, &was); err != nil {
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
		tenants, err := auditTenants(tx.ctx, tx.conn)
		if err != nil {
			return nil, err
		}
		for _, tenant := range tenants {
			a := chain.Anchor{Tenant: int64(tenant), At: tx.now.UnixMicro()}
			if err := tx.eachAudit(tenant, maxRow, func(e *chain.Entry) { key.Begin(&a, e) }); err != nil {
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

// maxRow is above every id.
const maxRow = 1<<63 - 1

func (tx *writeTx) putAnchor(a *chain.Anchor, mac chain.Sum) error {
	_, err := tx.exec(tx.ctx, sqlPutAnchor, a.Tenant, a.Rows, a.LastRow, a.Digest[:], a.Number, a.Link[:], a.At, mac[:])
	return err
}

// PruneAudit implements store.AuditChains.
func (s *Store) PruneAudit(ctx context.Context, by store.Actor, tenant store.TenantID, before time.Time) (int64, store.Result, error) {
	var gone store.PruneState
	result, err := s.write(ctx, "prune the audit", by, func(tx *writeTx) (*store.Written, error) {
		if before.IsZero() || before.After(tx.now) {
			return nil, errors.New("before: is not in the past: say up to when rows may go")
		}
		gone = store.PruneState{Before: before}
		var last int64
		if err := tx.scan(tx.ctx, sqlLastOlder, args{int64(tenant), boundNanos(before), store.MaxAuditPrune}, &last); err != nil {
			return nil, err
		}
		if last == 0 {
			return nil, errNoWrite
		}
		if err := tx.anchorBehind(tenant, last, &gone); err != nil {
			return nil, err
		}
		n, err := tx.exec(tx.ctx, sqlPruneAudit, int64(tenant), last)
		gone.Rows = n
		return store.AuditPruned(tenant, gone), err
	})
	if err != nil {
		return 0, store.Result{}, err
	}
	return gone.Rows, result, nil
}

// anchorBehind checks what goes and anchors what remains, where the audit is chained.
func (tx *writeTx) anchorBehind(tenant store.TenantID, last int64, gone *store.PruneState) error {
	if tx.trail.key == nil {
		return nil
	}
	anchor, mac, err := readAnchor(tx.ctx, tx.conn, tenant)
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
