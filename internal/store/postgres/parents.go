package postgres

import (
	"context"
	"fmt"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlHasParent = `SELECT EXISTS (SELECT FROM portcullis.role_parents WHERE tenant_id = $1 AND role_id = $2 AND parent_id = $3)`

	sqlInsertParent = `INSERT INTO portcullis.role_parents (tenant_id, role_id, parent_id) VALUES ($1, $2, $3)`

	sqlDeleteParent = `DELETE FROM portcullis.role_parents WHERE tenant_id = $1 AND role_id = $2 AND parent_id = $3`

	sqlParentsOf = `
SELECT o.name FROM portcullis.role_parents l JOIN portcullis.roles o ON o.id = l.parent_id
WHERE l.tenant_id = $1 AND l.role_id = $2 ORDER BY o.name`

	sqlChildrenOf = `
SELECT o.name FROM portcullis.role_parents l JOIN portcullis.roles o ON o.id = l.role_id
WHERE l.tenant_id = $1 AND l.parent_id = $2 ORDER BY o.name`

	// Whether $3 is among the ancestors of $2, itself included. UNION drops what
	// was visited, so that it ends on any graph.
	sqlInherits = `
WITH RECURSIVE up (id) AS (
    SELECT $2::bigint
    UNION
    SELECT l.parent_id FROM up JOIN portcullis.role_parents l ON l.tenant_id = $1 AND l.role_id = up.id
)
SELECT EXISTS (SELECT FROM up WHERE id = $3)`
)

// AddParent implements store.Store.
func (s *Store) AddParent(ctx context.Context, by store.Actor, tenant store.TenantID, role, parent string) (store.Result, error) {
	return s.write(ctx, "add parent", tenant, by, func(tx *writeTx) (*store.Written, error) {
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
		if err := tx.scan(sqlInherits, []any{int64(tenant), int64(l.parent), int64(l.role)}, &cycle); err != nil {
			return nil, err
		}
		if cycle {
			return nil, fmt.Errorf("role %q under %q: %w", role, parent, store.ErrCycle)
		}
		if _, err := tx.exec(sqlInsertParent, int64(tenant), int64(l.role), int64(l.parent)); err != nil {
			return nil, err
		}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

// RemoveParent implements store.Store.
func (s *Store) RemoveParent(ctx context.Context, by store.Actor, tenant store.TenantID, role, parent string) (store.Result, error) {
	return s.write(ctx, "remove parent", tenant, by, func(tx *writeTx) (*store.Written, error) {
		l, err := tx.parentLink(store.ActionRemoveParent, tenant, role, parent)
		if err != nil || l.w.Outcome == store.OutcomeMissing || !l.present {
			return l.w, err
		}
		if _, err := tx.exec(sqlDeleteParent, int64(tenant), int64(l.role), int64(l.parent)); err != nil {
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
	err = tx.scan(sqlHasParent, []any{int64(tenant), int64(l.role), int64(l.parent)}, &l.present)
	return l, err
}
