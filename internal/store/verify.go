package store

import (
	"context"
	"fmt"

	"portcullis/internal/chain"
)

// Verification is what VerifyAudit reports to, while it goes on.
type Verification struct {
	// Points are checkpoints that were kept elsewhere.
	Points []chain.Checkpoint
	// Found hears of each fault. Required.
	Found func(chain.Fault)
	// Rows hears of how many rows were checked so far, in all; nil: nobody does.
	Rows func(int64)
}

// verifyPage is how many rows are read at once.
const verifyPage = 2000

// VerifyAudit checks every tenant's chain from its anchor to the end that it has as
// the check begins, while writes go on, and returns how many rows it checked. It is
// ErrChain where nothing is chained, or the secret does not open.
func VerifyAudit(ctx context.Context, s AuditChains, v Verification) (int64, error) {
	key, err := s.ChainKey(ctx)
	if err != nil {
		return 0, err
	}
	tenants, err := s.AuditTenants(ctx)
	if err != nil {
		return 0, err
	}
	known := make(map[int64]bool, len(tenants))
	var rows int64
	for _, tenant := range tenants {
		known[int64(tenant)] = true
		n, err := verifyTenant(ctx, s, key, tenant, &v, rows)
		if err != nil {
			return rows, fmt.Errorf("tenant %d: %w", tenant, err)
		}
		rows += n
	}
	for i := range v.Points {
		if p := &v.Points[i]; !known[p.Tenant] && p.Number > 0 { // of whom nothing is left
			known[p.Tenant] = true
			if _, err := verifyTenant(ctx, s, key, TenantID(p.Tenant), &v, rows); err != nil {
				return rows, fmt.Errorf("tenant %d: %w", p.Tenant, err)
			}
		}
	}
	return rows, nil
}

// verifyTenant checks one chain, and starts over where a pruning came between.
func verifyTenant(ctx context.Context, s AuditChains, key *chain.Key, tenant TenantID, v *Verification, before int64) (int64, error) {
	for {
		anchor, mac, err := s.ChainAnchor(ctx, tenant)
		if err != nil {
			return 0, err
		}
		var faults []chain.Fault
		rows, err := walkTenant(ctx, s, chain.NewVerifier(key, int64(tenant), anchor, mac, v.Points, func(f chain.Fault) {
			faults = append(faults, f)
		}), tenant, v.Rows, before)
		if err != nil {
			return 0, err
		}
		if _, now, err := s.ChainAnchor(ctx, tenant); err != nil {
			return 0, err
		} else if now != mac {
			continue
		}
		for _, f := range faults {
			v.Found(f)
		}
		return rows, nil
	}
}

func walkTenant(ctx context.Context, s AuditChains, check *chain.Verifier, tenant TenantID, told func(int64), before int64) (int64, error) {
	head, err := s.ChainHead(ctx, tenant) // before the rows: what is written meanwhile is behind it
	if err != nil {
		return 0, err
	}
	for after := int64(0); ; {
		page, err := s.WalkAudit(ctx, tenant, after, verifyPage)
		if err != nil {
			return 0, err
		}
		for i := range page {
			if page[i].Number > head.Number && page[i].ID > head.Row {
				page = page[:i]
				break
			}
			check.Next(&page[i])
		}
		if told != nil {
			told(before + check.Rows())
		}
		if len(page) < verifyPage {
			check.End(head.Head)
			return check.Rows(), nil
		}
		after = page[len(page)-1].ID
	}
}
