package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// commitTimeout bounds a COMMIT. It no longer watches the caller's context: a
// cancellation in the middle of it would leave the outcome unknown.
const commitTimeout = 10 * time.Second

const (
	// A writer that vanished without closing its connection must not hold the
	// revision row, and a database on synchronous_commit=off must not lose a
	// revocation that was acknowledged. Stricter settings than `on` stay.
	sqlWriteSettings = `
SELECT set_config('idle_in_transaction_session_timeout', '10s', true),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

	sqlLockRevision = `SELECT number, tag FROM portcullis.revision FOR UPDATE`

	// What a write needs to know of its tenant's encryption, and the id of its audit
	// row. It is a statement after the lock, so that it sees what the last writer did.
	sqlWriteKeys = `
SELECT nextval('portcullis.audit_ids'), e.key_id, e.former_key_id
FROM (SELECT) AS one LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1`

	sqlBumpRevision = `UPDATE portcullis.revision SET number = $1, tag = $2, committed_at = $3`

	sqlLogRevision = `INSERT INTO portcullis.revision_log (revision, tag, committed_at, ack) VALUES ($1, $2, $3, $4)`

	sqlLogChanges = `
INSERT INTO portcullis.change_log (revision, n, kind, tenant_id, principal_index, digest, gone, issued_before, expires_at)
SELECT $1, c.n - 1, c.kind, c.tenant_id, c.principal_index, c.digest, c.gone, c.issued_before, c.expires_at
FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::boolean[], $7::bigint[], $8::bigint[])
     WITH ORDINALITY AS c (kind, tenant_id, principal_index, digest, gone, issued_before, expires_at, n)`

	sqlCommitted = `
