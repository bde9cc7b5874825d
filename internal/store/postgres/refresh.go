package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	refreshColumns = `f.id, f.key_id, f.family, f.tenant_id, f.client, f.principal_index, f.user_id, f.scope, f.created_at, f.expires_at,
       coalesce(f.revoked_at, 0), coalesce(t.used_at, 0)`

	// Pruning is not under the revision's lock: the family is held, or it is gone. $2 is
	// the token that is to come next.
	sqlRefreshToUse = `
SELECT EXISTS (SELECT FROM portcullis.refresh_tokens n WHERE n.digest = $2), ` + refreshColumns + `
FROM portcullis.refresh_tokens t JOIN portcullis.refresh_families f ON f.id = t.family_id WHERE t.digest = $1 FOR UPDATE OF f`

	sqlRefresh = `
SELECT e.key_id, e.former_key_id, ` + refreshColumns + `
FROM portcullis.refresh_tokens t JOIN portcullis.refresh_families f ON f.id = t.family_id
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = f.tenant_id WHERE t.digest = $1`

	sqlNewFamily = `
SELECT EXISTS (SELECT FROM portcullis.tenants WHERE id = $1), EXISTS (SELECT FROM portcullis.refresh_families WHERE family = $2),
       EXISTS (SELECT FROM portcullis.refresh_tokens WHERE digest = $3), nextval('portcullis.refresh_family_ids')`

	sqlInsertFamily = `
INSERT INTO portcullis.refresh_families (id, family, tenant_id, client, principal_index, user_id, key_id, scope, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

	sqlInsertRefresh = `
INSERT INTO portcullis.refresh_tokens (digest, family_id, access_issuer, access_id, access_expires, created_at) VALUES ($1, $2, $3, $4, $5, $6)`

	sqlUseRefresh = `UPDATE portcullis.refresh_tokens SET used_at = $1 WHERE digest = $2`

	accessOf = `
SELECT t.access_issuer, t.access_id, t.access_expires FROM portcullis.refresh_families f JOIN portcullis.refresh_tokens t ON t.family_id = f.id
WHERE t.access_expires > $1 AND f.revoked_at IS NULL AND `

	revokeFamilies = `UPDATE portcullis.refresh_families f SET revoked_at = $1 WHERE f.revoked_at IS NULL AND `

	thatFamily = `f.id = $2`

	ofClient = `f.tenant_id = $2 AND f.client = $3`

	ofUserUntil = `f.tenant_id = $2 AND f.principal_index = ANY ($3) AND f.created_at <= $4`

	// Its tokens go by the foreign key. It waits for no writer, and so cannot deadlock
	// with one.
	sqlPruneRefresh = `
