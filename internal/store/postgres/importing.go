package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlImportCursor = `SELECT cursor, done FROM portcullis.imports WHERE source = $1`

	sqlPutImport = `
INSERT INTO portcullis.imports (source, cursor, started_at, updated_at, done) VALUES ($1, $2, $3, $3, $4)
ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at, done = excluded.done`

	sqlOwnersOfKeys = `SELECT digest FROM portcullis.client_keys WHERE digest = ANY ($1)`

	sqlTenantsThere = `SELECT id FROM portcullis.tenants WHERE id = ANY ($1)`

	sqlRolesThere = `
SELECT o.id, o.tenant_id, o.name
FROM (SELECT DISTINCT * FROM unnest($1::bigint[], $2::text[]) AS u (tenant, name)) AS u
JOIN portcullis.roles o ON o.tenant_id = u.tenant AND o.name = u.name`

	sqlImportRoles = `
INSERT INTO portcullis.roles (id, tenant_id, name, description, created_at, key_id)
SELECT u.id, u.tenant, u.name, u.description, $5, u.key_id
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $6::bigint[]) AS u (id, tenant, name, description, key_id)`

	sqlManyRoleIDs = `SELECT nextval('portcullis.role_ids') FROM generate_series(1, $1::integer)`
)

// importing is one batch on its way in.
type importing struct {
	tx      *writeTx
	w       *store.Written
	counts  store.ImportCounts
	tenants map[store.TenantID]sealing.Keys // those that the batch names, and that are there
	roles   map[namedRole]policy.RoleID     // those that the batch names, and that are there
}

type namedRole struct {
	tenant store.TenantID
	name   string
}

// Import implements store.Importer. Each list takes a few statements, however long
// it is.
func (s *Store) Import(ctx context.Context, by store.Actor, source string, batch store.ImportBatch, cursor string, done bool) (store.ImportCounts, store.Result, error) {
	var counts store.ImportCounts
	result, err := s.write(ctx, "import", 0, by, func(tx *writeTx) (*store.Written, error) {
		if source == "" {
			return nil, errors.New("source: is empty: say where the rows come from")
		}
		if err := errors.Join(mustBeText("source", source), mustBeText("cursor", cursor)); err != nil {
			return nil, err
		}
		im := &importing{tx: tx, w: &store.Written{}, tenants: make(map[store.TenantID]sealing.Keys), roles: make(map[namedRole]policy.RoleID)}
		was, wasDone, started, err := importCursor(tx.ctx, tx, source)
		if err != nil {
			return nil, err
		}
		if err := im.batch(&batch); err != nil {
			return nil, err
		}
		if err := im.audit(batch.Audit, started); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if _, err := tx.exec(sqlPutImport, source, cursor, tx.now.UnixNano(), done); err != nil {
			return nil, err
		}
		counts = im.counts
		w := store.ImportWritten(source, counts, done)
		w.Changes = im.w.Changes
		if counts != (store.ImportCounts{}) || !started || was != cursor || wasDone != done {
			w.Outcome = store.OutcomeDone
		}
		return w, nil
	})
	if err != nil {
		return store.ImportCounts{}, store.Result{}, err
	}
	return counts, result, nil
}

// ImportCursor implements store.Importer.
func (s *Store) ImportCursor(ctx context.Context, source string) (cursor string, done bool, err error) {
	if !isText(source) {
		return "", false, nil
	}
	err = s.try(ctx, "read how far an import has come", func(ctx context.Context) (err error) {
		cursor, done, _, err = importCursor(ctx, s.pool, source)
		return err
	})
	return cursor, done, err
}

func importCursor(ctx context.Context, q querier, source string) (cursor string, done, started bool, err error) {
	err = q.QueryRow(ctx, sqlImportCursor, source).Scan(&cursor, &done)
	if isNoRows(err) {
		return "", false, false, nil
	}
	return cursor, done, err == nil, err
}

// batch writes all but the audit.
func (im *importing) batch(b *store.ImportBatch) error {
	if err := im.newTenants(b.Tenants); err != nil {
		return err
	}
	if err := im.findTenants(b); err != nil {
		return err
	}
	if err := im.findRoles(b); err != nil {
		return err
	}
	if err := im.newRoles(b.Roles); err != nil {
		return err
	}
	if err := im.newPermissions(b.Permissions); err != nil {
		return err
	}
	if err := im.newMembers(b.Members); err != nil {
		return err
	}
	return im.newUserKeys(b.UserKeys)
}

// newTenants takes over tenants: the one that has the key, or the one of that name,
// or a new one.
func (im *importing) newTenants(list []store.ImportTenant) error {
	if len(list) == 0 {
		return nil
	}
	digests := make([][]byte, len(list))
	for i := range list {
		digests[i] = list[i].Key.Digest[:]
	}
	known, err := knownDigests(im.tx.Query(im.tx.ctx, sqlOwnersOfKeys, digests))
	if err != nil {
		return err
	}
	for i := range list {
		t := &list[i]
		if known[t.Key.Digest] {
			continue
		}
		known[t.Key.Digest] = true
		if err := im.newTenant(t); err != nil {
			return fmt.Errorf("tenant %q: %w", t.Tenant.Name, err)
		}
	}
	return nil
}

func (im *importing) newTenant(t *store.ImportTenant) error {
	tx := im.tx
	if err := mustBeText("name", t.Tenant.Name); err != nil {
		return err
	}
	made, err := scanTenant(tx.QueryRow(tx.ctx, sqlTenantByName, t.Tenant.Name).Scan)
	if isNoRows(err) {
		if made, err = tx.makeTenant(t.Tenant); err == nil {
			im.w.Changes.Tenant(made.ID)
			im.counts.Tenants++
		}
	}
	if err != nil {
		return err
	}
	key := t.Key
	key.Tenant = made.ID
	_, err = tx.insertKey(key, im.w)
	return err
}

