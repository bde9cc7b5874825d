package authimport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"portcullis/internal/authdata"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// batchRows is how many rows go into one write.
const batchRows = 500

// Config says what to import, and how.
type Config struct {
	Source *authdata.Source
	// Store gets the rows; nil reads everything and writes nothing.
	Store store.Store
	By    store.Actor
	// ID names the source in the store, where it is remembered how far an import of it
	// has come.
	ID string
	// SkipBad goes on after a row that cannot be taken over. Without it the first one
	// ends the import.
	SkipBad bool
	// Bad hears of each row that is left out, and of links to nothing. Required.
	Bad func(error)
	// Progress hears of how many rows were read so far; nil: nobody does.
	Progress func(rows int64)
	// Now is the clock; time.Now where it is nil.
	Now func() time.Time
}

// Summary is what an import did.
type Summary struct {
	Read    store.ImportCounts // rows that were taken over, or are there already
	New     store.ImportCounts // of those, the ones that were written by this run
	Left    int                // rows that were left out
	Resumed bool               // an earlier run was cut off
	// Dangling counts links to roles, permissions and users that are absent or of
	// another tenant. They grant nothing in Auth.
	Dangling int
}

// place is how far an import has come, as the store keeps it: in the tenant of that
// fingerprint, and the kind of row, behind the row At. An empty tenant is the audit.
type place struct {
	Tenant string `json:"tenant"`
	Kind   int    `json:"kind"`
	At     string `json:"at"`
}

// The kinds of rows of a tenant, in the order in which they are written.
const (
	kindTenant = iota
	kindRoles
	kindPermissions
	kindMembers
	kindUserKeys
)

// run is one import under way.
type run struct {
	Config
	sum     Summary
	rows    int64
	batch   store.ImportBatch
	n       int // rows in batch
	from    *place
	tenants []store.TenantID // in the store, of the source's
}

// Run imports.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &run{Config: cfg}
	err := r.all(ctx)
	return r.sum, err
}

func (r *run) all(ctx context.Context) error {
	if r.Store != nil {
		text, done, err := r.Store.ImportCursor(ctx, r.ID)
		if err != nil {
			return err
		}
		if text != "" && !done {
			r.from = &place{}
			if err := json.Unmarshal([]byte(text), r.from); err != nil {
				return fmt.Errorf("how far the import has come: %w", err)
			}
			r.sum.Resumed = true
		}
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := r.tenant(ctx, key); err != nil {
			return err
		}
	}
	for err := range r.Source.Orphans(ctx) {
		if err := r.bad(err); err != nil {
			return err
		}
	}
	return r.audit(ctx)
}

// keys are the source's client keys. Where the place to resume at is none of them, the
// import begins anew.
func (r *run) keys(ctx context.Context) ([]authdata.Secret, error) {
	var keys []authdata.Secret
	known := false
	for key, err := range r.Source.Tenants(ctx) {
		if err != nil {
			if err := r.bad(err); err != nil {
				return nil, err
			}
			continue
		}
		if _, ok := identity.ParseClientKey([]byte(key.Reveal())); !ok {
			err := fmt.Errorf("a client key (%s) is no UUID4: nobody could sign in with it: give its rows another creator in Auth", fingerprint(key))
			if !r.SkipBad {
				return nil, err
			}
			r.sum.Left++
			r.Bad(err)
			continue
		}
		keys = append(keys, key)
		known = known || r.from != nil && r.from.Tenant == fingerprint(key)
	}
	if r.from != nil && r.from.Tenant != "" && !known {
		r.from = nil
	}
	return keys, nil
}

// fingerprint names a client key without telling it.
func fingerprint(key authdata.Secret) string {
	sum := sha256.Sum256([]byte("portcullis imported tenant v1\x00" + key.Reveal()))
	return hex.EncodeToString(sum[:8])
}

// after is where a kind of row of a tenant begins: skip says that it is done already.
func (r *run) after(tenant string, kind int) (cursor authdata.Cursor, skip bool, err error) {
	switch {
	case r.from == nil:
		return cursor, false, nil
	case r.from.Tenant != tenant:
		return cursor, true, nil // an earlier tenant
	case kind < r.from.Kind:
		return cursor, true, nil
	case kind == r.from.Kind && r.from.At != "":
		cursor, err = authdata.ParseCursor(r.from.At)
		return cursor, false, err
	}
	return cursor, false, nil
}

func (r *run) tenant(ctx context.Context, key authdata.Secret) error {
	name := fingerprint(key)
	secret, _ := identity.ParseClientKey([]byte(key.Reveal()))
	made := store.NewTenant{Name: "auth-" + name, Admitted: true}
	for settings, err := range r.Source.Settings(ctx, key, authdata.Cursor{}) {
		if err != nil {
			if err := r.bad(err); err != nil {
				return err
			}
			continue
		}
		made.StrictUsers = settings.StrictUsers
	}
	digest := store.Digest(identity.KeyDigest(secret))
	_, skip, err := r.after(name, kindTenant)
	if err != nil {
		return err
	}
	if !skip {
		r.batch.Tenants = append(r.batch.Tenants, store.ImportTenant{Tenant: made, Key: store.NewKey{
			Name: "auth", Digest: digest, Prefix: string(secret[:8]), Scopes: store.DefaultScopes(),
		}})
		r.sum.Read.Tenants++
		if err := r.write(ctx, place{Tenant: name, Kind: kindRoles}, false); err != nil {
			return err
		}
	}
	var id store.TenantID
	if r.Store != nil {
		there, err := r.Store.Key(ctx, digest)
		if err != nil {
			return err
		}
		if there.Key == nil {
			return fmt.Errorf("tenant %s: its client key is in the store no more: it was deleted while the import ran", made.Name)
		}
		id = there.Key.Tenant
	}
	r.tenants = append(r.tenants, id)
	if err := r.rowsOf(ctx, key, name, id); err != nil {
		return err
	}
	if r.from != nil && r.from.Tenant == name {
		r.from = nil // from here on nothing was imported
	}
	return nil
}

