package store

import (
	"context"
	"fmt"
	"slices"

	"portcullis/internal/chain"
)

// Verification is what VerifyAudit goes by, and reports to.
type Verification struct {
	// Points are checkpoints that were kept elsewhere.
	Points []chain.Checkpoint
	// Found hears of the first MaxFaults faults of each tenant, when the tenant is done.
	// Required.
	Found func(chain.Fault)
	// Rows hears of how many rows were checked so far, in all; nil: nobody does.
	Rows func(int64)
}

// Verified is what VerifyAudit checked, and how many faults it found in all.
type Verified struct {
	Tenants, Rows, Faults int64
}

// MaxFaults is how many faults of a tenant VerifyAudit tells of: where nothing fits,
// each row is one.
const MaxFaults = 1000

const (
	verifyPage = 2000 // rows that are read at once
	// A tenant whose audit is pruned under the check is checked anew so many times.
	verifyTries = 5
)

// VerifyAudit checks every tenant's chain from its anchor to its end, while writes go
// on. It is ErrChain where nothing is chained, or the secret does not open.
func VerifyAudit(ctx context.Context, s AuditChains, v Verification) (Verified, error) {
	var done Verified
	key, err := s.ChainKey(ctx)
	if err != nil {
		return done, err
	}
	tenants, err := s.AuditTenants(ctx)
	if err != nil {
		return done, err
	}
	for i := range v.Points { // the audit of some may be gone as a whole
		if t := TenantID(v.Points[i].Tenant); !slices.Contains(tenants, t) {
			tenants = append(tenants, t)
		}
	}
	for _, tenant := range tenants {
		if err := verifyTenant(ctx, s, key, tenant, &v, &done); err != nil {
			return done, fmt.Errorf("verify the audit of tenant %d: %w", tenant, err)
		}
		done.Tenants++
	}
	return done, nil
}

// verifyTenant checks one chain, and starts over where a pruning came between.
func verifyTenant(ctx context.Context, s AuditChains, key *chain.Key, tenant TenantID, v *Verification, done *Verified) error {
	for range verifyTries {
		anchor, mac, err := s.ChainAnchor(ctx, tenant)
		if err != nil {
			return err
		}
		var first []chain.Fault
		var faults int64
		check := chain.NewVerifier(key, int64(tenant), anchor, mac, v.Points, func(f chain.Fault) {
			if faults++; faults <= MaxFaults {
				first = append(first, f)
			}
		})
		told := func() {
			if v.Rows != nil {
				v.Rows(done.Rows + check.Rows())
			}
		}
		if err := walkTenant(ctx, s, check, tenant, told); err != nil {
			return err
		}
		if _, now, err := s.ChainAnchor(ctx, tenant); err != nil {
			return err
		} else if now != mac {
			continue
		}
		for _, f := range first {
			v.Found(f)
		}
		done.Rows, done.Faults = done.Rows+check.Rows(), done.Faults+faults
		return nil
	}
	return fmt.Errorf("it is being pruned: try again when that has ended")
}

// walkTenant gives all rows of a tenant to check. The chain's end is read behind the
// last of them, so that no row can stand behind it but one that came since, and of
// those the check needs the ones up to that end.
func walkTenant(ctx context.Context, s AuditChains, check *chain.Verifier, tenant TenantID, told func()) error {
	from, more := int64(FirstAuditRow), true
	for more {
		page, err := s.WalkAudit(ctx, tenant, from, verifyPage)
		if err != nil {
			return err
		}
		for i := range page {
			check.Next(&page[i])
		}
		told()
		next, on := AfterWalk(page)
		if on {
			from = next
		}
		more = on && len(page) >= verifyPage
	}
	head, err := s.ChainHead(ctx, tenant)
	if err != nil {
		return err
	}
	for more = true; more && check.Number() < head.Number; { // else the chain's end is gone
		page, err := s.WalkAudit(ctx, tenant, from, verifyPage)
		if err != nil {
			return err
		}
		for i := 0; i < len(page) && check.Number() < head.Number; i++ {
			check.Next(&page[i])
		}
		told()
		from, more = AfterWalk(page)
	}
	check.End(head.Head)
	return nil
}
