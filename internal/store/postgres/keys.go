package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlKeyList = `SELECT ` + keyColumns + ` FROM portcullis.client_keys k WHERE k.tenant_id = $1 ORDER BY k.name, k.created_at, k.id`

	// In the order of ids, as FoldReports takes them: the two cannot deadlock.
	sqlKeysOfName = `SELECT ` + keyColumns + ` FROM portcullis.client_keys k WHERE k.tenant_id = $1 AND k.name = $2 ORDER BY k.id FOR UPDATE`

	sqlKeyByDigest = `SELECT tenant_id, coalesce(expires_at, 0), coalesce(revoked_at, 0) FROM portcullis.client_keys WHERE digest = $1`

	sqlInsertKey = `
INSERT INTO portcullis.client_keys (tenant_id, name, digest, prefix, scopes, created_at, expires_at, rotate_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`

	sqlRevokeKey = `UPDATE portcullis.client_keys SET revoked_at = $1 WHERE id = $2`

	sqlExpireKey = `UPDATE portcullis.client_keys SET expires_at = $1 WHERE id = $2`
)

// KeyList implements store.Store.
func (s *Store) KeyList(ctx context.Context, tenant store.TenantID) ([]store.ClientKey, error) {
	var list []store.ClientKey
	err := s.try(ctx, "list client keys", func(ctx context.Context) (err error) {
		list, err = keys(ctx, s.pool, sqlKeyList, int64(tenant))
		return err
	})
	return list, err
}

func keys(ctx context.Context, q querier, query string, args ...any) ([]store.ClientKey, error) {
	var list []store.ClientKey
	rows, err := q.Query(ctx, query, args...)
	err = each(rows, err, func(scan func(...any) error) error {
		var k keyScan
		if err := scan(k.dest()...); err != nil {
			return err
		}
		list = append(list, *k.found())
		return nil
	})
	return list, err
}

// insertKey adds the key's row and says so in w.
func (tx *writeTx) insertKey(key store.NewKey, w *store.Written) (store.ClientKey, error) {
	scopes, err := store.JoinScopes(key.Scopes)
	if err != nil {
		return store.ClientKey{}, err
	}
	expires, err := store.ExpiryNanos(key.Expires)
	if err != nil {
		return store.ClientKey{}, err
	}
	rotate, err := store.ExpiryNanos(key.RotateAt)
	if err != nil {
		return store.ClientKey{}, fmt.Errorf("rotate at: %w", err)
	}
	if key.Name == "" {
		return store.ClientKey{}, errors.New("name: is empty: give the client a name")
	}
	if err := errors.Join(mustBeText("name", key.Name), mustBeText("prefix", key.Prefix)); err != nil {
		return store.ClientKey{}, err
	}
	if _, err := tx.tenant(key.Tenant); err != nil {
		return store.ClientKey{}, err
	}
	made := store.ClientKey{
		Tenant:   key.Tenant,
		Name:     key.Name,
		Digest:   key.Digest,
		Prefix:   key.Prefix,
		Scopes:   store.SplitScopes(scopes),
		Created:  store.FromNanos(tx.now.UnixNano()),
		Expires:  store.FromNanos(expires),
		RotateAt: store.FromNanos(rotate),
	}
	err = tx.scan(sqlInsertKey,
		[]any{int64(key.Tenant), key.Name, key.Digest[:], key.Prefix, scopes, tx.now.UnixNano(), orNull(expires), orNull(rotate)}, &made.ID)
	if err != nil {
		return store.ClientKey{}, err
	}
	w.Outcome = store.OutcomeDone
	w.Tenant = key.Tenant
	w.Action = store.ActionCreateClientKey
	w.Resource = store.ClientKeyResource(key.Name)
	w.After = keyState(&made)
	w.Changes.Key(key.Tenant, key.Digest, false)
	return made, nil
}

func keyState(k *store.ClientKey) store.ClientKeyState {
	return store.ClientKeyState{Prefix: k.Prefix, Scopes: k.Scopes, Expires: store.AuditTime(k.Expires)}
}

// CreateKey implements store.Store.
func (s *Store) CreateKey(ctx context.Context, by store.Actor, key store.NewKey) (store.ClientKey, store.Result, error) {
	var made store.ClientKey
	result, err := s.write(ctx, "create client key", key.Tenant, by, func(tx *writeTx) (*store.Written, error) {
		known, _, err := tx.knownKey(key.Digest)
		if err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("this secret: %w", store.ErrExists)
		}
		w := &store.Written{}
		made, err = tx.insertKey(key, w)
		return w, err
	})
	if err != nil {
		return store.ClientKey{}, store.Result{}, err
	}
	return made, result, nil
}

