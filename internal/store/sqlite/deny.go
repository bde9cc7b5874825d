package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	denialColumns = `id, kind, tenant_id, issuer, value, coalesce(principal_kind, 0), principal_index, coalesce(principal_id, ''), key_id,
			digest, issued_before, created_at, expires_at`

	sqlDenialByDigest = `SELECT ` + denialColumns + ` FROM deny_list WHERE digest = ?`

	sqlDenialByID = `SELECT ` + denialColumns + ` FROM deny_list WHERE tenant_id = ? AND id = ?`

	sqlDenialList = `SELECT ` + denialColumns + ` FROM deny_list WHERE tenant_id = ? AND id > ? AND expires_at > ? ORDER BY id LIMIT ?`

	sqlSubjectsOf = `SELECT ` + denialColumns + ` FROM deny_list WHERE tenant_id = ? AND kind = 2 ORDER BY id`

	sqlInsertDenial = `INSERT INTO deny_list (id, kind, tenant_id, issuer, value, principal_kind, principal_index, principal_id, key_id,
			digest, issued_before, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`

	sqlExtendDenial = `UPDATE deny_list SET issued_before = ?, expires_at = ? WHERE id = ?`

	sqlReindexDenial = `UPDATE deny_list SET principal_id = ?, principal_index = ?, digest = ?, key_id = ? WHERE id = ?`

	sqlDeleteDenial = `DELETE FROM deny_list WHERE id = ?`

	sqlDenied = `SELECT digest, tenant_id, issued_before, expires_at FROM deny_list WHERE expires_at > ? ORDER BY id`

	sqlPruneDenials = `DELETE FROM deny_list WHERE expires_at <= ?`
)

// denialRow is an entry as it lies in the table: of a subject, Value is sealed.
type denialRow struct {
	denial  store.Denial
	index   []byte // of a subject
	under   int64
	digest  store.Digest
	before  int64
	expires int64
}

func scanDenial(scan func(dest ...any) error) (denialRow, error) {
	var r denialRow
	var principal string
	var created int64
	d := &r.denial
	err := scan(&d.ID, &d.Kind, &d.Tenant, &d.Issuer, &d.Value, &d.Principal, &r.index, &principal, &r.under,
		digestOf(&r.digest), &r.before, &created, &r.expires)
	if d.Kind == store.DenySubject {
		d.Value = principal
	}
	d.Before, d.Created, d.Expires = store.FromNanos(r.before), store.FromNanos(created), store.FromNanos(r.expires)
	return r, err
}

func (r *denialRow) mark() store.DenyMark {
	return store.DenyMark{Digest: r.digest, Tenant: r.denial.Tenant, Before: r.before, Expires: r.expires}
}

func (r *denialRow) place() sealing.Place {
	d := &r.denial
	return sealing.DenialSubject(d.ID, int64(d.Tenant), d.Principal.String(), d.Issuer)
}

// openDenial gives the entry with its subject. An entry that refuses another than
// it names does not open.
func (s *Store) openDenial(ctx context.Context, keys sealing.Keys, r *denialRow) (store.Denial, error) {
	d := r.denial
	if d.Kind != store.DenySubject {
		return d, nil
	}
	var err error
	if d.Value, err = s.open(ctx, keys, r.under, r.place(), r.denial.Value); err != nil {
		return store.Denial{}, err
	}
	key, err := keys.Of(r.under, r.place())
	if err != nil {
		return store.Denial{}, s.told(ctx, err)
	}
	if d.Digest(indexUnder(key, d.Tenant, d.Principal, d.Value)) != r.digest {
		return store.Denial{}, s.strange(ctx, r.place(), whyIndex)
	}
	return d, nil
}

