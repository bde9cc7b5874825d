package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const (
	denialColumns = `id, kind, tenant_id, issuer, value, coalesce(principal_kind, 0), principal_index, coalesce(principal_id, ''), key_id, digest, issued_before, created_at, expires_at`

	// Pruning is not under the revision's lock: what is to reach further must be held,
	// or be gone.
	sqlDenialsByDigest = `SELECT ` + denialColumns + ` FROM portcullis.deny_list WHERE digest = ANY ($1) ORDER BY id FOR UPDATE`

	sqlDenialIDs = `SELECT nextval('portcullis.deny_list_ids') FROM generate_series(1, $1::integer)`

	sqlDenialByID = `SELECT ` + denialColumns + ` FROM portcullis.deny_list WHERE tenant_id = $1 AND id = $2`

	sqlDenialList = `
SELECT e.key_id, e.former_key_id, ` + denialColumnsOfD + `
FROM portcullis.deny_list d LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = d.tenant_id
WHERE d.tenant_id = $1 AND d.id > $2 AND d.expires_at > $3 ORDER BY d.id LIMIT $4`

	denialColumnsOfD = `d.id, d.kind, d.tenant_id, d.issuer, d.value, coalesce(d.principal_kind, 0), d.principal_index, coalesce(d.principal_id, ''), d.key_id, d.digest, d.issued_before, d.created_at, d.expires_at`

	sqlSubjectsOf = `SELECT ` + denialColumns + ` FROM portcullis.deny_list WHERE tenant_id = $1 AND kind = 2 ORDER BY id FOR UPDATE`

	sqlInsertDenials = `
INSERT INTO portcullis.deny_list (id, kind, tenant_id, issuer, value, principal_kind, principal_index, principal_id, key_id, digest, issued_before, created_at, expires_at)
SELECT u.id, u.kind, u.tenant, u.issuer, u.value, u.principal_kind, u.index, u.principal, u.key_id, u.digest, u.before, $12, u.expires
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::smallint[], $7::bytea[], $8::text[], $9::bigint[], $10::bytea[], $11::bigint[], $13::bigint[])
     AS u (id, kind, tenant, issuer, value, principal_kind, index, principal, key_id, digest, before, expires)`

	sqlExtendDenials = `
UPDATE portcullis.deny_list d SET issued_before = u.before, expires_at = u.expires
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u (id, before, expires) WHERE d.id = u.id`

	sqlReindexDenials = `
UPDATE portcullis.deny_list t SET key_id = u.key_id, principal_id = u.text, principal_index = u.index, digest = u.digest
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bytea[]) AS u (id, key_id, text, index, digest) WHERE t.id = u.id`

	sqlDeleteDenial = `DELETE FROM portcullis.deny_list WHERE id = $1`

	sqlDenied = `SELECT digest, tenant_id, issued_before, expires_at FROM portcullis.deny_list WHERE expires_at > $1 ORDER BY id`

	// It waits for no writer, and so cannot deadlock with one.
	sqlPruneDenials = `
DELETE FROM portcullis.deny_list WHERE id IN (SELECT id FROM portcullis.deny_list WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)`

	// Programs that would ignore the deny-list are kept out from the first entry on.
	sqlMarkTokens = `SELECT portcullis.mark_tokens() FROM portcullis.compatibility WHERE oldest_reader < 4 OR oldest_writer < 4`
)

// denialRow is an entry as it lies in the table: of a subject, Value is sealed.
type denialRow struct {
	denial  store.Denial
	index   []byte // of a subject
	keyID   int64
	digest  store.Digest
	before  int64
	expires int64
}

func scanDenial(scan func(dest ...any) error) (denialRow, error) {
	var r denialRow
	var principal string
	var created int64
	d := &r.denial
	err := scan(&d.ID, &d.Kind, &d.Tenant, &d.Issuer, &d.Value, &d.Principal, &r.index, &principal, &r.keyID,
		fixed(r.digest[:]), &r.before, &created, &r.expires)
	if d.Kind == store.DenySubject {
		d.Value = principal
	}
	d.Before, d.Created, d.Expires = store.FromNanos(r.before), store.FromNanos(created), store.FromNanos(r.expires)
	return r, err
}

