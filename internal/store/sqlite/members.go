package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlMembership = `SELECT id, coalesce(expires_at, 0) FROM memberships
		WHERE tenant_id = ? AND principal_index = ? AND role_id = ?`

	sqlInsertMember = `INSERT INTO memberships (tenant_id, principal_index, kind, principal_id, role_id, expires_at)
		VALUES (?, ?, ?, ?, ?, ?)`

	sqlExpireMember = `UPDATE memberships SET expires_at = ? WHERE id = ?`

	sqlDeleteMember = `DELETE FROM memberships WHERE id = ?`

	sqlDeletePrincipal = `DELETE FROM memberships WHERE tenant_id = ? AND principal_index = ?`

	sqlCountMembers = `SELECT count(*) FROM memberships WHERE tenant_id = ? AND role_id = ?`

	sqlMemberList = `SELECT m.kind, m.principal_id, coalesce(m.expires_at, 0)
		FROM roles AS r JOIN memberships AS m ON m.tenant_id = r.tenant_id AND m.role_id = r.id
		WHERE r.tenant_id = ? AND r.name = ? ORDER BY m.kind, m.principal_id`

	sqlHasRole = `SELECT EXISTS (SELECT 1 FROM roles AS r
		JOIN memberships AS m ON m.tenant_id = r.tenant_id AND m.role_id = r.id
		WHERE r.tenant_id = ? AND r.name = ? AND m.principal_index = ? AND (m.expires_at IS NULL OR m.expires_at > ?))`

	// One statement, and so one snapshot. No membership is one row without a role.
	sqlGrant = `SELECT r.number, r.tag, (` + sqlKeyBacked + `), m.role_id, coalesce(m.expires_at, 0)
		FROM revision AS r LEFT JOIN memberships AS m ON m.tenant_id = ?1 AND m.principal_index = ?2
		ORDER BY m.role_id`
)

// AddMember implements store.Store.
func (s *Store) AddMember(ctx context.Context, by store.Actor, tenant store.TenantID, kind policy.Kind, id, role string, expires time.Time) (store.Result, error) {
	return s.write(ctx, "add member", by, func(tx *writeTx) (*store.Written, error) {
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
			_, err = tx.exec(tx.ctx, sqlInsertMember, int64(tenant), m.index[:], int64(kind), id, int64(m.role), nullable(until))
		case m.expires == until:
			return m.w, nil
		default:
			_, err = tx.exec(tx.ctx, sqlExpireMember, nullable(until), m.row)
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
		if _, err := tx.exec(tx.ctx, sqlDeleteMember, m.row); err != nil {
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
	err = tx.scan(tx.ctx, sqlMembership, args{int64(tenant), m.index[:], int64(m.role)}, &m.row, &m.expires)
	switch {
	case absent(err):
		return m, nil
	case err != nil:
		return m, err
	}
	m.w.Before = store.MembershipState{Expires: store.AuditTime(store.FromNanos(m.expires))}
	return m, nil
}

// MemberList implements store.Store.
func (s *Store) MemberList(ctx context.Context, tenant store.TenantID, role string) ([]store.Member, error) {
	var list []store.Member
	err := s.borrowing(ctx, "list members", func(ctx context.Context, c *conn) error {
		list = nil
		return c.each(ctx, sqlMemberList, args{int64(tenant), role}, func(rows *sql.Rows) error {
			m := store.Member{Role: role}
			var expires int64
			err := rows.Scan(&m.Kind, &m.ID, &expires)
			m.Expires = store.FromNanos(expires)
			list = append(list, m)
			return err
		})
	})
	return list, err
}

// HasRole implements store.Store.
func (s *Store) HasRole(ctx context.Context, tenant store.TenantID, kind policy.Kind, id, role string, now time.Time) (bool, error) {
	index := store.PlainIndex(tenant, kind, id)
	var has bool
	err := s.borrowing(ctx, "look up membership", func(ctx context.Context, c *conn) error {
		return c.scan(ctx, sqlHasRole, args{int64(tenant), role, index[:], now.UnixNano()}, &has)
	})
	return has, err
}

// Grant implements store.Reader.
func (s *Store) Grant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	index := store.PlainIndex(tenant, kind, id)
	var row store.GrantRow
	err := s.borrowing(ctx, "load grant", func(ctx context.Context, c *conn) error {
		row = store.GrantRow{}
		return c.each(ctx, sqlGrant, args{int64(tenant), index[:]}, func(rows *sql.Rows) error {
			var role sql.NullInt64
			var expires int64
			if err := rows.Scan(&row.Revision.Number, tagOf(&row.Revision.Tag), &row.KeyBackedUntil, &role, &expires); err != nil {
				return err
			}
			if role.Valid {
				row.Grant = append(row.Grant, policy.Membership{Role: policy.RoleID(role.Int64), Expires: expires})
			}
			return nil
		})
	})
	if err != nil {
		return store.GrantRow{}, err
	}
	if row.Revision == (store.Revision{}) {
		return store.GrantRow{}, errors.New("load grant: the revision row is gone: restore a backup")
	}
	return row, nil
}