// deny adds an entry, or makes the one that is there reach further. before is what
// was there, nil for nothing.
func (tx *writeTx) deny(d store.NewDenial, changes *store.ChangeSet) (made store.Denial, before *store.Denial, outcome store.Outcome, err error) {
	if err := d.Check(); err != nil {
		return made, nil, 0, err
	}
	marked, err := store.ExpiryNanos(d.Before)
	if err != nil {
		return made, nil, 0, fmt.Errorf("before: %w", err)
	}
	expires, err := store.ExpiryNanos(d.Expires)
	if err != nil {
		return made, nil, 0, err
	}
	keys, err := tx.keys(d.Tenant)
	if err != nil {
		return made, nil, 0, err
	}
	var index store.Index
	if d.Kind == store.DenySubject {
		index = indexUnder(keys.Current, d.Tenant, d.Principal, d.Value)
	}
	digest := d.Digest(index)
	there, err := scanDenial(func(dest ...any) error { return tx.scan(tx.ctx, sqlDenialByDigest, args{digest[:]}, dest...) })
	switch {
	case absent(err):
		mark := store.DenyMark{Digest: digest, Tenant: d.Tenant, Before: marked, Expires: expires}
		made, err = tx.insertDenial(keys.Current, d, index, mark)
		changes.Denial(d.Tenant, mark)
		return made, nil, store.OutcomeDone, err
	case err != nil:
		return made, nil, 0, err
	}
	there.denial.NewDenial.Value = d.Value // which its digest says
	made = there.denial
	former := there.denial
	mark := store.DenyMark{Digest: digest, Tenant: d.Tenant, Before: max(marked, there.before), Expires: max(expires, there.expires)}
	made.Before, made.Expires = store.FromNanos(mark.Before), store.FromNanos(mark.Expires)
	if mark == there.mark() {
		return made, &former, store.OutcomeUnchanged, nil
	}
	changes.Denial(d.Tenant, mark)
	_, err = tx.exec(tx.ctx, sqlExtendDenial, mark.Before, mark.Expires, made.ID)
	return made, &former, store.OutcomeDone, err
}

func (tx *writeTx) insertDenial(key *sealing.Key, d store.NewDenial, index store.Index, mark store.DenyMark) (store.Denial, error) {
	made := store.Denial{NewDenial: d, Created: store.FromNanos(tx.now.UnixNano())}
	made.Before, made.Expires = store.FromNanos(mark.Before), store.FromNanos(mark.Expires)
	in := args{nil, int64(d.Kind), int64(d.Tenant), d.Issuer, d.Value, nil, nil, nil, 0, mark.Digest[:], mark.Before, tx.now.UnixNano(), mark.Expires}
	if d.Kind == store.DenySubject {
		id, err := newID(tx.ctx, tx.conn, key, sqlNextDenial)
		if err != nil {
			return made, err
		}
		sealed, err := key.Seal(sealing.DenialSubject(id.Int64, int64(d.Tenant), d.Principal.String(), d.Issuer), d.Value)
		if err != nil {
			return made, err
		}
		in[0], in[4], in[5], in[6], in[7], in[8] = id, "", int64(d.Principal), index[:], sealed, key.KeyID()
	}
	err := tx.scan(tx.ctx, sqlInsertDenial, in, &made.ID)
	return made, err
}

// Deny implements store.Denials.
func (s *Store) Deny(ctx context.Context, by store.Actor, denial store.NewDenial) (store.Denial, store.Result, error) {
	var made store.Denial
	result, err := s.write(ctx, "deny tokens", by, func(tx *writeTx) (*store.Written, error) {
		if err := denial.Check(); err != nil {
			return nil, err
		}
		if denial.Kind != store.DenyKey {
			if _, err := tenantByID(tx.ctx, tx.conn, denial.Tenant); err != nil {
				return nil, err
			}
		}
		var changes store.ChangeSet
		var before *store.Denial
		var outcome store.Outcome
		var err error
		if made, before, outcome, err = tx.deny(denial, &changes); err != nil {
			return nil, err
		}
		w := store.DenialWritten(store.ActionDeny, outcome, &made)
		if begun, ends := made.EndsRefresh(); ends {
			families, denied, err := tx.revokeUserFamilies(made.Tenant, made.Value, begun, &changes)
			if err != nil {
				return nil, err
			}
			w.EndedRefresh(families, denied)
		}
		w.After, w.Changes = made.State(), changes
		if before != nil {
			w.Before = before.State()
		}
		return w, nil
	})
	if err != nil {
		return store.Denial{}, store.Result{}, err
	}
	return made, result, nil
}

