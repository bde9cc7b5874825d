package sqlite

import (
	"context"
	"errors"
	"fmt"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	sqlAuditState = `SELECT enabled, wrapped, holder, master, EXISTS (SELECT 1 FROM audit_chains) FROM audit_state`

	sqlSetAudit = `UPDATE audit_state SET enabled = ?`

	sqlWrapChain = `UPDATE audit_state SET wrapped = ?, holder = ?, master = ?`

	sqlChainHead = `SELECT number, link, row_id FROM audit_chains WHERE tenant_id = ?`

	sqlChainHeads = `SELECT tenant_id, number, link, row_id FROM audit_chains ORDER BY tenant_id`

	sqlMoveChain = `INSERT INTO audit_chains (tenant_id, number, link, row_id) VALUES (?, ?, ?, ?)
		ON CONFLICT (tenant_id) DO UPDATE SET number = excluded.number, link = excluded.link, row_id = excluded.row_id`
)

// auditState is the row that says whether and how what is done is recorded.
type auditState struct {
	enabled bool
	wrapped string // the chain's secret; "" where nothing is chained
	holder  string
	master  sealing.MasterID
	begun   bool // there are chains
}

func readAuditState(ctx context.Context, c *conn) (auditState, error) {
	var a auditState
	if err := c.scan(ctx, sqlAuditState, nil, &a.enabled, &a.wrapped, &a.holder, &a.master, &a.begun); err != nil {
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

// chainKeys are the keys that may wrap the chain's secret.
func (s *Store) chainKeys() sealing.ChainKeys {
	return sealing.ChainKeys{Audit: s.cfg.AuditKeys, Encryption: s.cfg.Masters}
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
	secret, err := s.chainKeys().OpenChain(a.holder, a.master, a.wrapped)
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
	return s.retryBusy(ctx, func() error {
		return s.reader.with(ctx, func(c *conn) error {
			a, err := readAuditState(ctx, c)
			if err == nil {
				_, err = s.chainKey(a)
			}
			return err
		})
	})
}

// trail is the audit as one transaction adds to it.
type trail struct {
	c       *conn
	enabled bool
	key     *chain.Key // nil: the rows are in no chain
	heads   map[store.TenantID]*chain.Head
}

// openTrail reads the audit's state. c holds SQLite's write lock.
func (s *Store) openTrail(ctx context.Context, c *conn) (*trail, error) {
	a, err := readAuditState(ctx, c)
	if err != nil {
		return nil, err
	}
	key, err := s.chainKey(a)
	if err != nil {
		return nil, err
	}
	return &trail{c: c, enabled: a.enabled, key: key, heads: make(map[store.TenantID]*chain.Head, 1)}, nil
}

// add writes a row under the encryption key of its tenant, at the end of the tenant's
// chain.
func (t *trail) add(ctx context.Context, key *sealing.Key, e store.AuditEntry) error {
	id, err := newID(ctx, t.c, key, sqlNextAudit)
	if err != nil {
		return err
	}
	var number int64
	var commitment, link []byte
	if t.key != nil {
		if !id.Valid {
			if err := t.c.scan(ctx, sqlNextAudit, nil, &id); err != nil {
				return err
			}
		}
		e.ID = id.Int64
		to, err := t.link(ctx, &e)
		if err != nil {
			return err
		}
		number, commitment, link = to.Number, to.Commitment[:], to.Link[:]
	}
	h, err := hideAudit(key, id.Int64, &e)
	if err != nil {
		return err
	}
	_, err = t.c.exec(ctx, sqlInsertAudit, e.Time.UnixNano(), int64(e.Tenant), e.Actor, e.User, string(e.Action), e.Resource,
		e.Before, e.After, e.Details, e.Outcome, e.Success, e.Address, e.UserAgent, e.RequestID, e.Revision,
		id, key.KeyID(), h.index, h.sealed, number, commitment, link)
	return err
}

// link moves the end of the tenant's chain behind the entry.
func (t *trail) link(ctx context.Context, e *store.AuditEntry) (store.ChainLink, error) {
	head := t.heads[e.Tenant]
	if head == nil {
		read, err := readHead(ctx, t.c, e.Tenant)
		if err != nil {
			return store.ChainLink{}, err
		}
		head = &read.Head
		t.heads[e.Tenant] = head
	}
	to := e.Append(t.key, head)
	_, err := t.c.exec(ctx, sqlMoveChain, int64(e.Tenant), to.Number, to.Link[:], e.ID)
	return to, err
}

// readHead reads the end of a tenant's chain.
func readHead(ctx context.Context, c *conn, tenant store.TenantID) (store.ChainHead, error) {
	h := store.ChainHead{}
	h.Tenant = int64(tenant)
	err := c.scan(ctx, sqlChainHead, args{int64(tenant)}, &h.Number, fixed(h.Link[:]), &h.Row)
	if absent(err) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("read the end of the audit's chain: %w", err)
	}
	return h, nil
}

// errNoChain is a need for a chain where there is none.
var errNoChain = fmt.Errorf("%w: the audit is in no chain: set AUTH_AUDIT_KEY (make a key with `portcullis key encryption`) and start the admin process", store.ErrChain)

// SetAudit implements store.AuditChains.
func (s *Store) SetAudit(ctx context.Context, by store.Actor, on bool) (store.Result, error) {
	return s.write(ctx, "turn the audit on or off", by, func(tx *writeTx) (*store.Written, error) {
		w := store.AuditSet(tx.trail.enabled, on)
		if w.Outcome == store.OutcomeUnchanged {
			return nil, errNoWrite
		}
		tx.trail.enabled = true // for the row that says so
		_, err := tx.exec(tx.ctx, sqlSetAudit, on)
		return w, err
	})
}

// AuditState implements store.AuditChains.
func (s *Store) AuditState(ctx context.Context) (store.AuditState, error) {
	var a auditState
	err := s.borrowing(ctx, "read the state of the audit", func(ctx context.Context, c *conn) (err error) {
		a, err = readAuditState(ctx, c)
		return err
	})
	return store.AuditState{Enabled: a.enabled, Chained: a.chained(), Holder: a.holder, Master: string(a.master)}, err
}

// wrapChain wraps the secret where it belongs today.
func (tx *writeTx) wrapChain(secret []byte) (store.ChainState, error) {
	e, err := readEncryption(tx.ctx, tx.conn)
	if err != nil {
		return store.ChainState{}, err
	}
	var under sealing.MasterID
	if e != nil {
		under = e.master
	}
	keys := tx.store.chainKeys()
	holder, master := keys.Wrapper(under)
	if holder == "" {
		return store.ChainState{}, fmt.Errorf("%w: there is no key to wrap its secret with: set AUTH_AUDIT_KEY (make one with `portcullis key encryption`)", store.ErrChain)
	}
	wrapped, err := keys.Of(holder).WrapSecret(sealing.ChainSecret, secret, master)
	if err != nil {
		return store.ChainState{}, fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	_, err = tx.exec(tx.ctx, sqlWrapChain, wrapped, holder, string(master))
	return store.ChainState{Holder: holder, Key: string(master)}, err
}

// RewrapChain implements store.AuditChains.
func (s *Store) RewrapChain(ctx context.Context, by store.Actor) (store.Result, error) {
	return s.write(ctx, "rewrap the audit's key", by, func(tx *writeTx) (*store.Written, error) {
		before, after, err := tx.rewrapChain()
		if err != nil {
			return nil, err
		}
		if before == nil {
			return nil, errNoChain
		}
		return store.ChainWritten(before, after), nil
	})
}

// rewrapChain wraps the secret anew, unless it is where it belongs; before is nil
// where there is none.
func (tx *writeTx) rewrapChain() (before *store.ChainState, after store.ChainState, err error) {
	a, err := readAuditState(tx.ctx, tx.conn)
	if err != nil || !a.chained() {
		return nil, after, err
	}
	secret, err := tx.store.chainKeys().OpenChain(a.holder, a.master, a.wrapped)
	if err != nil {
		return nil, after, fmt.Errorf("%w: %w", store.ErrChain, err)
	}
	after, err = tx.wrapChain(secret)
	return a.state(), after, err
}

// ChainKey implements store.AuditChains.
func (s *Store) ChainKey(ctx context.Context) (*chain.Key, error) {
	var key *chain.Key
	err := s.borrowing(ctx, "open the audit's chain", func(ctx context.Context, c *conn) error {
		a, err := readAuditState(ctx, c)
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

var errSecretGone = errors.New("rows of the audit are in a chain whose secret is gone: restore audit_state from a backup")
