package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlFamilyKnown = `SELECT EXISTS (SELECT 1 FROM refresh_families WHERE family = ?)`

	sqlInsertFamily = `INSERT INTO refresh_families (id, family, tenant_id, client, principal_index, user_id, key_id, scope, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`

	sqlRefreshKnown = `SELECT EXISTS (SELECT 1 FROM refresh_tokens WHERE digest = ?)`

	sqlInsertRefresh = `INSERT INTO refresh_tokens (digest, family_id, access_issuer, access_id, access_expires, created_at)
		VALUES (?, ?, ?, ?, ?, ?)`

	sqlRefresh = `SELECT f.id, f.key_id, f.family, f.tenant_id, f.client, f.principal_index, f.user_id, f.scope, f.created_at, f.expires_at,
			coalesce(f.revoked_at, 0), coalesce(t.used_at, 0)
		FROM refresh_tokens AS t JOIN refresh_families AS f ON f.id = t.family_id WHERE t.digest = ?`

	sqlUseRefresh = `UPDATE refresh_tokens SET used_at = ? WHERE digest = ?`

	sqlRevokeFamily = `UPDATE refresh_families SET revoked_at = ? WHERE id = ?`

	sqlAccessOf = `SELECT access_issuer, access_id, access_expires FROM refresh_tokens WHERE access_expires > ? AND family_id = ?`

	accessOf = `SELECT t.access_issuer, t.access_id, t.access_expires FROM refresh_families AS f JOIN refresh_tokens AS t ON t.family_id = f.id
		WHERE t.access_expires > ? AND f.revoked_at IS NULL AND `

	revokeFamilies = `UPDATE refresh_families AS f SET revoked_at = ? WHERE f.revoked_at IS NULL AND `

	ofClient = `f.tenant_id = ? AND f.client = ?`

	ofUserUntil = `f.tenant_id = ? AND f.principal_index IN (?, ?) AND f.created_at <= ?`

	sqlAccessOfClient = accessOf + ofClient

	sqlRevokeOfClient = revokeFamilies + ofClient

	sqlAccessOfUser = accessOf + ofUserUntil

	sqlRevokeOfUser = revokeFamilies + ofUserUntil

	// Its tokens go by the foreign key.
	sqlPruneRefresh = `DELETE FROM refresh_families WHERE expires_at <= ?`
)

// refreshRow is a refresh token with its family as they lie in the tables: the
// user is sealed.
type refreshRow struct {
	id, under int64
	index     store.Index
	token     store.RefreshToken
}

func scanRefresh(scan func(dest ...any) error) (refreshRow, error) {
	var r refreshRow
	var created, expires, revoked, used int64
	t := &r.token
	err := scan(&r.id, &r.under, fixed(t.Family[:]), &t.Tenant, &t.Client, indexOf(&r.index), &t.User, &t.Scope, &created, &expires, &revoked, &used)
	t.Created, t.Expires = store.FromNanos(created), store.FromNanos(expires)
	t.Revoked, t.Used = store.FromNanos(revoked), store.FromNanos(used)
	return r, err
}

func (r *refreshRow) place() sealing.Place {
	return sealing.RefreshUser(r.id, int64(r.token.Tenant), r.token.Family)
}

// openRefresh puts the user into the token.
func (s *Store) openRefresh(ctx context.Context, keys sealing.Keys, r *refreshRow) error {
	user, err := s.open(ctx, keys, r.under, r.place(), r.token.User)
	if err != nil {
		return err
	}
	key, err := keys.Of(r.under, r.place())
	if err != nil {
		return s.told(ctx, err)
	}
	if indexUnder(key, r.token.Tenant, policy.KindUser, user) != r.index {
		return s.strange(ctx, r.place(), whyIndex)
	}
	r.token.User = user
	return nil
}

// refresh finds the token of a client; another's is store.ErrNotFound. readable is
// the error of its user: the family can be revoked all the same, and then its user
// is store.Unreadable.
func (tx *writeTx) refresh(tenant store.TenantID, client string, token store.Digest) (r refreshRow, readable, err error) {
	r, err = scanRefresh(func(dest ...any) error { return tx.scan(tx.ctx, sqlRefresh, args{token[:]}, dest...) })
	if absent(err) || err == nil && (r.token.Tenant != tenant || r.token.Client != client) {
		return r, nil, fmt.Errorf("refresh token: %w", store.ErrNotFound)
	}
	if err != nil {
		return r, nil, err
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return r, nil, err
	}
	readable = tx.store.openRefresh(tx.ctx, keys, &r)
	if readable != nil && !isUnreadable(readable) {
		return r, nil, readable
	}
	if readable != nil {
		r.token.User = store.Unreadable
	}
	return r, readable, nil
}

