package sqlite

import (
	"context"
	"fmt"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlHasParent = `SELECT EXISTS (SELECT 1 FROM role_parents WHERE tenant_id = ? AND role_id = ? AND parent_id = ?)`

	sqlInsertParent = `INSERT INTO role_parents (tenant_id, role_id, parent_id) VALUES (?, ?, ?)`

	sqlDeleteParent = `DELETE FROM role_parents WHERE tenant_id = ? AND role_id = ? AND parent_id = ?`

	sqlParentsOf = `SELECT r.name FROM role_parents AS l JOIN roles AS r ON r.id = l.parent_id
		WHERE l.tenant_id = ? AND l.role_id = ? ORDER BY r.name`

	sqlChildrenOf = `SELECT r.name FROM role_parents AS l JOIN roles AS r ON r.id = l.role_id
		WHERE l.tenant_id = ? AND l.parent_id = ? ORDER BY r.name`

	sqlParentNames = `SELECT l.role_id, r.name FROM role_parents AS l JOIN roles AS r ON r.id = l.parent_id
		WHERE l.tenant_id = ? ORDER BY l.role_id, r.name`

	// Whether the third parameter is among the ancestors of the second, itself
	// included. UNION drops what was visited, so that it ends on any graph.
	sqlInherits = `WITH RECURSIVE up (id) AS (
			SELECT CAST(?2 AS INTEGER)
			UNION
			SELECT l.parent_id FROM up JOIN role_parents AS l ON l.tenant_id = ?1 AND l.role_id = up.id
		)
		SELECT EXISTS (SELECT 1 FROM up WHERE id = ?3)`
)

// AddParent implements store.Store.
func (s *Store) AddParent(ctx context.Context, by store.Actor, tenant store.TenantID, role, parent string) (store.Result, error) {
	return s.write(ctx, "add parent", by, func(tx *writeTx) (*store.Written, error) {
		l, err := tx.parentLink(store.ActionAddParent, tenant, role, parent)
		if err != nil || l.w.Outcome == store.OutcomeMissing {
			return l.w, err
		}
		l.w.After = store.LinkState{Present: true}
		if l.present {
			l.w.Before = store.LinkState{Present: true}
			return l.w, nil
		}
		var cycle bool
		if err := tx.scan(tx.ctx, sqlInherits, args{int64(tenant), int64(l.parent), int64(l.role)}, &cycle); err != nil {
			return nil, err
		}
		if cycle {
			return nil, fmt.Errorf("role %q under %q: %w", role, parent, store.ErrCycle)
		}
		if _, err := tx.exec(tx.ctx, sqlInsertParent, int64(tenant), int64(l.role), int64(l.parent)); err != nil {
			return nil, err
		}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

// RemoveParent implements store.Store.
func (s *Store) RemoveParent(ctx context.Context, by store.Actor, tenant store.TenantID, role, parent string) (store.Result, error) {
	return s.write(ctx, "remove parent", by, func(tx *writeTx) (*store.Written, error) {
		l, err := tx.parentLink(store.ActionRemoveParent, tenant, role, parent)
		if err != nil || l.w.Outcome == store.OutcomeMissing || !l.present {
			return l.w, err
		}
		if _, err := tx.exec(tx.ctx, sqlDeleteParent, int64(tenant), int64(l.role), int64(l.parent)); err != nil {
			return nil, err
		}
		l.w.Before = store.LinkState{Present: true}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

// parentLink is what a write finds of a link between two roles. Its Written
// says unchanged, or missing where either role is.
type parentLink struct {
	w            *store.Written
	role, parent policy.RoleID
	present      bool
}

func (tx *writeTx) parentLink(action store.Action, tenant store.TenantID, role, parent string) (parentLink, error) {
	l := parentLink{w: &store.Written{
		Outcome:  store.OutcomeMissing,
		Tenant:   tenant,
		Action:   action,
		Resource: store.ParentResource(role, parent),
	}}
	below, err := tx.role(tenant, role)
	if err != nil || below == nil {
		return l, err
	}
	above, err := tx.role(tenant, parent)
	if err != nil || above == nil {
		return l, err
	}
	l.role, l.parent = below.id, above.id
	l.w.Outcome = store.OutcomeUnchanged
	err = tx.scan(tx.ctx, sqlHasParent, args{int64(tenant), int64(l.role), int64(l.parent)}, &l.present)
	return l, err
}
