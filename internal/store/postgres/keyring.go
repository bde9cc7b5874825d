package postgres

import (
	"context"
	"errors"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlPair = `SELECT e.key_id, e.former_key_id FROM (SELECT) AS one LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1`

	sqlWrappedKey = `SELECT id, tenant_id, wrapped, master FROM portcullis.encryption_keys WHERE id = $1`
)

// keyAttempts bounds how often a call starts over because its tenant's keys
// changed under it. A rotation changes them twice.
const keyAttempts = 8

// pairScan is the destination of a tenant's key_id and former_key_id, from an outer
// join with portcullis.tenant_keys.
type pairScan struct{ current, former *int64 }

func (p *pairScan) pair() sealing.Pair {
	return sealing.Pair{Current: orZero(p.current), Former: orZero(p.former), Rotating: p.former != nil}
}

// otherPair is the error of a read that found the tenant under other keys than
// those that it looked for.
type otherPair struct{ found sealing.Pair }

func (o *otherPair) Error() string {
	return fmt.Sprintf("the tenant's encryption keys have changed: they are %d and %d now", o.found.Current, o.found.Former)
}

// under compares the pair that was read beside rows with the one that they were
// looked up under.
func (p *pairScan) under(keys sealing.Keys) error {
	if found := p.pair(); found != keys.Pair {
		return &otherPair{found}
	}
	return nil
}

// withKeys runs do with the keys that the tenant was last heard to use. do reads the
// tenant's pair in the snapshot of its rows, and returns what `under` says of it
// before it opens any; where they differ, it runs again with the others.
func (s *Store) withKeys(ctx context.Context, tenant store.TenantID, do func(keys sealing.Keys) error) error {
	var err error
	for range keyAttempts {
		assumed := s.ring.Pair(int64(tenant))
		var keys sealing.Keys
		if keys, err = s.keysOf(ctx, s.pool, tenant, assumed); err == nil {
			err = do(keys)
		}
		var other *otherPair
		switch {
		case errors.As(err, &other):
			s.ring.Learn(int64(tenant), other.found)
		case errors.Is(err, sealing.ErrKeyGone):
			var now pairScan
			if err := s.pool.QueryRow(ctx, sqlPair, int64(tenant)).Scan(&now.current, &now.former); err != nil {
				return err
			}
			if now.pair() == assumed {
				return s.missingKey(ctx, s.pool, tenant, assumed)
			}
			s.ring.Learn(int64(tenant), now.pair())
		default:
			return err
		}
	}
	return err
}

// startOver runs do, which reads rows with their pair and loads keys for it, until
// no key was retired in between.
func startOver(do func() error) error {
	var err error
	for range keyAttempts {
		if err = do(); !errors.Is(err, sealing.ErrKeyGone) {
			return err
		}
	}
	return err
}

// keysOf gives the keys of a pair. Those that are not held yet are read over q:
// inside of a transaction that is the transaction, since a second connection may
// not be to be had. sealing.ErrKeyGone where the pair is outdated.
func (s *Store) keysOf(ctx context.Context, q querier, tenant store.TenantID, p sealing.Pair) (sealing.Keys, error) {
	keys, err := s.ring.Keys(ctx, int64(tenant), p, loadOver(q))
	return keys, s.noted(err)
}

func loadOver(q querier) sealing.Load {
	return func(ctx context.Context, id int64) (sealing.Wrapped, bool, error) {
		var w sealing.Wrapped
		err := q.QueryRow(ctx, sqlWrappedKey, id).Scan(&w.ID, &w.Tenant, &w.Wrapped, &w.Master)
		if isNoRows(err) {
			return w, false, nil
		}
		return w, true, err
	}
}

// missingKey is the error where a tenant's pair names a key that is not there: ids
// are not reused and both go in one transaction, so other hands took it away.
func (s *Store) missingKey(ctx context.Context, q querier, tenant store.TenantID, p sealing.Pair) error {
	id := p.Current
	if _, err := s.ring.Key(ctx, int64(tenant), id, loadOver(q)); err == nil {
		id = p.Former
	}
	return s.noted(&sealing.Error{
		Place: sealing.Place{Table: "encryption_keys", Column: "wrapped", Row: id}, Key: id,
		Why: "the row is missing: restore it from a backup",
	})
}

// indexUnder is a principal's index under one key of the tenant.
func indexUnder(k *sealing.Key, tenant store.TenantID, kind policy.Kind, id string) store.Index {
	if k == nil {
		return store.PlainIndex(tenant, kind, id)
	}
	return k.PrincipalIndex(kind.String(), id)
}

// liveIndexes are a principal's indexes under every key that rows may be under.
func liveIndexes(keys sealing.Keys, tenant store.TenantID, kind policy.Kind, id string) [][]byte {
	var out [][]byte
	for _, k := range keys.Live() {
		index := indexUnder(k, tenant, kind, id)
		out = append(out, index[:])
	}
	return out
}

// allIndexes are liveIndexes and the one in clear: what other hands put into a
// sealed tenant can be taken away.
func allIndexes(keys sealing.Keys, tenant store.TenantID, kind policy.Kind, id string) [][]byte {
	out := liveIndexes(keys, tenant, kind, id)
	if !keys.Pair.Admits(0) {
		index := store.PlainIndex(tenant, kind, id)
		out = append(out, index[:])
	}
	return out
}

// permissionIndexes are a permission's indexes under every key that rows may be
// under. A permission in clear has none, and is found by its name.
func permissionIndexes(keys sealing.Keys, role policy.RoleID, name string) [][]byte {
	out := [][]byte{} // none is an empty array, and no NULL
	for _, k := range keys.Live() {
		if k != nil {
			index := k.PermissionIndex(int64(role), name)
			out = append(out, index[:])
		}
	}
	return out
}
