package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// Where there is none, the row has the id that a new one will have: what is sealed
	// is bound to it.
	sqlMembership = `
SELECT m.id IS NOT NULL, CASE WHEN m.id IS NULL THEN nextval('portcullis.membership_ids') ELSE m.id END,
       coalesce(m.key_id, 0), coalesce(m.kind, 0), coalesce(m.principal_id, ''), coalesce(m.expires_at, 0)
FROM (SELECT) AS one
LEFT JOIN portcullis.memberships m ON m.tenant_id = $1 AND m.principal_index = ANY ($2) AND m.role_id = $3
ORDER BY m.id LIMIT 1`

	sqlInsertMember = `
INSERT INTO portcullis.memberships (id, tenant_id, principal_index, kind, principal_id, role_id, expires_at, key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

	sqlExpireMember = `UPDATE portcullis.memberships SET expires_at = $1 WHERE id = $2`

	sqlDeleteMember = `DELETE FROM portcullis.memberships WHERE tenant_id = $1 AND principal_index = ANY ($2) AND role_id = $3`

	sqlDeletePrincipal = `DELETE FROM portcullis.memberships WHERE tenant_id = $1 AND principal_index = ANY ($2)`

	sqlMemberList = `
SELECT e.key_id, e.former_key_id, m.id, m.key_id, m.kind, m.principal_id, m.role_id, coalesce(m.expires_at, 0)
FROM portcullis.roles o JOIN portcullis.memberships m ON m.tenant_id = o.tenant_id AND m.role_id = o.id
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
WHERE o.tenant_id = $1 AND o.name = $2`

	sqlHasRole = `
SELECT e.key_id, e.former_key_id, coalesce(m.id, 0), coalesce(m.key_id, 0), coalesce(m.kind, 0), coalesce(m.principal_id, ''), coalesce(m.role_id, 0)
FROM (SELECT) AS one
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN (portcullis.roles o JOIN portcullis.memberships m ON m.tenant_id = o.tenant_id AND m.role_id = o.id)
       ON o.tenant_id = $1 AND o.name = $2 AND m.principal_index = ANY ($3) AND (m.expires_at IS NULL OR m.expires_at > $4)
LIMIT 1`
)

// AddMember implements store.Store.
func (s *Store) AddMember(ctx context.Context, by store.Actor, tenant store.TenantID, kind policy.Kind, id, role string, expires time.Time) (store.Result, error) {
	return s.write(ctx, "add member", tenant, by, func(tx *writeTx) (*store.Written, error) {
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
		if m.present {
			// Setting the expiry of what does not open would be no membership.
			if err := s.mustBe(m.keys, tenant, &m.row, kind, id); err != nil {
				return nil, err
			}
		}
		m.w.After = store.MembershipState{Expires: store.AuditTime(store.FromNanos(until))}
		switch {
		case !m.present:
			err = tx.insertMember(tenant, &m, kind, id, until)
		case m.expires == until:
			return m.w, nil
		default:
			_, err = tx.exec(sqlExpireMember, orNull(until), m.row.id)
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
	return s.write(ctx, "remove member", tenant, by, func(tx *writeTx) (*store.Written, error) {
		m, err := tx.membership(store.ActionRemoveMembership, tenant, kind, id, role)
		if err != nil || m.w.Outcome == store.OutcomeMissing || !m.present {
			return m.w, err
		}
		if _, err := tx.exec(sqlDeleteMember, int64(tenant), allIndexes(m.keys, tenant, kind, id), int64(m.row.role)); err != nil {
			return nil, err
		}
		m.w.Outcome = store.OutcomeDone
		m.w.Changes.Grant(tenant, m.index)
		return m.w, nil
	})
}

// insertMember adds the row that membership made room for.
func (tx *writeTx) insertMember(tenant store.TenantID, m *membership, kind policy.Kind, id string, until int64) error {
	row := &m.row
	row.kind, row.keyID = kind, m.keys.Current.KeyID()
	sealed, err := m.keys.Current.Seal(row.place(tenant), id)
	if err != nil {
		return err
	}
	_, err = tx.exec(sqlInsertMember, row.id, int64(tenant), m.index[:], int16(kind), sealed, int64(row.role), orNull(until), row.keyID)
	return err
}

// membership is what a write finds of a principal in a role. Its Written says
// unchanged, or missing where the role is.
type membership struct {
	w       *store.Written
	keys    sealing.Keys
	index   store.Index // under the key that writes
	present bool
	row     memberRow // where there is none: its role, and the id of a new row
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
	if m.keys, err = tx.keys(tenant); err != nil {
		return m, err
	}
	m.index = indexUnder(m.keys.Current, tenant, kind, id)
	m.row.role = found.id
	m.w.Outcome = store.OutcomeUnchanged
	err = tx.scan(sqlMembership, []any{int64(tenant), allIndexes(m.keys, tenant, kind, id), int64(found.id)},
		&m.present, &m.row.id, &m.row.keyID, &m.row.kind, &m.row.principal, &m.expires)
	if err != nil || !m.present {
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
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			list = nil
			rows, err := s.pool.Query(ctx, sqlMemberList, int64(tenant), role)
			return each(rows, err, func(scan func(...any) error) error {
				var p pairScan
				var m memberRow
				var expires int64
				if err := scan(&p.current, &p.former, &m.id, &m.keyID, &m.kind, &m.principal, &m.role, &expires); err != nil {
					return err
				}
				if err := p.under(keys); err != nil {
					return err
				}
				id, err := s.openMember(keys, tenant, &m)
				list = append(list, store.Member{Kind: m.kind, ID: id, Role: role, Expires: store.FromNanos(expires)})
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b store.Member) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// HasRole implements store.Store.
func (s *Store) HasRole(ctx context.Context, tenant store.TenantID, kind policy.Kind, id, role string, now time.Time) (bool, error) {
	if !isText(role) {
		return false, nil
	}
	var has bool
	err := s.try(ctx, "look up membership", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			var p pairScan
			var m memberRow
			err := s.pool.QueryRow(ctx, sqlHasRole, int64(tenant), role, liveIndexes(keys, tenant, kind, id), now.UnixNano()).
				Scan(&p.current, &p.former, &m.id, &m.keyID, &m.kind, &m.principal, &m.role)
			if err == nil {
				err = p.under(keys)
			}
			if has = err == nil && m.id != 0; !has {
				return err
			}
			return s.mustBe(keys, tenant, &m, kind, id)
		})
	})
	return has && err == nil, err
}
