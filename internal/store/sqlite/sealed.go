package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// pairAttempts is how often a read starts over because its tenant's keys were
// changed under it. Each change is a step of a rotation.
const pairAttempts = 8

const (
	// The pair of the tenant ?1, as the first columns of a row. Each query that finds
	// rows by an index joins it in, so that both are of one snapshot.
	pairColumns = `coalesce(k.key_id, 0), coalesce(k.former_key_id, 0), k.former_key_id IS NOT NULL`

	joinPair = ` LEFT JOIN tenant_keys AS k ON k.tenant_id = ?1 `

	sqlPair = `SELECT ` + pairColumns + ` FROM tenant_keys AS k WHERE k.tenant_id = ?1`

	sqlWrappedKey = `SELECT tenant_id, wrapped, master FROM encryption_keys WHERE id = ?`
)

// errOtherPair ends a query whose rows came with another pair than its indexes
// were computed under.
var errOtherPair = errors.New("the tenant's keys are others")

// scanPair are the places for pairColumns.
func scanPair(p *sealing.Pair) []any { return []any{&p.Current, &p.Former, &p.Rotating} }

// loadKey reads wrapped keys over c, so that a transaction sees its own.
func loadKey(c *conn) sealing.Load {
	return func(ctx context.Context, id int64) (sealing.Wrapped, bool, error) {
		w := sealing.Wrapped{ID: id}
		err := c.scan(ctx, sqlWrappedKey, args{id}, &w.Tenant, &w.Wrapped, &w.Master)
		if absent(err) {
			return w, false, nil
		}
		return w, err == nil, err
	}
}

// keysOf gives the keys of a pair. sealing.ErrKeyGone where the pair is outdated.
func (s *Store) keysOf(ctx context.Context, c *conn, tenant store.TenantID, p sealing.Pair) (sealing.Keys, error) {
	keys, err := s.ring.Keys(ctx, int64(tenant), p, loadKey(c))
	return keys, s.told(ctx, err)
}

// readKeys reads which keys the tenant's rows are under. It must run inside the
// snapshot or the write that the rows are read in.
func (s *Store) readKeys(ctx context.Context, c *conn, tenant store.TenantID) (sealing.Keys, error) {
	var p sealing.Pair
	if err := c.scan(ctx, sqlPair, args{int64(tenant)}, scanPair(&p)...); err != nil && !absent(err) {
		return sealing.Keys{}, fmt.Errorf("read the tenant's keys: %w", err)
	}
	s.ring.Learn(int64(tenant), p)
	keys, err := s.keysOf(ctx, c, tenant, p)
	if errors.Is(err, sealing.ErrKeyGone) {
		return keys, fmt.Errorf("%w: restore a backup", err)
	}
	return keys, err
}

// under runs a query by index: fn gets the keys to compute indexes under, and
// returns the pair that it read with its rows. Where the pairs differ, fn runs
// again. fn opens nothing before it has compared them.
func (s *Store) under(ctx context.Context, c *conn, tenant store.TenantID, fn func(keys sealing.Keys) (sealing.Pair, error)) error {
	guess := s.ring.Pair(int64(tenant))
	for range pairAttempts {
		keys, err := s.keysOf(ctx, c, tenant, guess)
		read := guess
		switch {
		case errors.Is(err, sealing.ErrKeyGone):
			read = sealing.Pair{}
			if err := c.scan(ctx, sqlPair, args{int64(tenant)}, scanPair(&read)...); err != nil && !absent(err) {
				return fmt.Errorf("read the tenant's keys: %w", err)
			}
			if read == guess {
				return fmt.Errorf("%w: restore a backup", err)
			}
		case err != nil:
			return err
		default:
			read, err = fn(keys)
			if !errors.Is(err, errOtherPair) && (err != nil || read == guess) {
				return err
			}
		}
		s.ring.Learn(int64(tenant), read)
		guess = read
	}
	return fmt.Errorf("the encryption keys of tenant %d changed %d times while its rows were read", tenant, pairAttempts)
}

// indexUnder is a principal's index under one key.
func indexUnder(key *sealing.Key, tenant store.TenantID, kind policy.Kind, id string) store.Index {
	if key == nil {
		return store.PlainIndex(tenant, kind, id)
	}
	return key.PrincipalIndex(kind.String(), id)
}