SELECT EXISTS (SELECT FROM portcullis.revision WHERE number = $1 AND tag = $2)
    OR EXISTS (SELECT FROM portcullis.revision_log WHERE revision = $1 AND tag = $2)`
)

// errNoWrite is what the work of a write returns when it wrote nothing and is to
// leave no trace: no revision, no audit row.
var errNoWrite = errors.New("nothing was written")

// writeTx is a write in progress: it holds the lock on the revision row, so it
// sees all that earlier writes committed.
type writeTx struct {
	pgx.Tx
	store   *Store
	ctx     context.Context
	now     time.Time
	head    store.Revision // the last committed write
	trail   trail
	auditID int64 // of the write's own audit row

	// pairs are what the tenants' rows are under, by what this transaction has read
	// since it took the lock, and what it has changed.
	pairs map[store.TenantID]sealing.Pair
	// made are the keys that this transaction has made. They are not in the ring: were it
	// rolled back, another might be given the same id.
	made map[int64]*sealing.Key
}

// keys are the tenant's, as they are now: nobody changes them while this write
// holds the lock.
func (tx *writeTx) keys(tenant store.TenantID) (sealing.Keys, error) {
	pair, known := tx.pairs[tenant]
	if !known {
		var p pairScan
		if err := tx.scan(sqlPair, []any{int64(tenant)}, &p.current, &p.former); err != nil {
			return sealing.Keys{}, err
		}
		pair = p.pair()
		tx.pairs[tenant] = pair
	}
	if made := tx.made[pair.Current]; made != nil {
		former := sealing.Pair{Current: pair.Former}
		keys, err := tx.keysOf(tenant, former)
		return sealing.Keys{Pair: pair, Current: made, Former: keys.Current}, err
	}
	return tx.keysOf(tenant, pair)
}

func (tx *writeTx) keysOf(tenant store.TenantID, p sealing.Pair) (sealing.Keys, error) {
	keys, err := tx.store.keysOf(tx.ctx, tx, tenant, p)
	if errors.Is(err, sealing.ErrKeyGone) {
		return keys, tx.store.missingKey(tx.ctx, tx, tenant, p)
	}
	return keys, err
}

// scan reads a query's first row into dest, or returns pgx.ErrNoRows.
func (tx *writeTx) scan(query string, args []any, dest ...any) error {
	return tx.QueryRow(tx.ctx, query, args...).Scan(dest...)
}

// exec runs a statement and returns the number of rows that it touched.
func (tx *writeTx) exec(query string, args ...any) (int64, error) {
	tag, err := tx.Exec(tx.ctx, query, args...)
	return tag.RowsAffected(), err
}

// names reads a query of one column of text.
func (tx *writeTx) names(query string, args ...any) ([]string, error) {
	rows, err := tx.Query(tx.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// unknownCommit says that the connection broke during COMMIT.
type unknownCommit struct {
	revision store.Revision
	err      error
}

func (u *unknownCommit) Error() string {
	return fmt.Sprintf("the connection broke during the commit of revision %d: %v", u.revision.Number, u.err)
}

func (u *unknownCommit) Unwrap() error { return u.err }

// write is the one way in which the tables of the contract change: one
// transaction that locks the revision row, runs do, adds the audit row and the
// change rows, bumps the revision with a new random tag, notifies, and commits.
// An error from do undoes everything and comes back. do may run several times,
// each in a transaction of its own, and must set what it hands out anew each
// time. what names the write in errors; tenant is whose rows it is about, 0 for none.
func (s *Store) write(ctx context.Context, what string, tenant store.TenantID, by store.Actor, do func(tx *writeTx) (*store.Written, error)) (store.Result, error) {
	return s.writeLocking(ctx, what, tenant, []store.TenantID{tenant}, by, do)
}

// writeLocking is write. It takes the ends of those tenants' chains with the lock, in
// its round trip; the one that the audit row belongs to is taken at last.
func (s *Store) writeLocking(ctx context.Context, what string, tenant store.TenantID, chains []store.TenantID, by store.Actor, do func(tx *writeTx) (*store.Written, error)) (store.Result, error) {
	var out store.Result
	err := s.try(ctx, what, func(ctx context.Context) error {
		var err error
		out, err = s.writeOnce(ctx, tenant, chains, by, do)
		var unknown *unknownCommit
		if errors.As(err, &unknown) {
			out, err = s.settle(ctx, unknown, out)
		}
		return err
	})
	if err != nil {
		return store.Result{}, err
	}
	return out, nil
}

func (s *Store) writeOnce(ctx context.Context, tenant store.TenantID, chains []store.TenantID, by store.Actor, do func(tx *writeTx) (*store.Written, error)) (store.Result, error) {
	tx, err := s.lock(ctx, tenant, chains)
	if err != nil {
		return store.Result{}, err
	}
	defer rollback(ctx, tx)

	w, err := do(tx)
	switch {
	case errors.Is(err, errNoWrite):
		return store.Result{Revision: tx.head, Outcome: store.OutcomeUnchanged}, nil
	case err != nil:
		return store.Result{}, err
	}
	out := store.Result{Revision: store.Revision{Number: tx.head.Number + 1}, Outcome: w.Outcome}
	rand.Read(out.Revision.Tag[:]) // never fails: it ends the program instead
	if err := tx.finish(by, out.Revision, w); err != nil {
		return store.Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Result{}, err
	}
	commitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := tx.Commit(commitCtx); err != nil {
		if disconnected(err) || commitCtx.Err() != nil {
			return out, &unknownCommit{out.Revision, err}
		}
		return store.Result{}, err
	}
	return out, nil
}

// lock begins a transaction, takes the revision row and the ends of those chains, and
// reads which keys the tenant is under, in one round trip.
func (s *Store) lock(ctx context.Context, tenant store.TenantID, chains []store.TenantID) (*writeTx, error) {
	w := &writeTx{store: s, ctx: ctx, made: make(map[int64]*sealing.Key)}
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	b.Queue(sqlWriteSettings)
	b.Queue(sqlLockRevision).QueryRow(func(row pgx.Row) error {
		return row.Scan(&w.head.Number, fixed(w.head.Tag[:]))
	})
	w.trail.queue(b, chains)
	var p pairScan
	b.Queue(sqlWriteKeys, int64(tenant)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&w.auditID, &p.current, &p.former)
	})
	var err error
	if w.Tx, err = s.sendTx(ctx, b); err != nil {
		return nil, err
	}
	if w.trail.key, err = s.chainKey(w.trail.state); err != nil {
		rollback(ctx, w)
		return nil, err
	}
	w.now = s.now()
	w.pairs = map[store.TenantID]sealing.Pair{tenant: p.pair()}
	s.ring.Learn(int64(tenant), p.pair())
	return w, nil
}

// sendTx sends a batch that begins a transaction, and returns it to be ended.
func (s *Store) sendTx(ctx context.Context, b *pgx.Batch) (pgx.Tx, error) {
	results := s.pool.SendBatch(ctx, b)
	tx := results.Tx()
	if err := results.Close(); err != nil {
		if tx != nil {
			rollback(ctx, tx)
		}
		return nil, err
	}
	return tx, nil
}

// rollback ends a transaction; after a commit it does nothing. It does not watch
// ctx, since a canceled one would close the connection instead of giving it back.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // a connection on which it fails is closed, which rolls back
}

// finish adds what belongs to every write: the audit row, the change rows, the
// new revision and the notification, in one round trip.
func (tx *writeTx) finish(by store.Actor, revision store.Revision, w *store.Written) error {
	b := &pgx.Batch{}
	if err := tx.record(b, by, revision, w); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	rows := w.Changes.Rows(revision.Number)
	payload, err := encodeNotice(revision, rows)
	if err != nil {
		return err
	}
	b.Queue(sqlLogRevision, revision.Number, revision.Tag[:], tx.now, by.Ack)
	if len(rows) > 0 {
		b.Queue(sqlLogChanges, changeArgs(revision.Number, rows)...)
	}
	b.Queue(sqlBumpRevision, revision.Number, revision.Tag[:], tx.now)
	b.Queue(sqlNotify, payload)
	return tx.SendBatch(tx.ctx, b).Close()
}

// record adds the write's audit row to a batch, unless that is turned off.
func (tx *writeTx) record(b *pgx.Batch, by store.Actor, revision store.Revision, w *store.Written) error {
	if !tx.trail.state.enabled {
		return nil
	}
	entry, err := w.Entry(by, tx.now, revision.Number)
	if err != nil {
		return err
	}
	keys, err := tx.keys(entry.Tenant)
	if err != nil {
		return err
	}
	if err := tx.lockChains(entry.Tenant); err != nil {
		return err
	}
	entry = keptAudit(&entry)
	entry.ID = tx.auditID
	row, err := auditArgs(entry, tx.trail.link(&entry), keys.Current)
	if err != nil {
		return err
	}
	b.Queue(sqlInsertAudit, row...)
	tx.trail.queueMoves(b, entry.Tenant)
	return nil
}

// lockChains takes the ends of those tenants' chains that this write does not hold
// yet. The id of its audit row is one behind all that they have.
func (tx *writeTx) lockChains(tenants ...store.TenantID) error {
	held := len(tx.trail.heads)
	if err := tx.trail.lock(tx.ctx, tx, tenants...); err != nil || len(tx.trail.heads) == held {
		return err
	}
	ids, err := tx.ids(sqlAuditIDs, 1)
	if err == nil {
		tx.auditID = ids[0]
	}
	return err
}

// settle finds out whether a commit whose connection broke went through. It
// waits for the revision row, which the old transaction holds until it has ended
// in either way; then the log has the pair or never will.
func (s *Store) settle(ctx context.Context, u *unknownCommit, out store.Result) (store.Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	var committed bool
	err := again(ctx, s.pool, func() error {
		tx, err := s.lock(ctx, 0, nil)
		if err != nil {
			return err
		}
		defer rollback(ctx, tx)
		return tx.QueryRow(ctx, sqlCommitted, u.revision.Number, u.revision.Tag[:]).Scan(&committed)
	})
	switch {
	case err != nil:
		return store.Result{}, final{fmt.Errorf("%w, and whether it was made cannot be told: %w", u, err)}
	case !committed:
		return store.Result{}, u.err
	}
	return out, nil
}

func changeArgs(revision int64, rows []store.Change) []any {
	n := len(rows)
	kinds, tenants, gone := make([]int16, n), make([]int64, n), make([]bool, n)
	indexes, digests := make([][]byte, n), make([][]byte, n) // nil is NULL
	before, expires := make([]int64, n), make([]int64, n)
	for i, row := range rows {
		kinds[i], tenants[i], gone[i] = int16(row.Kind), int64(row.Tenant), row.Gone
		before[i], expires[i] = row.Before, row.Expires
		switch row.Kind {
		case store.ChangeGrant:
			indexes[i] = row.Index[:]
		case store.ChangeKey, store.ChangeDenial:
			digests[i] = row.Digest[:]
		}
	}
	return []any{revision, kinds, tenants, indexes, digests, gone, before, expires}
}
