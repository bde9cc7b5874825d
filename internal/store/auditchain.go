package store

import (
	"context"
	"errors"
	"math"
	"time"

	"portcullis/internal/chain"
)

// ErrChain: the audit's chain is not in the state that the call needs, or the keys
// that the program holds do not open it. The text says which, and the mend.
var ErrChain = errors.New("audit chain")

// AuditState says whether what is done is recorded, and under which key the rows
// are chained.
type AuditState struct {
	Enabled bool
	Chained bool
	// Holder is which setting holds the key that wraps the chain's secret:
	// "AUTH_AUDIT_KEY" or "AUTH_ENCRYPTION_KEY"; "" where nothing is chained.
	Holder string
	Master string // the id of that key
}

// ChainHead is the end of a tenant's chain, and the id of the row there; 0 where
// all of it was pruned or none was written yet.
type ChainHead struct {
	chain.Head
	Row int64
}

// AuditChains is the part of a store that chains the audit, lets it be verified and
// prunes it. Each tenant has a chain of its own; tenant 0 has that of what belongs to
// no tenant, failed authentications included.
//
// From StartChain on every row of the audit is chained in the transaction that writes
// it, whichever process writes: one that cannot open the secret writes nothing, and
// its writes are ErrChain.
type AuditChains interface {
	AuditState(ctx context.Context) (AuditState, error)
	// SetAudit turns the recording on or off, for every process. The row that says so
	// is written in either direction. While it is off, writes leave no row.
	SetAudit(ctx context.Context, by Actor, on bool) (Result, error)
	// StartChain makes the secret and wraps it under the first key of AUTH_AUDIT_KEY, else
	// under the master that the database is sealed under, and anchors what each tenant has
	// in the audit by then. OutcomeUnchanged where there is a chain. ErrChain where there is no
	// key to wrap with, and where rows are chained and the secret is gone.
	StartChain(ctx context.Context, by Actor) (Result, error)
	// RewrapChain wraps the secret where StartChain would wrap it today. The chain
	// stays. Nothing to do is OutcomeUnchanged.
	RewrapChain(ctx context.Context, by Actor) (Result, error)
	// ChainKey opens the secret. ErrChain where there is none, or no key for it.
	ChainKey(ctx context.Context) (*chain.Key, error)
	// AuditTenants are the tenants that have rows, a chain or an anchor, by id, 0
	// included.
	AuditTenants(ctx context.Context) ([]TenantID, error)
	ChainHead(ctx context.Context, tenant TenantID) (ChainHead, error)
	// ChainHeads are the ends of all chains, by tenant.
	ChainHeads(ctx context.Context) ([]ChainHead, error)
	// ChainAnchor is nil where the tenant has none.
	ChainAnchor(ctx context.Context, tenant TenantID) (*chain.Anchor, chain.Sum, error)
	// WalkAudit reads a tenant's rows by id, those from the given id on, limit of them (1
	// to MaxAuditWalk), and beyond the limit those that share the last one's id. A walk begins
	// at FirstAuditRow: what Portcullis writes has ids from 1 on, and what others
	// wrote must not hide below. AfterWalk says where it goes on. What of a row does not open is
	// told in its Unreadable.
	WalkAudit(ctx context.Context, tenant TenantID, from int64, limit int) ([]chain.Entry, error)
	// PruneAudit deletes the tenant's rows up to the last one before which all are older
	// than the given time, MaxAuditPrune of them at most, and anchors what remains, in
	// one write. It is to be called until no rows go. Where the rows that
	// go, or the unchained ones, do not verify, it is ErrChain and nothing goes. On
	// Postgres it needs the owner's rights.
	PruneAudit(ctx context.Context, by Actor, tenant TenantID, before time.Time) (rows int64, result Result, err error)
}

// MaxAuditWalk bounds the limit of one call of WalkAudit.
const MaxAuditWalk = 10_000

// FirstAuditRow is the lowest id that a row can have.
const FirstAuditRow = math.MinInt64

// AfterWalk is the id from which a walk goes on behind a page. It ends with an empty
// page, and behind the highest id that a row can have.
func AfterWalk(page []chain.Entry) (from int64, more bool) {
	if len(page) == 0 || page[len(page)-1].ID == math.MaxInt64 {
		return 0, false
	}
	return page[len(page)-1].ID + 1, true
}

// MaxAuditPrune is how many rows one call of PruneAudit deletes at most: while it goes
// on, other writes wait.
const MaxAuditPrune = 20_000

// ChainRow is the entry as its chain commits to it. Every store keeps times of
// microseconds, or finer: what is finer is not committed to.
func (e *AuditEntry) ChainRow() chain.Row {
	return chain.Row{
		ID: e.ID, Tenant: int64(e.Tenant), Time: e.Time.UnixMicro(), Revision: e.Revision, Success: e.Success,
		Texts: []string{
			e.Actor, e.User, string(e.Action), e.Resource, e.Before, e.After, e.Details, e.Outcome,
			e.Address, e.UserAgent, e.RequestID,
		},
	}
}

// AuditOf is the entry that ChainRow made the row of, at microseconds.
func AuditOf(r *chain.Row) AuditEntry {
	e := AuditEntry{ID: r.ID, Tenant: TenantID(r.Tenant), Time: time.UnixMicro(r.Time).UTC(), Revision: r.Revision, Success: r.Success}
	var action string
	for i, text := range []*string{
		&e.Actor, &e.User, &action, &e.Resource, &e.Before, &e.After, &e.Details, &e.Outcome, &e.Address, &e.UserAgent, &e.RequestID,
	} {
		if i < len(r.Texts) {
			*text = r.Texts[i]
		}
	}
	e.Action = Action(action)
	return e
}

// ChainLink is where a new row goes in its chain, and the chain's end after it.
type ChainLink struct {
	Number           int64
	Commitment, Link chain.Sum
}

// Append links the entry, whose ID, Tenant and Time are set and whose texts are as
// they will be read back, to the end of a chain, and moves the end.
func (e *AuditEntry) Append(key *chain.Key, head *chain.Head) ChainLink {
	row := e.ChainRow()
	link := ChainLink{Number: head.Number + 1, Commitment: key.Commit(&row)}
	link.Link = key.Link(head.Tenant, link.Number, head.Link, link.Commitment)
	head.Number, head.Link = link.Number, link.Link
	return link
}