// rowsOf imports all of a tenant's rows.
func (r *run) rowsOf(ctx context.Context, key authdata.Secret, name string, id store.TenantID) error {
	if err := each(ctx, r, name, kindRoles, func(after authdata.Cursor) iter.Seq2[authdata.Role, error] {
		return r.Source.Roles(ctx, key, after)
	}, func(row authdata.Role) authdata.Cursor {
		r.batch.Roles = append(r.batch.Roles, store.ImportRole{Tenant: id, Name: row.Name, Description: row.Description})
		r.sum.Read.Roles++
		return row.Cursor
	}); err != nil {
		return err
	}
	if err := each(ctx, r, name, kindPermissions, func(after authdata.Cursor) iter.Seq2[authdata.Grant, error] {
		return r.Source.Grants(ctx, key, after)
	}, func(row authdata.Grant) authdata.Cursor {
		r.batch.Permissions = append(r.batch.Permissions, store.ImportPermission{Tenant: id, Role: row.Role, Name: row.Permission})
		r.sum.Read.Permissions++
		return row.Cursor
	}); err != nil {
		return err
	}
	if err := each(ctx, r, name, kindMembers, func(after authdata.Cursor) iter.Seq2[authdata.Membership, error] {
		return r.Source.Memberships(ctx, key, after)
	}, func(row authdata.Membership) authdata.Cursor {
		r.batch.Members = append(r.batch.Members, store.ImportMember{Tenant: id, User: row.User, Role: row.Role})
		r.sum.Read.Members++
		return row.Cursor
	}); err != nil {
		return err
	}
	return each(ctx, r, name, kindUserKeys, func(after authdata.Cursor) iter.Seq2[authdata.UserKey, error] {
		return r.Source.UserKeys(ctx, key, after)
	}, func(row authdata.UserKey) authdata.Cursor {
		r.batch.UserKeys = append(r.batch.UserKeys, r.userKey(id, &row))
		r.sum.Read.UserKeys++
		return row.Cursor
	})
}

// each imports one kind of row.
func each[T any](ctx context.Context, r *run, tenant string, kind int, read func(authdata.Cursor) iter.Seq2[T, error], add func(T) authdata.Cursor) error {
	after, skip, err := r.after(tenant, kind)
	if err != nil || skip {
		return err
	}
	for row, err := range read(after) {
		r.rows++
		if err != nil {
			if err := r.bad(err); err != nil {
				return err
			}
			continue
		}
		at := add(row)
		if r.n++; r.n == batchRows {
			if err := r.write(ctx, place{Tenant: tenant, Kind: kind, At: at.String()}, false); err != nil {
				return err
			}
		}
	}
	return r.write(ctx, place{Tenant: tenant, Kind: kind + 1}, false)
}

// userKey is a user's API key. One that Auth no longer admits is revoked here, said
// when or not.
func (r *run) userKey(tenant store.TenantID, row *authdata.UserKey) store.ImportUserKey {
	k := store.ImportUserKey{
		NewUserKey: store.NewUserKey{Tenant: tenant, User: row.User, Digest: row.Digest, Prefix: row.Prefix, Label: row.Label, Expires: moment(row.Expires)},
		ID:         row.KeyID, Created: moment(row.Created), Revoked: moment(row.Revoked), LastUsed: moment(row.LastUsed),
	}
	if _, ok := identity.ParseClientKey([]byte(row.KeyID)); !ok {
		k.ID = "" // a new one: the API admits UUID4 alone
	}
	if !row.Active && k.Revoked.IsZero() {
		k.Revoked = r.Now()
	}
	return k
}

// moment is a time as every store can hold it, the nearest where it cannot; zero for
// none. The year 1 is a time like any other: an expired key stays expired.
func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return inRange(*t)
}

func inRange(t time.Time) time.Time {
	switch first, last := time.Unix(0, math.MinInt64+1), time.Unix(0, math.MaxInt64); {
	case t.Before(first):
		return first
	case t.After(last):
		return last
	}
	return t
}

// bad decides about a row that cannot be taken over: nil goes on.
func (r *run) bad(err error) error {
	var row *authdata.RowError
	if !errors.As(err, &row) {
		return err
	}
	if row.Kind == authdata.Dangling {
		r.sum.Dangling++
		r.Bad(err)
		return nil
	}
	if !r.SkipBad {
		return fmt.Errorf("%w: mend it in Auth, or leave such rows out with --skip-bad", err)
	}
	r.sum.Left++
	r.Bad(err)
	return nil
}

// write writes the batch, and where to go on behind it.
func (r *run) write(ctx context.Context, next place, done bool) error {
	batch := r.batch
	r.batch, r.n = store.ImportBatch{}, 0
	if r.Progress != nil {
		r.Progress(r.rows)
	}
	if r.Store == nil {
		return ctx.Err()
	}
	cursor, err := json.Marshal(next)
	if err != nil {
		return err
	}
	counts, _, err := r.Store.Import(ctx, r.By, r.ID, batch, string(cursor), done)
	if err != nil {
		return err
	}
	n := &r.sum.New
	n.Tenants += counts.Tenants
	n.Roles += counts.Roles
	n.Permissions += counts.Permissions
	n.Members += counts.Members
	n.UserKeys += counts.UserKeys
	n.Audit += counts.Audit
	return nil
}
