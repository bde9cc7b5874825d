package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlAuditState = `SELECT enabled, wrapped, holder, master, EXISTS (SELECT FROM portcullis.audit_chains) FROM portcullis.audit_state`

	sqlSetAudit = `UPDATE portcullis.audit_state SET enabled = $1`

	sqlWrapChain = `UPDATE portcullis.audit_state SET wrapped = $1, holder = $2, master = $3`

	sqlChainHead = `SELECT number, link, row_id FROM portcullis.audit_chains WHERE tenant_id = $1`

	sqlChainHeads = `SELECT tenant_id, number, link, row_id FROM portcullis.audit_chains ORDER BY tenant_id`

	// Locks are taken by ascending tenant, in two statements: the chains that are not
	// there yet first, where there are to be any.
	sqlMakeChains = `
INSERT INTO portcullis.audit_chains (tenant_id, number, link, row_id)
SELECT t.id, 0, $2, 0 FROM unnest($1::bigint[]) AS t (id)
WHERE (SELECT wrapped <> '' FROM portcullis.audit_state)
ORDER BY t.id
ON CONFLICT (tenant_id) DO NOTHING`

	sqlLockChains = `
SELECT tenant_id, number, link, row_id FROM portcullis.audit_chains WHERE tenant_id = ANY ($1) ORDER BY tenant_id FOR UPDATE`

	sqlMoveChain = `UPDATE portcullis.audit_chains SET number = $2, link = $3, row_id = $4 WHERE tenant_id = $1`
)

// auditState is the row that says whether and how what is done is recorded.
type auditState struct {
	enabled bool
	wrapped string // the chain's secret; "" where nothing is chained
	holder  string
	master  sealing.MasterID
	begun   bool // there are chains
}

func (a *auditState) dest() []any {
	return []any{&a.enabled, &a.wrapped, &a.holder, &a.master, &a.begun}
}

func readAuditState(ctx context.Context, q querier) (auditState, error) {
	var a auditState
	if err := q.QueryRow(ctx, sqlAuditState).Scan(a.dest()...); err != nil {
		return a, fmt.Errorf("read the state of the audit: %w", err)
	}
	return a, nil
}

func (a *auditState) chained() bool { return a.wrapped != "" }

func (a *auditState) state() *store.ChainState {
	if !a.chained() {
		return nil
	}
	return &store.ChainState{Holder: a.holder, Key: string(a.master)}
}

// openedChain is the chain's key, and the state that it was opened from.
type openedChain struct {
	from auditState
	key  *chain.Key
}

// chainKey opens the chain's secret, once for each wrapping of it. It is nil where
// nothing is chained, and store.ErrChain where the process has no key for it.
func (s *Store) chainKey(a auditState) (*chain.Key, error) {
	if !a.chained() {
		if a.begun {
			return nil, fmt.Errorf("%w: %w", store.ErrChain, errSecretGone)
		}
		return nil, nil
	}
	a.enabled, a.begun = true, true
	if opened := s.chain.Load(); opened != nil && opened.from == a {
		return opened.key, nil
	}
	secret, err := s.chainKeys.OpenChain(a.holder, a.master, a.wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	key, err := chain.NewKey(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	s.chain.Store(&openedChain{a, key})
	return key, nil
}

// checkChain stops an opening whose keys do not open the chain's secret.
func (s *Store) checkChain(ctx context.Context) error {
	a, err := readAuditState(ctx, s.pool)
	if err == nil {
		_, err = s.chainKey(a)
	}
	return err
}

// trail is the audit as one transaction adds to it.
type trail struct {
	state auditState
	key   *chain.Key // nil: the rows are in no chain
	heads map[store.TenantID]*store.ChainHead
}

// queue adds to a batch what opens the trail, with the ends of those tenants' chains,
// locked, that are there.
func (t *trail) queue(b *pgx.Batch, tenants []store.TenantID) {
	t.heads = make(map[store.TenantID]*store.ChainHead, len(tenants))
	b.Queue(sqlAuditState).QueryRow(func(row pgx.Row) error { return row.Scan(t.state.dest()...) })
	if len(tenants) > 0 {
		b.Queue(sqlLockChains, numbers(tenants)).Query(func(rows pgx.Rows) error { return t.hold(rows, nil) })
	}
}

// numbers are ids as every mode of the driver can send them.
func numbers(tenants []store.TenantID) []int64 {
	out := make([]int64, len(tenants))
	for i, id := range tenants {
		out[i] = int64(id)
	}
	return out
}

// hold keeps the ends of chains that were locked.
func (t *trail) hold(rows pgx.Rows, err error) error {
	return each(rows, err, func(scan func(...any) error) error {
		var tenant store.TenantID
		h := &store.ChainHead{}
		if err := scan(&tenant, &h.Number, fixed(h.Link[:]), &h.Row); err != nil {
			return err
		}
		h.Tenant = int64(tenant)
		t.heads[tenant] = h
		return nil
	})
}

// lock takes the ends of those tenants' chains that are not held yet.
func (t *trail) lock(ctx context.Context, tx pgx.Tx, tenants ...store.TenantID) error {
	if t.key == nil {
		return nil
	}
	tenants = slices.DeleteFunc(slices.Clone(tenants), func(id store.TenantID) bool { return t.heads[id] != nil })
	if len(tenants) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, sqlMakeChains, numbers(tenants), make([]byte, chain.Size)); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, sqlLockChains, numbers(tenants))
	if err := t.hold(rows, err); err != nil {
		return err
	}
	for _, id := range tenants {
		if t.heads[id] == nil {
			return fmt.Errorf("the end of the audit's chain of tenant %d is not there", id)
		}
	}
	return nil
}

