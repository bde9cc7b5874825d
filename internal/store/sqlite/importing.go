package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlImportCursor = `SELECT cursor, done FROM imports WHERE source = ?`

	sqlPutImport = `INSERT INTO imports (source, cursor, started_at, updated_at, done) VALUES (?1, ?2, ?3, ?3, ?4)
		ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at, done = excluded.done`

	sqlImportUserKey = `INSERT INTO user_keys (id, seal_key_id, key_id, tenant_id, principal_index, user_id, digest, prefix, label,
			created_at, expires_at, revoked_at, last_used_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlUserKeyIDKnown = `SELECT EXISTS (SELECT 1 FROM user_keys WHERE key_id = ?)`

	// ?1 and ?2 are the times of a batch's first and last row, ?3 its tenants.
	sqlAuditBetween = `SELECT id, time, tenant_id, actor, user, action, resource, before, after, details,
			outcome, success, address, user_agent, request_id, revision, key_id, coalesce(sealed, '')
		FROM audit WHERE time BETWEEN ?1 AND ?2 AND tenant_id IN (SELECT value FROM json_each(?3))`
)

// importing is one batch on its way in.
type importing struct {
	tx     *writeTx
	w      *store.Written
	counts store.ImportCounts
	there  map[store.TenantID]bool
	roles  map[store.TenantID]map[string]policy.RoleID // that were looked up
}

// Import implements store.Importer.
func (s *Store) Import(ctx context.Context, by store.Actor, source string, batch store.ImportBatch, cursor string, done bool) (store.ImportCounts, store.Result, error) {
	var counts store.ImportCounts
	result, err := s.write(ctx, "import", by, func(tx *writeTx) (*store.Written, error) {
		if source == "" {
			return nil, errors.New("source: is empty: say where the rows come from")
		}
		im := &importing{tx: tx, w: &store.Written{}, there: make(map[store.TenantID]bool), roles: make(map[store.TenantID]map[string]policy.RoleID)}
		was, wasDone, started, err := importCursor(tx.ctx, tx.conn, source)
		if err != nil {
			return nil, err
		}
		if err := im.batch(&batch); err != nil {
			return nil, err
		}
		if err := im.audit(batch.Audit, started); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if _, err := tx.exec(tx.ctx, sqlPutImport, source, cursor, tx.now.UnixNano(), done); err != nil {
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
	err = s.borrowing(ctx, "read how far an import has come", func(ctx context.Context, c *conn) (err error) {
		cursor, done, _, err = importCursor(ctx, c, source)
		return err
	})
	return cursor, done, err
}

func importCursor(ctx context.Context, c *conn, source string) (cursor string, done, started bool, err error) {
	err = c.scan(ctx, sqlImportCursor, args{source}, &cursor, &done)
	if absent(err) {
		return "", false, false, nil
	}
	return cursor, done, err == nil, err
}

// batch writes all but the audit.
func (im *importing) batch(b *store.ImportBatch) error {
	for i := range b.Tenants {
		if err := im.tenant(&b.Tenants[i]); err != nil {
			return fmt.Errorf("tenant %q: %w", b.Tenants[i].Tenant.Name, err)
		}
	}
	for i := range b.Roles {
		if err := im.role(&b.Roles[i]); err != nil {
			return fmt.Errorf("role %q of tenant %d: %w", b.Roles[i].Name, b.Roles[i].Tenant, err)
		}
	}
	for i := range b.Permissions {
		if p := &b.Permissions[i]; p.Name == "" {
			return fmt.Errorf("role %q of tenant %d: the name of a permission is empty", p.Role, p.Tenant)
		} else if err := im.permission(p); err != nil {
			return fmt.Errorf("a permission of role %q of tenant %d: %w", p.Role, p.Tenant, err)
		}
	}
	for i := range b.Members {
		if err := im.member(&b.Members[i]); err != nil {
			return fmt.Errorf("a member of role %q of tenant %d: %w", b.Members[i].Role, b.Members[i].Tenant, err)
		}
	}
	for i := range b.UserKeys {
		if err := im.userKey(&b.UserKeys[i]); err != nil {
			return fmt.Errorf("API key %q of tenant %d: %w", b.UserKeys[i].Prefix, b.UserKeys[i].Tenant, err)
		}
	}
	return nil
}

// tenant takes over a tenant: the one that has the key, or the one of that name, or
// a new one.
func (im *importing) tenant(t *store.ImportTenant) error {
	owner, _, err := im.tx.ownerOfKey(t.Key.Digest)
	if err != nil || owner != 0 {
		return err
	}
	made, err := tenantByName(im.tx.ctx, im.tx.conn, t.Tenant.Name)
	if errors.Is(err, store.ErrNotFound) {
		if made, err = im.tx.makeTenant(t.Tenant); err == nil {
			im.w.Changes.Tenant(made.ID)
			im.counts.Tenants++
		}
	}
	if err != nil {
		return err
	}
	key := t.Key
	key.Tenant = made.ID
	_, err = im.tx.insertKey(key, im.w)
	return err
}

// tenantIsThere is store.ErrNotFound unless it is.
func (im *importing) tenantIsThere(tenant store.TenantID) error {
	if im.there[tenant] {
		return nil
	}
	_, err := tenantByID(im.tx.ctx, im.tx.conn, tenant)
	im.there[tenant] = err == nil
	return err
}

func (im *importing) role(r *store.ImportRole) error {
	if r.Name == "" {
		return errors.New("its name is empty")
	}
	found, err := im.tx.role(r.Tenant, r.Name)
	if err != nil || found != nil {
		return err
	}
	im.counts.Roles++
	im.w.Changes.Roles(r.Tenant)
	return im.tx.putDescription(r.Tenant, 0, r.Name, r.Description)
}

// roleID finds a role of the store or of this batch, once.
func (im *importing) roleID(tenant store.TenantID, name string) (policy.RoleID, error) {
	if id, ok := im.roles[tenant][name]; ok {
		return id, nil
	}
	found, err := im.tx.role(tenant, name)
	if err != nil {
		return 0, err
	}
	if found == nil {
		return 0, fmt.Errorf("the role: %w", store.ErrNotFound)
	}
	if im.roles[tenant] == nil {
		im.roles[tenant] = make(map[string]policy.RoleID)
	}
	im.roles[tenant][name] = found.id
	return found.id, nil
}

func (im *importing) permission(p *store.ImportPermission) error {
	role, err := im.roleID(p.Tenant, p.Role)
	if err != nil {
		return err
	}
	l := permissionLink{tenant: p.Tenant, role: role, name: p.Name}
	if l.keys, err = im.tx.keys(p.Tenant); err != nil {
		return err
	}
	var there permissionRow
	err = im.tx.scan(im.tx.ctx, sqlPermission, l.is(), &there.id, &there.key, &there.sealed)
	if !absent(err) {
		return err
	}
	im.counts.Permissions++
	im.w.Changes.Roles(p.Tenant)
	return im.tx.insertPermission(l)
}

func (im *importing) member(m *store.ImportMember) error {
	if m.User == "" {
		return errors.New("the user is empty")
	}
	role, err := im.roleID(m.Tenant, m.Role)
	if err != nil {
		return err
	}
	keys, err := im.tx.keys(m.Tenant)
	if err != nil {
		return err
	}
	current, former := indexes(keys, m.Tenant, policy.KindUser, m.User)
	row := membership{keys: keys, index: current, role: role}
	err = im.tx.scan(im.tx.ctx, sqlMembership, args{int64(m.Tenant), current[:], former[:], int64(role)},
		&row.row.id, &row.row.key, &row.row.kind, &row.row.sealed, &row.expires)
	if !absent(err) {
		return err
	}
	im.counts.Members++
	im.w.Changes.Grant(m.Tenant, current)
	return im.tx.insertMember(m.Tenant, &row, policy.KindUser, m.User, 0)
}

// userKey takes over a user's API key with its history. How many a user may have is
// not looked at: they are there.
func (im *importing) userKey(k *store.ImportUserKey) error {
	tx := im.tx
	var known bool
	if err := tx.scan(tx.ctx, sqlUserKeyKnown, args{k.Digest[:]}, &known); err != nil || known {
		return err
	}
	if err := im.tenantIsThere(k.Tenant); err != nil {
		return err
	}
	made, expires, err := k.Make(tx.now)
	if err != nil {
		return err
	}
	if k.ID != "" {
		made.ID = k.ID
		if err := tx.scan(tx.ctx, sqlUserKeyIDKnown, args{k.ID}, &known); err != nil {
			return err
		}
		if known {
			return fmt.Errorf("id %q, of another secret: %w", k.ID, store.ErrExists)
		}
	}
	if !k.Created.IsZero() {
		made.Created = k.Created
	}
	keys, err := tx.keys(k.Tenant)
	if err != nil {
		return err
	}
	key := keys.Current
	row := userKeyRow{key: made}
	id, err := newID(tx.ctx, tx.conn, key, sqlNextUserKey)
	if err != nil {
		return err
	}
	row.id = id.Int64
	user, label, err := row.seal(key)
	if err != nil {
		return err
	}
	index := indexUnder(key, k.Tenant, policy.KindUser, k.User)
	_, err = tx.exec(tx.ctx, sqlImportUserKey, id, key.KeyID(), made.ID, int64(k.Tenant), index[:], user, k.Digest[:], k.Prefix, label,
		made.Created.UnixNano(), nullable(expires), nanosOf(k.Revoked), nanosOf(k.LastUsed))
	if err != nil {
		return err
	}
	made.Revoked = k.Revoked
	im.counts.UserKeys++
	im.w.Changes.Key(k.Tenant, k.Digest, !made.Active(tx.now))
	im.w.Changes.Grant(k.Tenant, index)
	return nil
}

// audit takes over audit rows. They have no name of their own: a row that is there
// already in all that it says is left out, unless the batch has more such rows.
// Nothing is looked for before the source's first batch.
func (im *importing) audit(entries []store.AuditEntry, look bool) error {
	if len(entries) == 0 {
		return nil
	}
	var there map[store.AuditEntry]int
	if look {
		var err error
		if there, err = im.auditThere(entries); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if e.Time.IsZero() {
			return errors.New("time: is missing: a row keeps its own")
		}
		if e.Tenant != 0 {
			if err := im.tenantIsThere(e.Tenant); err != nil {
				return err
			}
		}
		if same := importedAudit(e); there[same] > 0 {
			there[same]--
			continue
		}
		keys, err := im.tx.keys(e.Tenant)
		if err != nil {
			return err
		}
		if err := im.tx.trail.add(im.tx.ctx, keys.Current, e); err != nil {
			return err
		}
		im.counts.Audit++
	}
	return nil
}

// auditThere counts the rows of the batch's time that are there. One that does not
// open is like no other.
func (im *importing) auditThere(entries []store.AuditEntry) (map[store.AuditEntry]int, error) {
	tenants := make(map[store.TenantID]sealing.Keys)
	first, last := entries[0].Time, entries[0].Time
	for i := range entries {
		if entries[i].Time.Before(first) {
			first = entries[i].Time
		}
		if entries[i].Time.After(last) {
			last = entries[i].Time
		}
		keys, err := im.tx.keys(entries[i].Tenant)
		if err != nil {
			return nil, err
		}
		tenants[entries[i].Tenant] = keys
	}
	ids, err := json.Marshal(slices.Collect(maps.Keys(tenants)))
	if err != nil {
		return nil, err
	}
	there := make(map[store.AuditEntry]int)
	err = im.tx.each(im.tx.ctx, sqlAuditBetween, args{first.UnixNano(), last.UnixNano(), string(ids)}, func(rows *sql.Rows) error {
		e, err := im.tx.store.scanAudit(im.tx.ctx, func(of store.TenantID) sealing.Keys { return tenants[of] }, rows)
		if errors.Is(err, store.ErrUnreadable) {
			return nil
		}
		there[importedAudit(e)]++
		return err
	})
	return there, err
}

// importedAudit is what an audit row says, without what the store gives it.
func importedAudit(e store.AuditEntry) store.AuditEntry {
	e.Time = store.FromNanos(e.Time.UnixNano())
	e.ID, e.Revision = 0, 0
	return e
}