// indexes are all indexes that a principal's rows may have: current is what new
// ones get, and former is the same where there is no other.
func indexes(keys sealing.Keys, tenant store.TenantID, kind policy.Kind, id string) (current, former store.Index) {
	current = indexUnder(keys.Current, tenant, kind, id)
	if !keys.Pair.Rotating {
		return current, current
	}
	return current, indexUnder(keys.Former, tenant, kind, id)
}

// open opens a value of a row that names its key by id. What does not open is
// counted and logged, and a store.ErrUnreadable.
func (s *Store) open(ctx context.Context, keys sealing.Keys, id int64, p sealing.Place, sealed string) (string, error) {
	text, err := keys.Open(id, p, sealed)
	return text, s.told(ctx, err)
}

// strange is the error for a value that opens and does not belong where it was
// found.
func (s *Store) strange(ctx context.Context, p sealing.Place, why string) error {
	return s.told(ctx, &sealing.Error{Place: p, Why: why})
}

// whyIndex says that the index led to another's row.
const whyIndex = "it is not what its index says: the row was edited by other hands"

// told counts and logs a value that does not open, and makes its error a
// store.ErrUnreadable. It leaves other errors as they are.
func (s *Store) told(ctx context.Context, err error) error {
	var e *sealing.Error
	if !errors.As(err, &e) {
		return err
	}
	s.unreadable.add(e.Place)
	s.cfg.Logger.ErrorContext(ctx, "a sealed value does not open", "table", e.Place.Table, "column", e.Place.Column, "row", e.Place.Row, "why", e.Why)
	return &unreadableError{e}
}

// unreadableError is a sealing.Error that was counted and logged.
type unreadableError struct{ cause *sealing.Error }

func (e *unreadableError) Error() string { return e.cause.Error() }

// Is makes it a store.ErrUnreadable, and a sealing.ErrUnreadable.
func (e *unreadableError) Is(target error) bool {
	return target == store.ErrUnreadable || e.cause.Is(target)
}

func isUnreadable(err error) bool { return errors.Is(err, store.ErrUnreadable) }

// sealedColumns are what may turn out unreadable.
var sealedColumns = [...]sealing.Place{
	{Table: "memberships", Column: "principal_id"},
	{Table: "permissions", Column: "name"},
	{Table: "roles", Column: "description"},
	{Table: "user_keys", Column: "user_id"},
	{Table: "user_keys", Column: "label"},
	{Table: "audit", Column: "sealed"},
	{Table: "deny_list", Column: "principal_id"},
	{Table: "refresh_families", Column: "user_id"},
	{Table: "encryption_keys", Column: "wrapped"},
}

// unreadableCounts counts values that did not open, in the order of sealedColumns.
type unreadableCounts [len(sealedColumns)]atomic.Int64

func (u *unreadableCounts) add(p sealing.Place) {
	for i, known := range sealedColumns {
		if known.Table == p.Table && known.Column == p.Column {
			u[i].Add(1)
		}
	}
}

// newID gives the id of a row that is to be inserted under the key, by one of the
// queries below: what is sealed is bound to it. NULL, which lets SQLite choose, for
// a row in clear. It must run under the write lock.
func newID(ctx context.Context, c *conn, key *sealing.Key, query string) (sql.NullInt64, error) {
	var id sql.NullInt64
	if key == nil {
		return id, nil
	}
	err := c.scan(ctx, query, nil, &id)
	return id, err
}

const (
	nextIDHead = `SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = '`
	nextIDMid  = `'), 0), coalesce((SELECT max(id) FROM `
	nextIDTail = `), 0)) + 1`

	sqlNextMember     = nextIDHead + `memberships` + nextIDMid + `memberships` + nextIDTail
	sqlNextPermission = nextIDHead + `permissions` + nextIDMid + `permissions` + nextIDTail
	sqlNextRole       = nextIDHead + `roles` + nextIDMid + `roles` + nextIDTail
	sqlNextUserKey    = nextIDHead + `user_keys` + nextIDMid + `user_keys` + nextIDTail
	sqlNextAudit      = nextIDHead + `audit` + nextIDMid + `audit` + nextIDTail
	sqlNextDenial     = nextIDHead + `deny_list` + nextIDMid + `deny_list` + nextIDTail
	sqlNextRefresh    = nextIDHead + `refresh_families` + nextIDMid + `refresh_families` + nextIDTail
	sqlNextKey        = nextIDHead + `encryption_keys` + nextIDMid + `encryption_keys` + nextIDTail
)