// knownKey reports whether the digest was ever registered, and whether it still
// opens something.
func (tx *writeTx) knownKey(digest store.Digest) (known, live bool, err error) {
	owner, live, err := tx.ownerOfKey(digest)
	return owner != 0, live, err
}

// ownerOfKey is the tenant that the digest was registered for, 0 for none.
func (tx *writeTx) ownerOfKey(digest store.Digest) (owner store.TenantID, live bool, err error) {
	var expires, revoked int64
	switch err := tx.scan(sqlKeyByDigest, []any{digest[:]}, &owner, &expires, &revoked); {
	case isNoRows(err):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return owner, revoked == 0 && (expires == 0 || expires > tx.now.UnixNano()), nil
}

// RevokeKeys implements store.Store. The access tokens that the client was issued
// are denied in the same write. Secrets that have expired are revoked too:
// a clock that is set back must not open them again.
func (s *Store) RevokeKeys(ctx context.Context, by store.Actor, tenant store.TenantID, name string) (int, store.Result, error) {
	revoked := 0
	result, err := s.write(ctx, "revoke client keys", tenant, by, func(tx *writeTx) (*store.Written, error) {
		revoked = 0
		all, err := tx.keysOfName(tenant, name)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("client key %q: %w", name, store.ErrNotFound)
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Tenant:   tenant,
			Action:   store.ActionRevokeClientKey,
			Resource: store.ClientKeyResource(name),
		}
		var before store.ClientState
		for i := range all {
			if !all[i].Revoked.IsZero() {
				continue
			}
			if _, err := tx.exec(sqlRevokeKey, tx.now.UnixNano(), all[i].ID); err != nil {
				return nil, err
			}
			revoked++
			before.Keys = append(before.Keys, keyState(&all[i]))
			w.Changes.Key(tenant, all[i].Digest, true)
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		before.Memberships, err = tx.exec(sqlDeletePrincipal, int64(tenant), allIndexes(keys, tenant, policy.KindClient, name))
		if err != nil {
			return nil, err
		}
		if before.Memberships > 0 {
			w.Changes.Grant(tenant, indexUnder(keys.Current, tenant, policy.KindClient, name))
		}
		if before.Families, before.Denied, err = tx.revokeClientFamilies(&w.Changes, tenant, name); err != nil {
			return nil, err
		}
		if revoked > 0 || before.Memberships > 0 || before.Families > 0 {
			if _, err := tx.deny(&w.Changes, store.DenyClient(tenant, name, tx.now)); err != nil {
				return nil, err
			}
			w.Outcome = store.OutcomeDone
			w.Before = before
		}
		return w, nil
	})
	if err != nil {
		return 0, store.Result{}, err
	}
	return revoked, result, nil
}

func (tx *writeTx) keysOfName(tenant store.TenantID, name string) ([]store.ClientKey, error) {
	if !isText(name) {
		return nil, nil
	}
	return keys(tx.ctx, tx, sqlKeysOfName, int64(tenant), name)
}

// RegisterKey implements store.Store.
func (s *Store) RegisterKey(ctx context.Context, by store.Actor, key store.NewKey, overlap time.Duration) (store.Result, error) {
	return s.write(ctx, "register client key", key.Tenant, by, func(tx *writeTx) (*store.Written, error) {
		known, live, err := tx.knownKey(key.Digest)
		switch {
		case err != nil:
			return nil, err
		case live:
			return nil, errNoWrite
		case known:
			return nil, fmt.Errorf("this secret was withdrawn, make a new one: %w", store.ErrRevoked)
		}
		if overlap < 0 {
			return nil, fmt.Errorf("overlap: %s is below 0", overlap)
		}
		until, err := store.ExpiryNanos(tx.now.Add(overlap))
		if err != nil {
			return nil, fmt.Errorf("overlap: %w", err)
		}
		former, err := tx.keysOfName(key.Tenant, key.Name)
		if err != nil {
			return nil, err
		}
		w := &store.Written{}
		if _, err := tx.insertKey(key, w); err != nil {
			return nil, err
		}
		var before store.ClientState
		for i := range former {
			k := &former[i]
			if !k.Revoked.IsZero() || (!k.Expires.IsZero() && k.Expires.UnixNano() <= until) {
				continue
			}
			if _, err := tx.exec(sqlExpireKey, until, k.ID); err != nil {
				return nil, err
			}
			before.Keys = append(before.Keys, keyState(k))
			w.Changes.Key(key.Tenant, k.Digest, until <= tx.now.UnixNano())
		}
		if len(before.Keys) > 0 {
			w.Before = before
			w.Details = map[string]any{"former_expire": store.AuditTime(store.FromNanos(until))}
		}
		return w, nil
	})
}