// link moves the end of the entry's chain, which is held, behind the entry.
func (t *trail) link(e *store.AuditEntry) store.ChainLink {
	if t.key == nil {
		return store.ChainLink{}
	}
	head := t.heads[e.Tenant]
	head.Row = e.ID
	return e.Append(t.key, &head.Head)
}

// queueMoves writes where the chains of those tenants end by now.
func (t *trail) queueMoves(b *pgx.Batch, tenants ...store.TenantID) {
	if t.key == nil {
		return
	}
	for _, id := range tenants {
		h := t.heads[id]
		b.Queue(sqlMoveChain, int64(id), h.Number, h.Link[:], h.Row)
	}
}

// errNoChain is a need for a chain where there is none.
var errNoChain = fmt.Errorf("%w: the audit is in no chain: set AUTH_AUDIT_KEY (make a key with `portcullis key encryption`) and start the admin process", store.ErrChain)

var errSecretGone = errors.New("rows of the audit are in a chain whose secret is gone: restore audit_state from a backup")

// SetAudit implements store.AuditChains.
func (s *Store) SetAudit(ctx context.Context, by store.Actor, on bool) (store.Result, error) {
	return s.write(ctx, "turn the audit on or off", 0, by, func(tx *writeTx) (*store.Written, error) {
		w := store.AuditSet(tx.trail.state.enabled, on)
		if w.Outcome == store.OutcomeUnchanged {
			return nil, errNoWrite
		}
		tx.trail.state.enabled = true // for the row that says so
		_, err := tx.exec(sqlSetAudit, on)
		return w, err
	})
}

// AuditState implements store.AuditChains.
func (s *Store) AuditState(ctx context.Context) (store.AuditState, error) {
	var a auditState
	err := s.try(ctx, "read the state of the audit", func(ctx context.Context) (err error) {
		a, err = readAuditState(ctx, s.pool)
		return err
	})
	return store.AuditState{Enabled: a.enabled, Chained: a.chained(), Holder: a.holder, Master: string(a.master)}, err
}

// ChainKey implements store.AuditChains.
func (s *Store) ChainKey(ctx context.Context) (*chain.Key, error) {
	var key *chain.Key
	err := s.try(ctx, "open the audit's chain", func(ctx context.Context) error {
		a, err := readAuditState(ctx, s.pool)
		if err != nil {
			return err
		}
		key, err = s.chainKey(a)
		if err == nil && key == nil {
			err = errNoChain
		}
		return err
	})
	return key, err
}

// wrapChain wraps the secret where it belongs today.
func (tx *writeTx) wrapChain(secret []byte) (store.ChainState, error) {
	e, err := tx.encryption()
	if err != nil {
		return store.ChainState{}, err
	}
	keys := tx.store.chainKeys
	holder, master := keys.Wrapper(e.master)
	if holder == "" {
		return store.ChainState{}, fmt.Errorf("%w: there is no key to wrap its secret with: set AUTH_AUDIT_KEY (make one with `portcullis key encryption`)", store.ErrChain)
	}
	return store.ChainState{Holder: holder, Key: string(master)}, tx.putChain(secret, holder, master)
}

func (tx *writeTx) putChain(secret []byte, holder string, master sealing.MasterID) error {
	wrapped, err := tx.store.chainKeys.Of(holder).WrapSecret(sealing.ChainSecret, secret, master)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	_, err = tx.exec(sqlWrapChain, wrapped, holder, string(master))
	return err
}

func (tx *writeTx) chainSecret() ([]byte, error) {
	a := &tx.trail.state
	secret, err := tx.store.chainKeys.OpenChain(a.holder, a.master, a.wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	return secret, nil
}

// RewrapChain implements store.AuditChains.
func (s *Store) RewrapChain(ctx context.Context, by store.Actor) (store.Result, error) {
	return s.write(ctx, "rewrap the audit's key", 0, by, func(tx *writeTx) (*store.Written, error) {
		before := tx.trail.state.state()
		if before == nil {
			return nil, errNoChain
		}
		secret, err := tx.chainSecret()
		if err != nil {
			return nil, err
		}
		after, err := tx.wrapChain(secret)
		if err != nil {
			return nil, err
		}
		return store.ChainWritten(before, after), nil
	})
}

// rewrapChainMaster wraps the secret of the audit's chain under the first master,
// where a master wraps it.
func (tx *writeTx) rewrapChainMaster(first sealing.MasterID) (bool, error) {
	a := &tx.trail.state
	if a.holder != sealing.HeldByEncryption || a.master == first {
		return false, nil
	}
	secret, err := tx.chainSecret()
	if err != nil {
		return false, err
	}
	return true, tx.putChain(secret, a.holder, first)
}