// Allow implements store.Denials. An entry whose subject does not open can be taken
// away all the same.
func (s *Store) Allow(ctx context.Context, by store.Actor, tenant store.TenantID, id int64) (store.Result, error) {
	return s.write(ctx, "allow tokens again", by, func(tx *writeTx) (*store.Written, error) {
		r, err := scanDenial(func(dest ...any) error { return tx.scan(tx.ctx, sqlDenialByID, args{int64(tenant), id}, dest...) })
		if absent(err) {
			return nil, fmt.Errorf("denial %d: %w", id, store.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		d, err := s.openDenial(tx.ctx, keys, &r)
		if isUnreadable(err) {
			d, err = r.denial, nil
			d.Value = store.Unreadable
		}
		if err != nil {
			return nil, err
		}
		if _, err := tx.exec(tx.ctx, sqlDeleteDenial, id); err != nil {
			return nil, err
		}
		w := store.DenialWritten(store.ActionAllow, store.OutcomeDone, &d)
		w.Before = d.State()
		w.Changes.DenialGone(tenant, r.digest)
		return w, nil
	})
}

// DenialList implements store.Denials.
func (s *Store) DenialList(ctx context.Context, tenant store.TenantID, after int64, limit int) ([]store.Denial, error) {
	if limit < 1 || limit > 1000 {
		return nil, fmt.Errorf("list denials: limit: %d is outside 1 to 1000", limit)
	}
	var list []store.Denial
	err := s.reading(ctx, "list denials", func(ctx context.Context, c *conn) error {
		list = nil
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		return c.each(ctx, sqlDenialList, args{int64(tenant), after, s.cfg.Now().UnixNano(), limit}, func(rows *sql.Rows) error {
			r, err := scanDenial(rows.Scan)
			if err != nil {
				return err
			}
			d, err := s.openDenial(ctx, keys, &r)
			list = append(list, d)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// PruneDenials implements store.Denials.
func (s *Store) PruneDenials(ctx context.Context) error {
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, sqlPruneDenials, s.cfg.Now().UnixNano())
		return err
	})
	if err != nil {
		return fmt.Errorf("prune the deny-list: %w", err)
	}
	return nil
}

// denied reads what sidecars hold of the deny-list. It must run inside a snapshot.
func denied(ctx context.Context, c *conn, now time.Time) ([]store.DenyMark, error) {
	var marks []store.DenyMark
	err := c.each(ctx, sqlDenied, args{now.UnixNano()}, func(rows *sql.Rows) error {
		var m store.DenyMark
		err := rows.Scan(digestOf(&m.Digest), &m.Tenant, &m.Before, &m.Expires)
		marks = append(marks, m)
		return err
	})
	return marks, err
}

// reindexDenials puts the subjects that the tenant denies under its new key: what
// sidecars look them up by changes with it. One that does not open stays as it is,
// and is left to Reseal to tell of.
func (tx *writeTx) reindexDenials(tenant store.TenantID, changes *store.ChangeSet) error {
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	var all []denialRow
	err = tx.each(tx.ctx, sqlSubjectsOf, args{int64(tenant)}, func(rows *sql.Rows) error {
		r, err := scanDenial(rows.Scan)
		all = append(all, r)
		return err
	})
	if err != nil {
		return err
	}
	for i := range all {
		r := &all[i]
		d, err := tx.store.openDenial(tx.ctx, keys, r)
		if isUnreadable(err) {
			continue
		}
		if err != nil {
			return err
		}
		anew, err := keys.Current.Seal(r.place(), d.Value)
		if err != nil {
			return err
		}
		index := indexUnder(keys.Current, tenant, d.Principal, d.Value)
		former := r.digest
		r.digest = d.Digest(index)
		if _, err := tx.exec(tx.ctx, sqlReindexDenial, anew, index[:], r.digest[:], keys.Current.KeyID(), d.ID); err != nil {
			return err
		}
		changes.DenialGone(tenant, former)
		changes.Denial(tenant, r.mark())
	}
	return nil
}

// denial is the resealing of an entry that BeginTenant could not reindex: unless
// the row was mended since, it does not open.
func (r *resealing) denial(rows *sql.Rows) (resealed, error) {
	row, err := scanDenial(rows.Scan)
	if err != nil {
		return resealed{}, err
	}
	d := row.denial
	subject, anew, err := r.again(row.under, row.place(), d.Value)
	if err != nil {
		return resealed{id: d.ID, broken: err}, nil
	}
	index, err := r.reindex(row.under, row.place(), row.index, d.Principal, subject)
	if err != nil {
		return resealed{id: d.ID, broken: err}, nil
	}
	digest := d.Digest(store.Index(index))
	return resealed{id: d.ID, values: []any{anew, index, digest[:]}}, nil
}

// denyClient denies what tokens the client holds.
func (tx *writeTx) denyClient(tenant store.TenantID, name string, changes *store.ChangeSet) error {
	_, _, _, err := tx.deny(store.DenyClient(tenant, name, tx.now), changes)
	return err
}