// insertRefresh adds a token to a family: store.ErrExists where it is known.
func (tx *writeTx) insertRefresh(family int64, token store.Digest, access store.AccessToken) error {
	if err := access.Check(); err != nil {
		return err
	}
	expires, err := store.ExpiryNanos(access.Expires)
	if err != nil {
		return fmt.Errorf("access token: %w", err)
	}
	var known bool
	if err := tx.scan(tx.ctx, sqlRefreshKnown, args{token[:]}, &known); err != nil {
		return err
	}
	if known {
		return fmt.Errorf("this refresh token: %w", store.ErrExists)
	}
	_, err = tx.exec(tx.ctx, sqlInsertRefresh, token[:], family, access.Issuer, access.ID, expires, tx.now.UnixNano())
	return err
}

// StartFamily implements store.RefreshTokens. A family without a time of its own
// begins now.
func (s *Store) StartFamily(ctx context.Context, by store.Actor, family store.RefreshFamily, token store.Digest, access store.AccessToken) (store.Result, error) {
	return s.write(ctx, "start refresh tokens", by, func(tx *writeTx) (*store.Written, error) {
		f := family
		if err := f.Check(); err != nil {
			return nil, err
		}
		if f.Created.IsZero() {
			f.Created = tx.now
		}
		expires, err := store.ExpiryNanos(f.Expires)
		if err != nil {
			return nil, err
		}
		if _, err := tenantByID(tx.ctx, tx.conn, f.Tenant); err != nil {
			return nil, err
		}
		var known bool
		if err := tx.scan(tx.ctx, sqlFamilyKnown, args{f.Family[:]}, &known); err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("this family of refresh tokens: %w", store.ErrExists)
		}
		keys, err := tx.keys(f.Tenant)
		if err != nil {
			return nil, err
		}
		key := keys.Current
		row, err := newID(tx.ctx, tx.conn, key, sqlNextRefresh)
		if err != nil {
			return nil, err
		}
		sealed, err := key.Seal(sealing.RefreshUser(row.Int64, int64(f.Tenant), f.Family), f.User)
		if err != nil {
			return nil, err
		}
		index := indexUnder(key, f.Tenant, policy.KindUser, f.User)
		var id int64
		err = tx.scan(tx.ctx, sqlInsertFamily, args{row, f.Family[:], int64(f.Tenant), f.Client, index[:], sealed, key.KeyID(),
			f.Scope, f.Created.UnixNano(), expires}, &id)
		if err != nil {
			return nil, err
		}
		if err := tx.insertRefresh(id, token, access); err != nil {
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
	result, err := s.write(ctx, "use refresh token", by, func(tx *writeTx) (*store.Written, error) {
		reused = false
		r, readable, err := tx.refresh(tenant, client, token)
		if err != nil {
			return nil, err
		}
		switch {
		case !r.token.Revoked.IsZero():
			return nil, fmt.Errorf("refresh token: its family: %w", store.ErrRevoked)
		case !r.token.Used.IsZero():
			reused = true
			w, err := tx.revokeFamily(&r)
			if err == nil {
				w.Details = map[string]any{"reason": "reuse"}
			}
			family = r.token.RefreshFamily
			return w, err
		case !tx.now.Before(r.token.Expires):
			return nil, fmt.Errorf("refresh token: %w", store.ErrExpired)
		case readable != nil:
			return nil, readable
		}
		if err := tx.insertRefresh(r.id, next, access); err != nil {
			return nil, err
		}
		if _, err := tx.exec(tx.ctx, sqlUseRefresh, tx.now.UnixNano(), token[:]); err != nil {
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
	_, denied, err := tx.revokeRefresh(f.Tenant, sqlAccessOf, sqlRevokeFamily, args{r.id}, &w.Changes)
	if err != nil {
		return nil, err
	}
	f.Revoked = store.FromNanos(tx.now.UnixNano())
	after.Denied = denied
	w.Before, w.After = before, after
	return w, nil
}

// revokeClientFamilies ends what refresh tokens the client holds.
func (tx *writeTx) revokeClientFamilies(tenant store.TenantID, client string, changes *store.ChangeSet) (families int64, denied int, err error) {
	return tx.revokeRefresh(tenant, sqlAccessOfClient, sqlRevokeOfClient, args{int64(tenant), client}, changes)
}

// revokeUserFamilies ends the user's refresh tokens of families that were begun up to
// a moment, in Unix nanoseconds.
func (tx *writeTx) revokeUserFamilies(tenant store.TenantID, user string, begun int64, changes *store.ChangeSet) (families int64, denied int, err error) {
	keys, err := tx.keys(tenant)
	if err != nil {
		return 0, 0, err
	}
	index, former := indexes(keys, tenant, policy.KindUser, user)
	return tx.revokeRefresh(tenant, sqlAccessOfUser, sqlRevokeOfUser, args{int64(tenant), index[:], former[:], begun}, changes)
}

// revokeRefresh ends the families that a query finds by in, and denies their access
// tokens that may still be taken. It says how many there were of each.
func (tx *writeTx) revokeRefresh(tenant store.TenantID, access, revoke string, in args, changes *store.ChangeSet) (families int64, denied int, err error) {
	var live []store.AccessToken
	since := tx.now.Add(-store.TokenSkew).UnixNano()
	err = tx.each(tx.ctx, access, append(args{since}, in...), func(rows *sql.Rows) error {
		var a store.AccessToken
		var expires int64
		err := rows.Scan(&a.Issuer, &a.ID, &expires)
		a.Expires = store.FromNanos(expires)
		live = append(live, a)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	list := store.DenyAccessTokens(tenant, live)
	for i := range list {
		if _, _, _, err := tx.deny(list[i], changes); err != nil {
			return 0, 0, err
		}
	}
	families, err = tx.exec(tx.ctx, revoke, append(args{tx.now.UnixNano()}, in...)...)
	return families, len(list), err
}

// Refresh implements store.RefreshTokens.
func (s *Store) Refresh(ctx context.Context, token store.Digest) (store.RefreshToken, error) {
	var found store.RefreshToken
	err := s.reading(ctx, "read refresh token", func(ctx context.Context, c *conn) error {
		r, err := scanRefresh(func(dest ...any) error { return c.scan(ctx, sqlRefresh, args{token[:]}, dest...) })
		if absent(err) {
			return store.ErrNotFound
		}
		if err != nil {
			return err
		}
		keys, err := s.readKeys(ctx, c, r.token.Tenant)
		if err != nil {
			return err
		}
		err = s.openRefresh(ctx, keys, &r)
		found = r.token
		return err
	})
	if err != nil {
		return store.RefreshToken{}, err
	}
	return found, nil
}

// RevokeRefresh implements store.RefreshTokens.
func (s *Store) RevokeRefresh(ctx context.Context, by store.Actor, tenant store.TenantID, client string, token store.Digest) (store.Result, error) {
	return s.write(ctx, "revoke refresh token", by, func(tx *writeTx) (*store.Written, error) {
		r, _, err := tx.refresh(tenant, client, token)
		if err != nil {
			return nil, err
		}
		if !r.token.Revoked.IsZero() {
			return store.RefreshWritten(store.ActionRevokeToken, store.OutcomeUnchanged, &r.token.RefreshFamily), nil
		}
		return tx.revokeFamily(&r)
	})
}

// PruneRefresh implements store.RefreshTokens.
func (s *Store) PruneRefresh(ctx context.Context) error {
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, sqlPruneRefresh, s.cfg.Now().UnixNano())
		return err
	})
	if err != nil {
		return fmt.Errorf("prune refresh tokens: %w", err)
	}
	return nil
}

// refresh is the resealing of a family's user.
func (r *resealing) refresh(rows *sql.Rows) (resealed, error) {
	row := refreshRow{token: store.RefreshToken{RefreshFamily: store.RefreshFamily{Tenant: r.tenant}}}
	if err := rows.Scan(&row.id, &row.under, indexOf(&row.index), fixed(row.token.Family[:]), &row.token.User); err != nil {
		return resealed{}, err
	}
	user, anew, err := r.again(row.under, row.place(), row.token.User)
	if err != nil {
		return resealed{id: row.id, broken: err}, nil
	}
	index, err := r.reindex(row.under, row.place(), row.index[:], policy.KindUser, user)
	return resealed{id: row.id, values: []any{anew, index}, broken: err}, nil
}