DELETE FROM portcullis.refresh_families
WHERE id IN (SELECT id FROM portcullis.refresh_families WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)`
)

// refreshRow is a refresh token with its family as they lie in the tables: the
// user is sealed.
type refreshRow struct {
	id, keyID int64
	index     store.Index
	token     store.RefreshToken
}

func scanRefresh(scan func(dest ...any) error) (refreshRow, error) {
	var r refreshRow
	var created, expires, revoked, used int64
	t := &r.token
	err := scan(&r.id, &r.keyID, fixed(t.Family[:]), &t.Tenant, &t.Client, fixed(r.index[:]), &t.User, &t.Scope, &created, &expires, &revoked, &used)
	t.Created, t.Expires = store.FromNanos(created), store.FromNanos(expires)
	t.Revoked, t.Used = store.FromNanos(revoked), store.FromNanos(used)
	return r, err
}

func (r *refreshRow) place() sealing.Place {
	return sealing.RefreshUser(r.id, int64(r.token.Tenant), r.token.Family)
}

// openRefresh puts the user into the token.
func (s *Store) openRefresh(keys sealing.Keys, r *refreshRow) error {
	user, err := s.open(keys, r.keyID, r.token.User, r.place)
	if err != nil {
		return err
	}
	key, err := keys.Of(r.keyID, r.place())
	if err != nil {
		return s.noted(err)
	}
	if indexUnder(key, r.token.Tenant, policy.KindUser, user) != r.index {
		return s.noted(&sealing.Error{Place: r.place(), Key: r.keyID, Why: "it is another user's than its index says: the row was edited by other hands"})
	}
	r.token.User = user
	return nil
}

// refreshToUse is what a write finds of a refresh token.
type refreshToUse struct {
	refreshRow
	nextKnown bool
	// readable is the error of its user: the family can be revoked all the same, and
	// then its user is store.Unreadable.
	readable error
}

// refresh finds the token of a client; another's is store.ErrNotFound.
func (tx *writeTx) refresh(tenant store.TenantID, client string, token, next store.Digest) (r refreshToUse, err error) {
	r.refreshRow, err = scanRefresh(func(dest ...any) error {
		return tx.scan(sqlRefreshToUse, []any{token[:], next[:]}, append([]any{&r.nextKnown}, dest...)...)
	})
	if isNoRows(err) || err == nil && (r.token.Tenant != tenant || r.token.Client != client) {
		return r, fmt.Errorf("refresh token: %w", store.ErrNotFound)
	}
	if err != nil {
		return r, err
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return r, err
	}
	if err := tx.store.openRefresh(keys, &r.refreshRow); isUnreadable(err) {
		r.readable, r.token.User = err, store.Unreadable
	} else if err != nil {
		return r, err
	}
	return r, nil
}

// refreshArgs are the columns of a new token of the family.
func (tx *writeTx) refreshArgs(family int64, token store.Digest, access store.AccessToken) ([]any, error) {
	err := errors.Join(access.Check(), mustBeText("access token: issuer", access.Issuer), mustBeText("access token: id", access.ID))
	if err != nil {
		return nil, err
	}
	expires, err := store.ExpiryNanos(access.Expires)
	if err != nil {
		return nil, fmt.Errorf("access token: %w", err)
	}
	return []any{token[:], family, access.Issuer, access.ID, expires, tx.now.UnixNano()}, nil
}

// StartFamily implements store.RefreshTokens. A family without a time of its own
// begins now.
func (s *Store) StartFamily(ctx context.Context, by store.Actor, family store.RefreshFamily, token store.Digest, access store.AccessToken) (store.Result, error) {
	return s.write(ctx, "start refresh tokens", family.Tenant, by, func(tx *writeTx) (*store.Written, error) {
		f := family
		if err := errors.Join(f.Check(), mustBeText("user", f.User), mustBeText("client", f.Client), mustBeText("scope", f.Scope)); err != nil {
			return nil, err
		}
		if f.Created.IsZero() {
			f.Created = tx.now
		}
		expires, err := store.ExpiryNanos(f.Expires)
		if err != nil {
			return nil, err
		}
		var tenant, known, tokenKnown bool
		var row int64
		if err := tx.scan(sqlNewFamily, []any{int64(f.Tenant), f.Family[:], token[:]}, &tenant, &known, &tokenKnown, &row); err != nil {
			return nil, err
		}
		switch {
		case !tenant:
			return nil, fmt.Errorf("tenant %d: %w", f.Tenant, store.ErrNotFound)
		case known:
			return nil, fmt.Errorf("this family of refresh tokens: %w", store.ErrExists)
		case tokenKnown:
			return nil, fmt.Errorf("this refresh token: %w", store.ErrExists)
		}
		keys, err := tx.keys(f.Tenant)
		if err != nil {
			return nil, err
		}
		sealed, err := keys.Current.Seal(sealing.RefreshUser(row, int64(f.Tenant), f.Family), f.User)
		if err != nil {
			return nil, err
		}
		first, err := tx.refreshArgs(row, token, access)
		if err != nil {
			return nil, err
		}
		index := indexUnder(keys.Current, f.Tenant, policy.KindUser, f.User)
		b := &pgx.Batch{}
		b.Queue(sqlInsertFamily, row, f.Family[:], int64(f.Tenant), f.Client, index[:], sealed, keys.Current.KeyID(), f.Scope, f.Created.UnixNano(), expires)
		b.Queue(sqlInsertRefresh, first...)
		if err := tx.SendBatch(tx.ctx, b).Close(); err != nil {
			return nil, err
		}
		w := store.RefreshWritten(store.ActionIssueToken, store.OutcomeDone, &f)
		w.After = f.State()
		return w, nil
	})
}

// UseRefresh implements store.RefreshTokens.
func (s *Store) UseRefresh(ctx context.Context, by store.Actor, tenant store.TenantID, client string, token, next store.Digest, access store.AccessToken) (store.RefreshFamily, store.Result, error) {
	var family store.RefreshFamily
	reused := false
	result, err := s.write(ctx, "use refresh token", tenant, by, func(tx *writeTx) (*store.Written, error) {
		reused = false
		r, err := tx.refresh(tenant, client, token, next)
		if err != nil {
			return nil, err
		}
		switch {
		case !r.token.Revoked.IsZero():
			return nil, fmt.Errorf("refresh token: its family: %w", store.ErrRevoked)
		case !r.token.Used.IsZero():
			reused = true
			w, err := tx.revokeFamily(&r.refreshRow)
			if err == nil {
				w.Details = map[string]any{"reason": "reuse"}
			}
			family = r.token.RefreshFamily
			return w, err
		case !tx.now.Before(r.token.Expires):
			return nil, fmt.Errorf("refresh token: %w", store.ErrExpired)
		case r.readable != nil:
			return nil, r.readable
		case r.nextKnown:
			return nil, fmt.Errorf("this refresh token: %w", store.ErrExists)
		}
		fresh, err := tx.refreshArgs(r.id, next, access)
		if err != nil {
			return nil, err
		}
		b := &pgx.Batch{}
		b.Queue(sqlInsertRefresh, fresh...)
		b.Queue(sqlUseRefresh, tx.now.UnixNano(), token[:])
		if err := tx.SendBatch(tx.ctx, b).Close(); err != nil {
			return nil, err
		}
		family = r.token.RefreshFamily
		w := store.RefreshWritten(store.ActionRefreshToken, store.OutcomeDone, &family)
		w.After = family.State()
		return w, nil
	})
	if err != nil {
		return store.RefreshFamily{}, store.Result{}, err
	}
	if reused {
		return family, result, fmt.Errorf("use refresh token: %w", store.ErrReused)
	}
	return family, result, nil
}

// revokeFamily ends the family, and denies its access tokens that may still be
// taken.
func (tx *writeTx) revokeFamily(r *refreshRow) (*store.Written, error) {
	f := &r.token.RefreshFamily
	before, after := f.State(), f.State()
	w := store.RefreshWritten(store.ActionRevokeToken, store.OutcomeDone, f)
	_, denied, err := tx.revokeRefresh(&w.Changes, f.Tenant, thatFamily, r.id)
	if err != nil {
		return nil, err
	}
	f.Revoked = store.FromNanos(tx.now.UnixNano())
	after.Denied = denied
	w.Before, w.After = before, after
	return w, nil
}

// revokeClientFamilies ends what refresh tokens the client holds.
func (tx *writeTx) revokeClientFamilies(changes *store.ChangeSet, tenant store.TenantID, client string) (families int64, denied int, err error) {
	return tx.revokeRefresh(changes, tenant, ofClient, int64(tenant), client)
}

// revokeUserFamilies ends the user's refresh tokens of families that were begun up to
// a moment, in Unix nanoseconds.
func (tx *writeTx) revokeUserFamilies(changes *store.ChangeSet, tenant store.TenantID, user string, begun int64) (families int64, denied int, err error) {
	keys, err := tx.keys(tenant)
	if err != nil {
		return 0, 0, err
	}
	return tx.revokeRefresh(changes, tenant, ofUserUntil, int64(tenant), allIndexes(keys, tenant, policy.KindUser, user), begun)
}

// revokeRefresh ends the families that a condition finds, and denies their access
// tokens that may still be taken. It says how many there were of each. A family that
// is pruned meanwhile has expired, and is not counted.
func (tx *writeTx) revokeRefresh(changes *store.ChangeSet, tenant store.TenantID, which string, args ...any) (families int64, denied int, err error) {
	var live []store.AccessToken
	b := &pgx.Batch{}
	since := tx.now.Add(-store.TokenSkew).UnixNano()
	b.Queue(accessOf+which, append([]any{since}, args...)...).Query(func(rows pgx.Rows) error {
		return each(rows, nil, func(scan func(...any) error) error {
			var a store.AccessToken
			var expires int64
			err := scan(&a.Issuer, &a.ID, &expires)
			a.Expires = store.FromNanos(expires)
			live = append(live, a)
			return err
		})
	})
	b.Queue(revokeFamilies+which, append([]any{tx.now.UnixNano()}, args...)...).Exec(func(tag pgconn.CommandTag) error {
		families = tag.RowsAffected()
		return nil
	})
	if err := tx.SendBatch(tx.ctx, b).Close(); err != nil {
		return 0, 0, err
	}
	list := store.DenyAccessTokens(tenant, live)
	_, err = tx.deny(changes, list...)
	return families, len(list), err
}

// Refresh implements store.RefreshTokens.
func (s *Store) Refresh(ctx context.Context, token store.Digest) (store.RefreshToken, error) {
	var found store.RefreshToken
	err := s.try(ctx, "read refresh token", func(ctx context.Context) error {
		return startOver(func() error {
			var p pairScan
			r, err := scanRefresh(func(dest ...any) error {
				return s.pool.QueryRow(ctx, sqlRefresh, token[:]).Scan(append([]any{&p.current, &p.former}, dest...)...)
			})
			if isNoRows(err) {
				return store.ErrNotFound
			}
			if err != nil {
				return err
			}
			keys, err := s.keysOf(ctx, s.pool, r.token.Tenant, p.pair())
			if err == nil {
				err = s.openRefresh(keys, &r)
			}
			found = r.token
			return err
		})
	})
	if err != nil {
		return store.RefreshToken{}, err
	}
	return found, nil
}

// RevokeRefresh implements store.RefreshTokens.
func (s *Store) RevokeRefresh(ctx context.Context, by store.Actor, tenant store.TenantID, client string, token store.Digest) (store.Result, error) {
	return s.write(ctx, "revoke refresh token", tenant, by, func(tx *writeTx) (*store.Written, error) {
		r, err := tx.refresh(tenant, client, token, token)
		if err != nil {
			return nil, err
		}
		if !r.token.Revoked.IsZero() {
			return store.RefreshWritten(store.ActionRevokeToken, store.OutcomeUnchanged, &r.token.RefreshFamily), nil
		}
		return tx.revokeFamily(&r.refreshRow)
	})
}

// PruneRefresh implements store.RefreshTokens.
func (s *Store) PruneRefresh(ctx context.Context) error {
	return s.try(ctx, "prune refresh tokens", func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, sqlPruneRefresh, s.now().UnixNano())
		return err
	})
}

func resealRefresh(b *resealBatch, scan func(...any) error) error {
	r := refreshRow{token: store.RefreshToken{RefreshFamily: store.RefreshFamily{Tenant: b.tenant}}}
	if err := scan(&r.id, &r.keyID, fixed(r.index[:]), fixed(r.token.Family[:]), &r.token.User); err != nil {
		return err
	}
	if err := b.store.openRefresh(b.keys, &r); err != nil {
		return b.asItIs(err, r.id, &r.token.User, r.index[:])
	}
	sealed, err := b.keys.Current.Seal(r.place(), r.token.User)
	fresh := indexUnder(b.keys.Current, b.tenant, policy.KindUser, r.token.User)
	b.add(r.id, &sealed, fresh[:])
	return err
}