func scanDenials(rows pgx.Rows, err error) ([]denialRow, error) {
	var list []denialRow
	err = each(rows, err, func(scan func(...any) error) error {
		r, err := scanDenial(scan)
		list = append(list, r)
		return err
	})
	return list, err
}

func scanMarks(rows pgx.Rows, err error) ([]store.DenyMark, error) {
	var marks []store.DenyMark
	err = each(rows, err, func(scan func(...any) error) error {
		var m store.DenyMark
		err := scan(fixed(m.Digest[:]), &m.Tenant, &m.Before, &m.Expires)
		marks = append(marks, m)
		return err
	})
	return marks, err
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
func (s *Store) openDenial(keys sealing.Keys, r *denialRow) (store.Denial, error) {
	d := r.denial
	if d.Kind != store.DenySubject {
		return d, nil
	}
	var err error
	if d.Value, err = s.open(keys, r.keyID, r.denial.Value, r.place); err != nil {
		return store.Denial{}, err
	}
	key, err := keys.Of(r.keyID, r.place())
	if err != nil {
		return store.Denial{}, s.noted(err)
	}
	if d.Digest(indexUnder(key, d.Tenant, d.Principal, d.Value)) != r.digest {
		return store.Denial{}, s.noted(&sealing.Error{Place: r.place(), Key: r.keyID, Why: "it refuses another principal than it names: the row was edited by other hands"})
	}
	return d, nil
}

// denied is what a write did about one entry.
type denied struct {
	made    store.Denial
	before  *store.Denial // what was there; nil for nothing
	outcome store.Outcome
}

// deny adds entries, or makes those that are there reach further: two round trips,
// however many they are. No two of them may refuse the same.
func (tx *writeTx) deny(changes *store.ChangeSet, list ...store.NewDenial) ([]denied, error) {
	if len(list) == 0 {
		return nil, nil
	}
	wanted := make([]denialRow, len(list))
	digests := make([][]byte, len(list))
	for i := range list {
		row, err := tx.denialRow(list[i])
		if err != nil {
			return nil, err
		}
		wanted[i] = row
		digests[i] = wanted[i].digest[:]
	}
	there := make(map[store.Digest]denialRow, len(list))
	var ids []int64
	b := &pgx.Batch{}
	b.Queue(sqlDenialsByDigest, digests).Query(func(rows pgx.Rows) error {
		found, err := scanDenials(rows, nil)
		for _, r := range found {
			there[r.digest] = r
		}
		return err
	})
	b.Queue(sqlDenialIDs, len(list)).Query(func(rows pgx.Rows) (err error) {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err := tx.SendBatch(tx.ctx, b).Close(); err != nil {
		return nil, err
	}
	out := make([]denied, len(list))
	var fresh []denialRow
	var extended struct{ ids, before, expires []int64 }
	for i := range wanted {
		row := &wanted[i]
		former, known := there[row.digest]
		if !known {
			row.denial.ID = ids[i]
			fresh = append(fresh, *row)
			out[i] = denied{made: row.denial, outcome: store.OutcomeDone}
			changes.Denial(row.denial.Tenant, row.mark())
			continue
		}
		former.denial.Value = row.denial.Value // which its digest says
		made := former
		made.before, made.expires = max(row.before, former.before), max(row.expires, former.expires)
		made.denial.Before, made.denial.Expires = store.FromNanos(made.before), store.FromNanos(made.expires)
		out[i] = denied{made: made.denial, before: &former.denial, outcome: store.OutcomeUnchanged}
		if made.mark() == former.mark() {
			continue
		}
		out[i].outcome = store.OutcomeDone
		extended.ids, extended.before, extended.expires = append(extended.ids, made.denial.ID), append(extended.before, made.before), append(extended.expires, made.expires)
		changes.Denial(made.denial.Tenant, made.mark())
	}
	b = &pgx.Batch{}
	if len(fresh) > 0 {
		args, err := tx.denialArgs(fresh)
		if err != nil {
			return nil, err
		}
		b.Queue(sqlInsertDenials, args...)
	}
	if len(extended.ids) > 0 {
		b.Queue(sqlExtendDenials, extended.ids, extended.before, extended.expires)
	}
	b.Queue(sqlMarkTokens)
	return out, tx.SendBatch(tx.ctx, b).Close()
}

// denialRow is the entry as it will lie in the table, but for its id and the seal.
func (tx *writeTx) denialRow(d store.NewDenial) (denialRow, error) {
	r := denialRow{denial: store.Denial{NewDenial: d, Created: store.FromNanos(tx.now.UnixNano())}}
	err := d.Check()
	for _, field := range [][2]string{{"issuer", d.Issuer}, {"value", d.Value}} {
		if err == nil {
			err = mustBeText(field[0], field[1])
		}
	}
	if err != nil {
		return r, err
	}
	if r.before, err = store.ExpiryNanos(d.Before); err != nil {
		return r, fmt.Errorf("before: %w", err)
	}
	if r.expires, err = store.ExpiryNanos(d.Expires); err != nil {
		return r, err
	}
	r.denial.Before, r.denial.Expires = store.FromNanos(r.before), store.FromNanos(r.expires)
	var index store.Index
	if d.Kind == store.DenySubject {
		keys, err := tx.keys(d.Tenant)
		if err != nil {
			return r, err
		}
		index = indexUnder(keys.Current, d.Tenant, d.Principal, d.Value)
		r.index = index[:]
	}
	r.digest = d.Digest(index)
	return r, nil
}

// denialArgs seals new entries for sqlInsertDenials.
func (tx *writeTx) denialArgs(fresh []denialRow) ([]any, error) {
	n := len(fresh)
	ids, tenants, keyIDs, before, expires := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	kinds, issuers, values := make([]int16, n), make([]string, n), make([]string, n)
	principalKinds, indexes, principals, digests := make([]*int16, n), make([][]byte, n), make([]*string, n), make([][]byte, n)
	for i := range fresh {
		r := &fresh[i]
		d := &r.denial
		ids[i], kinds[i], tenants[i], issuers[i], values[i] = d.ID, int16(d.Kind), int64(d.Tenant), d.Issuer, d.Value
		digests[i], before[i], expires[i] = r.digest[:], r.before, r.expires
		if d.Kind != store.DenySubject {
			continue
		}
		keys, err := tx.keys(d.Tenant)
		if err != nil {
			return nil, err
		}
		sealed, err := keys.Current.Seal(r.place(), d.Value)
		if err != nil {
			return nil, err
		}
		kind := int16(d.Principal)
		values[i], principalKinds[i], indexes[i], principals[i], keyIDs[i] = "", &kind, r.index, &sealed, keys.Current.KeyID()
	}
	return []any{ids, kinds, tenants, issuers, values, principalKinds, indexes, principals, keyIDs, digests, before, tx.now.UnixNano(), expires}, nil
}

// Deny implements store.Denials.
func (s *Store) Deny(ctx context.Context, by store.Actor, denial store.NewDenial) (store.Denial, store.Result, error) {
	var made store.Denial
	result, err := s.write(ctx, "deny tokens", denial.Tenant, by, func(tx *writeTx) (*store.Written, error) {
		if err := denial.Check(); err != nil {
			return nil, err
		}
		if denial.Kind != store.DenyKey {
			if _, err := tx.tenant(denial.Tenant); err != nil {
				return nil, err
			}
		}
		var changes store.ChangeSet
		done, err := tx.deny(&changes, denial)
		if err != nil {
			return nil, err
		}
		made = done[0].made
		w := store.DenialWritten(store.ActionDeny, done[0].outcome, &made)
		if begun, ends := made.EndsRefresh(); ends {
			families, tokens, err := tx.revokeUserFamilies(&changes, made.Tenant, made.Value, begun)
			if err != nil {
				return nil, err
			}
			w.EndedRefresh(families, tokens)
		}
		w.After, w.Changes = made.State(), changes
		if before := done[0].before; before != nil {
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
	return s.write(ctx, "allow tokens again", tenant, by, func(tx *writeTx) (*store.Written, error) {
		r, err := scanDenial(tx.QueryRow(tx.ctx, sqlDenialByID, int64(tenant), id).Scan)
		if isNoRows(err) {
			return nil, fmt.Errorf("denial %d: %w", id, store.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		d, err := s.openDenial(keys, &r)
		if isUnreadable(err) {
			d, err = r.denial, nil
			d.Value = store.Unreadable
		}
		if err != nil {
			return nil, err
		}
		if _, err := tx.exec(sqlDeleteDenial, id); err != nil {
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
	err := s.try(ctx, "list denials", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			list = nil
			rows, err := s.pool.Query(ctx, sqlDenialList, int64(tenant), after, s.now().UnixNano(), limit)
			return each(rows, err, func(scan func(...any) error) error {
				var p pairScan
				r, err := scanDenial(func(dest ...any) error { return scan(append([]any{&p.current, &p.former}, dest...)...) })
				if err != nil {
					return err
				}
				if err := p.under(keys); err != nil {
					return err
				}
				d, err := s.openDenial(keys, &r)
				list = append(list, d)
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// PruneDenials implements store.Denials.
func (s *Store) PruneDenials(ctx context.Context) error {
	return s.try(ctx, "prune the deny-list", func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, sqlPruneDenials, s.now().UnixNano())
		return err
	})
}

// reindexDenials puts the subjects that the tenant denies under its new key: what
// sidecars look them up by changes with it. One that does not open stays as it is,
// and is left to Reseal to tell of.
func (tx *writeTx) reindexDenials(tenant store.TenantID, changes *store.ChangeSet) error {
	all, err := scanDenials(tx.Query(tx.ctx, sqlSubjectsOf, int64(tenant)))
	if err != nil || len(all) == 0 {
		return err
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	b := &resealBatch{store: tx.store, tenant: tenant, keys: keys}
	for i := range all {
		r := &all[i]
		d, err := tx.store.openDenial(keys, r)
		if isUnreadable(err) {
			continue
		}
		if err != nil {
			return err
		}
		former := r.mark()
		if err := b.addDenial(r, &d); err != nil {
			return err
		}
		changes.DenialGone(tenant, former.Digest)
		changes.Denial(tenant, r.mark())
	}
	_, err = tx.exec(sqlReindexDenials, b.digested()...)
	return err
}

// addDenial takes an entry in under its new key, and gives it its new digest.
func (b *resealBatch) addDenial(r *denialRow, d *store.Denial) error {
	sealed, err := b.keys.Current.Seal(r.place(), d.Value)
	index := indexUnder(b.keys.Current, b.tenant, d.Principal, d.Value)
	r.digest = d.Digest(index)
	b.add(d.ID, &sealed, index[:])
	b.digests = append(b.digests, r.digest[:])
	return err
}

// resealDenial is for an entry that BeginTenant could not reindex: unless the row
// was mended since, it does not open.
func resealDenial(b *resealBatch, scan func(...any) error) error {
	r, err := scanDenial(scan)
	if err != nil {
		return err
	}
	d, err := b.store.openDenial(b.keys, &r)
	if err != nil {
		b.digests = append(b.digests, r.digest[:])
		return b.asItIs(err, r.denial.ID, &r.denial.Value, r.index)
	}
	return b.addDenial(&r, &d)
}
