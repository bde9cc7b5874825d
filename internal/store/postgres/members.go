package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlMembership = `
SELECT id, coalesce(expires_at, 0) FROM portcullis.memberships
WHERE tenant_id = $1 AND principal_index = $2 AND role_id = $3`

	sqlInsertMember = `
INSERT INTO portcullis.memberships (tenant_id, principal_index, kind, principal_id, role_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)`

	sqlExpireMember = `UPDATE portcullis.memberships SET expires_at = $1 WHERE id = $2`

	sqlDeleteMember = `DELETE FROM portcullis.memberships WHERE id = $1`

	sqlDeletePrincipal = `DELETE FROM portcullis.memberships WHERE tenant_id = $1 AND principal_index = $2`

	sqlMemberList = `
SELECT m.kind, m.principal_id, coalesce(m.expires_at, 0)
FROM portcullis.roles o JOIN portcullis.memberships m ON m.tenant_id = o.tenant_id AND m.role_id = o.id
WHERE o.tenant_id = $1 AND o.name = $2 ORDER BY m.kind, m.principal_id`

	sqlHasRole = `
SELECT EXISTS (SELECT FROM portcullis.roles o
               JOIN portcullis.memberships m ON m.tenant_id = o.tenant_id AND m.role_id = o.id
               WHERE o.tenant_id = $1 AND o.name = $2 AND m.principal_index = $3 AND (m.expires_at IS NULL OR m.expires_at > $4))`
)

// AddMember implements store.Store.
func (s *Store) AddMember(ctx context.Context, by store.Actor, tenant store.TenantID, kind policy.Kind, id, role string, expires time.Time) (store.Result, error) {
	return s.write(ctx, "add member", by, func(tx *writeTx) (*store.Written, error) {
		if err := mustBeText("id", id); err != nil {
			return nil, err
		}
		until, err := store.ExpiryNanos(expires)
		if err != nil {
			return nil, err
		}
		if err := tx.mustBeBacked(tenant, kind, id); err != nil {
			return nil, err
		}
		m, err := tx.membership(store.ActionAddMembership, tenant, kind, id, role)
		if err != nil || m.w.Outcome == store.OutcomeMissing {
			return m.w, err
		}
		m.w.After = store.MembershipState{Expires: store.AuditTime(store.FromNanos(until))}
		switch {
		case m.row == 0:
			_, err = tx.exec(sqlInsertMember, int64(tenant), m.index[:], int16(kind), id, int64(m.role), orNull(until))
		case m.expires == until:
			return m.w, nil
		default:
			_, err = tx.exec(sqlExpireMember, orNull(until), m.row)
		}
		if err != nil {
			return nil, err
		}
		m.w.Outcome = store.OutcomeDone
		m.w.Changes.Grant(tenant, m.index)
		return m.w, nil
	})
}

// RemoveMember implements store.Store.
func (s *Store) RemoveMember(ctx context.Context, by store.Actor, tenant store.TenantID, kind policy.Kind, id, role string) (store.Result, error) {
	return s.write(ctx, "remove member", by, func(tx *writeTx) (*store.Written, error) {
		m, err := tx.membership(store.ActionRemoveMembership, tenant, kind, id, role)
		if err != nil || m.w.Outcome == store.OutcomeMissing || m.row == 0 {
			return m.w, err
		}
		if _, err := tx.exec(sqlDeleteMember, m.row); err != nil {
			return nil, err
		}
		m.w.Outcome = store.OutcomeDone
		m.w.Changes.Grant(tenant, m.index)
		return m.w, nil
	})
}

// membership is what a write finds of a principal in a role. Its Written says
// unchanged, or missing where the role is.
type membership struct {
	w       *store.Written
	index   store.Index
	role    policy.RoleID
	row     int64 // 0 where there is none
	expires int64
}

func (tx *writeTx) membership(action store.Action, tenant store.TenantID, kind policy.Kind, id, role string) (membership, error) {
	if kind.String() == "" {
		return membership{}, fmt.Errorf("kind: %d is no kind of principal: use user, client or workload", kind)
	}
	if id == "" {
		return membership{}, errors.New("id: is empty: name the principal")
	}
	m := membership{
		index: store.PlainIndex(tenant, kind, id),
		w: &store.Written{
			Outcome:  store.OutcomeMissing,
			Tenant:   tenant,
			Action:   action,
			Resource: store.MembershipResource(role),
			User:     store.AuditUser(kind, id),
			Details:  map[string]any{"kind": kind.String()},
		},
	}
	found, err := tx.role(tenant, role)
	if err != nil || found == nil {
		return m, err
	}
	m.role = found.id
	m.w.Outcome = store.OutcomeUnchanged
	err = tx.scan(sqlMembership, []any{int64(tenant), m.index[:], int64(m.role)}, &m.row, &m.expires)
	switch {
	case isNoRows(err):
		return m, nil
	case err != nil:
		return m, err
	}
	m.w.Before = store.MembershipState{Expires: store.AuditTime(store.FromNanos(m.expires))}
	return m, nil
}

// MemberList implements store.Store.
func (s *Store) MemberList(ctx context.Context, tenant store.TenantID, role string) ([]store.Member, error) {
	if !isText(role) {
		return nil, nil
	}
	var list []store.Member
	err := s.try(ctx, "list members", func(ctx context.Context) error {
		list = nil
		rows, err := s.pool.Query(ctx, sqlMemberList, int64(tenant), role)
		return each(rows, err, func(scan func(...any) error) error {
			m := store.Member{Role: role}
			var expires int64
			err := scan(&m.Kind, &m.ID, &expires)
			m.Expires = store.FromNanos(expires)
			list = append(list, m)
			return err
		})
	})
	return list, err
}

// HasRole implements store.Store.
func (s *Store) HasRole(ctx context.Context, tenant store.TenantID, kind policy.Kind, id, role string, now time.Time) (bool, error) {
	if !isText(role) {
		return false, nil
	}
	index := store.PlainIndex(tenant, kind, id)
	var has bool
	err := s.try(ctx, "look up membership", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, sqlHasRole, int64(tenant), role, index[:], now.UnixNano()).Scan(&has)
	})
	return has, err
}