func knownDigests(rows pgx.Rows, err error) (map[store.Digest]bool, error) {
	known := make(map[store.Digest]bool)
	err = each(rows, err, func(scan func(...any) error) error {
		var d store.Digest
		err := scan(fixed(d[:]))
		known[d] = true
		return err
	})
	return known, err
}

// findTenants looks up the tenants that the batch names, with their keys.
func (im *importing) findTenants(b *store.ImportBatch) error {
	named := make(map[store.TenantID]bool)
	for i := range b.Roles {
		named[b.Roles[i].Tenant] = true
	}
	for i := range b.Permissions {
		named[b.Permissions[i].Tenant] = true
	}
	for i := range b.Members {
		named[b.Members[i].Tenant] = true
	}
	for i := range b.UserKeys {
		named[b.UserKeys[i].Tenant] = true
	}
	for i := range b.Audit {
		named[b.Audit[i].Tenant] = true
	}
	if len(named) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(named))
	for id := range named {
		ids = append(ids, int64(id))
	}
	rows, err := im.tx.Query(im.tx.ctx, sqlTenantsThere, ids)
	if err != nil {
		return err
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[store.TenantID])
	if err != nil {
		return err
	}
	if err := im.tx.readPairs(ids); err != nil {
		return err
	}
	if named[0] { // the audit's rows of no tenant
		there = append(there, 0)
	}
	for _, id := range there {
		if im.tenants[id], err = im.tx.keys(id); err != nil {
			return err
		}
	}
	return nil
}

// keysOf gives a tenant's keys, or store.ErrNotFound.
func (im *importing) keysOf(tenant store.TenantID) (sealing.Keys, error) {
	keys, there := im.tenants[tenant]
	if !there {
		return keys, fmt.Errorf("tenant %d: %w", tenant, store.ErrNotFound)
	}
	return keys, nil
}

// findRoles looks up the roles that the batch names.
func (im *importing) findRoles(b *store.ImportBatch) error {
	named := make(map[namedRole]bool)
	for i := range b.Roles {
		named[namedRole{b.Roles[i].Tenant, b.Roles[i].Name}] = true
	}
	for i := range b.Permissions {
		named[namedRole{b.Permissions[i].Tenant, b.Permissions[i].Role}] = true
	}
	for i := range b.Members {
		named[namedRole{b.Members[i].Tenant, b.Members[i].Role}] = true
	}
	var tenants []int64
	var names []string
	for r := range named {
		if isText(r.name) {
			tenants, names = append(tenants, int64(r.tenant)), append(names, r.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	rows, err := im.tx.Query(im.tx.ctx, sqlRolesThere, tenants, names)
	return each(rows, err, func(scan func(...any) error) error {
		var id policy.RoleID
		var r namedRole
		err := scan(&id, &r.tenant, &r.name)
		im.roles[r] = id
		return err
	})
}

// roleID is that of a role of the store or of this batch.
func (im *importing) roleID(tenant store.TenantID, name string) (policy.RoleID, error) {
	if _, err := im.keysOf(tenant); err != nil {
		return 0, err
	}
	id, there := im.roles[namedRole{tenant, name}]
	if !there {
		return 0, fmt.Errorf("the role: %w", store.ErrNotFound)
	}
	return id, nil
}

func (im *importing) newRoles(list []store.ImportRole) error {
	var fresh []*store.ImportRole
	for i := range list {
		r := &list[i]
		_, err := im.keysOf(r.Tenant)
		switch {
		case err != nil:
		case r.Name == "":
			err = errors.New("its name is empty")
		default:
			err = errors.Join(mustBeText("name", r.Name), mustBeText("description", r.Description))
		}
		if err != nil {
			return fmt.Errorf("role %q of tenant %d: %w", r.Name, r.Tenant, err)
		}
		name := namedRole{r.Tenant, r.Name}
		if _, there := im.roles[name]; !there {
			im.roles[name] = 0 // its id is to come
			fresh = append(fresh, r)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	ids, err := im.tx.ids(sqlManyRoleIDs, len(fresh))
	if err != nil {
		return err
	}
	n := len(fresh)
	tenants, keyIDs, names, texts := make([]int64, n), make([]int64, n), make([]string, n), make([]string, n)
	for i, r := range fresh {
		key := im.tenants[r.Tenant].Current
		row := roleRow{id: policy.RoleID(ids[i])}
		if texts[i], err = key.Seal(row.place(r.Tenant), r.Description); err != nil {
			return err
		}
		tenants[i], keyIDs[i], names[i] = int64(r.Tenant), key.KeyID(), r.Name
		im.roles[namedRole{r.Tenant, r.Name}] = row.id
		im.w.Changes.Roles(r.Tenant)
	}
	im.counts.Roles = n
	_, err = im.tx.exec(sqlImportRoles, ids, tenants, names, texts, im.tx.now.UnixNano(), keyIDs)
	return err
}

// ids takes n ids from a sequence.
func (tx *writeTx) ids(query string, n int) ([]int64, error) {
	rows, err := tx.Query(tx.ctx, query, n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// readPairs reads which keys the tenants are under, where this write has not yet.
func (tx *writeTx) readPairs(tenants []int64) error {
	rows, err := tx.Query(tx.ctx, sqlPairs, tenants)
	return each(rows, err, func(scan func(...any) error) error {
		var tenant store.TenantID
		var p pairScan
		if err := scan(&tenant, &p.current, &p.former); err != nil {
			return err
		}
		tx.pairs[tenant] = p.pair()
		return nil
	})
}
