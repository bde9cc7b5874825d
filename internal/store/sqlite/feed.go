package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"portcullis/internal/store"
)

const (
	sqlTagOf = `SELECT tag FROM revision_log WHERE revision = ?`

	sqlAckAfter = `SELECT EXISTS (SELECT 1 FROM revision_log WHERE revision > ? AND ack = 1)`

	sqlChangesAfter = `SELECT revision, kind, tenant_id, principal_index, digest, gone, issued_before, expires_at
		FROM change_log WHERE revision > ? ORDER BY revision, n LIMIT ?`

	sqlPassed = `SELECT revision, tag FROM revision_log WHERE revision > ? ORDER BY revision DESC LIMIT ?`

	sqlLiveDigests = `SELECT digest FROM client_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)
		UNION ALL
		SELECT digest FROM user_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)`

	sqlPruneChanges = `DELETE FROM change_log WHERE revision <= (SELECT number FROM revision) - ?`

	sqlPruneRevisions = `DELETE FROM revision_log WHERE revision <= (SELECT number FROM revision) - ?`
)

// errStopped ends a reading whose caller wants no more.
var errStopped = errors.New("stopped by the caller")

// Delta implements store.Reader.
func (s *Store) Delta(ctx context.Context, after store.Revision, held []store.TenantID) (store.Delta, error) {
	var delta store.Delta
	err := s.reading(ctx, "read what changed", func(ctx context.Context, c *conn) error {
		delta = store.Delta{}
		head, err := scanRevision(ctx, c, sqlRevision)
		if err != nil {
			return err
		}
		delta.Head = head
		if after == head {
			return nil // known even where the log is pruned to nothing
		}
		var tag store.Tag
		switch err := c.scan(ctx, sqlTagOf, args{after.Number}, tagOf(&tag)); {
		case absent(err), err == nil && tag != after.Tag:
			return store.ErrRevisionUnknown
		case err != nil:
			return err
		}
		return s.fillDelta(ctx, c, &delta, after, held)
	})
	if err != nil {
		return store.Delta{}, err
	}
	return delta, nil
}

func (s *Store) fillDelta(ctx context.Context, c *conn, delta *store.Delta, after store.Revision, held []store.TenantID) error {
	err := c.each(ctx, sqlChangesAfter, args{after.Number, store.MaxDeltaChanges + 1}, func(rows *sql.Rows) error {
		var row store.Change
		err := rows.Scan(&row.Revision, &row.Kind, &row.Tenant, indexOf(&row.Index), digestOf(&row.Digest), &row.Gone, &row.Before, &row.Expires)
		delta.Changes = append(delta.Changes, row)
		return err
	})
	if err != nil {
		return err
	}
	if len(delta.Changes) > store.MaxDeltaChanges {
		return store.ErrRevisionUnknown
	}
	if err := c.scan(ctx, sqlAckAfter, args{after.Number}, &delta.Ack); err != nil {
		return err
	}
	err = c.each(ctx, sqlPassed, args{after.Number, store.MaxDeltaPassed}, func(rows *sql.Rows) error {
		var passed store.Revision
		if err := rows.Scan(&passed.Number, tagOf(&passed.Tag)); err != nil {
			return err
		}
		delta.Passed = append(delta.Passed, passed)
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(delta.Passed)
	var named, stale []store.TenantID
	signing := false
	for _, row := range delta.Changes {
		if row.Tenant != 0 { // 0: signing keys, and their denials, are of none
			named = append(named, row.Tenant)
		}
		signing = signing || row.Kind == store.ChangeSigning
		if row.Kind == store.ChangeRoles && slices.Contains(held, row.Tenant) {
			stale = append(stale, row.Tenant)
		}
	}
	if signing {
		if delta.Signing, err = signingKeys(ctx, c, sqlSigningKeys, nil); err != nil {
			return err
		}
	}
	slices.Sort(named)
	for _, id := range slices.Compact(named) {
		t, err := tenantByID(ctx, c, id)
		if err != nil {
			return fmt.Errorf("tenant %d: %w", id, err)
		}
		delta.Tenants = append(delta.Tenants, t)
	}
	slices.Sort(stale)
	for _, id := range slices.Compact(stale) {
		roles, err := s.roleSpecs(ctx, c, id)
		if err != nil {
			return err
		}
		delta.Roles = append(delta.Roles, store.TenantRoles{Tenant: id, Revision: delta.Head, Roles: roles})
	}
	return nil
}

// Bootstrap implements store.Reader.
func (s *Store) Bootstrap(ctx context.Context, yield func(store.Digest) error) (store.Base, error) {
	var base store.Base
	var stopped error // apart from the store's own errors, which may be tried again
	err := s.reading(ctx, "load the tenants and keys", func(ctx context.Context, c *conn) error {
		base = store.Base{}
		var err error
		if base.Head, err = scanRevision(ctx, c, sqlRevision); err != nil {
			return err
		}
		if base.Tenants, err = tenantList(ctx, c); err != nil {
			return err
		}
		now := s.cfg.Now()
		if base.Denied, err = denied(ctx, c, now); err != nil {
			return err
		}
		if base.Signing, err = signingKeys(ctx, c, sqlSigningKeysAlive, args{now.UnixNano()}); err != nil {
			return err
		}
		return c.each(ctx, sqlLiveDigests, args{now.UnixNano()}, func(rows *sql.Rows) error {
			var digest store.Digest
			if err := rows.Scan(digestOf(&digest)); err != nil {
				return err
			}
			stopped = yield(digest)
			if stopped != nil {
				return errStopped
			}
			return nil
		})
	})
	if stopped != nil {
		return store.Base{}, stopped
	}
	if err != nil {
		return store.Base{}, err
	}
	return base, nil
}

// PruneChanges implements store.Store.
func (s *Store) PruneChanges(ctx context.Context, keep int64) error {
	if keep < 0 {
		return fmt.Errorf("prune the change log: keep: %d is below 0", keep)
	}
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		if _, err := c.exec(ctx, sqlPruneChanges, keep); err != nil {
			return err
		}
		_, err := c.exec(ctx, sqlPruneRevisions, keep)
		return err
	})
	if err != nil {
		return fmt.Errorf("prune the change log: %w", err)
	}
	return nil
}
