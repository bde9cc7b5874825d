package sqlite

import (
	"cmp"
	"context"
	"database/sql"
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
	sqlMembership = `SELECT id, key_id, kind, principal_id, coalesce(expires_at, 0) FROM memberships
		WHERE tenant_id = ? AND principal_index IN (?, ?) AND role_id = ?`

	sqlInsertMember = `INSERT INTO memberships (id, tenant_id, principal_index, kind, principal_id, role_id, expires_at, key_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

	sqlExpireMember = `UPDATE memberships SET expires_at = ? WHERE id = ?`

	sqlDeleteMember = `DELETE FROM memberships WHERE id = ?`

	sqlDeletePrincipal = `DELETE FROM memberships WHERE tenant_id = ? AND principal_index IN (?, ?)`

	sqlCountMembers = `SELECT count(*) FROM memberships WHERE tenant_id = ? AND role_id = ?`

	sqlMemberList = `SELECT m.id, m.key_id, m.role_id, m.kind, m.principal_id, coalesce(m.expires_at, 0)
		FROM roles AS r JOIN memberships AS m ON m.tenant_id = r.tenant_id AND m.role_id = r.id
		WHERE r.tenant_id = ? AND r.name = ?`

	// One statement, and so one snapshot, as the next. No membership is one row
	// without an id.
	sqlHasRole = `SELECT ` + pairColumns + `, m.id, coalesce(m.key_id, 0), coalesce(m.role_id, 0), coalesce(m.kind, 0), coalesce(m.principal_id, '')
		FROM revision AS v ` + joinPair + `
		LEFT JOIN roles AS r ON r.tenant_id = ?1 AND r.name = ?2
		LEFT JOIN memberships AS m ON m.tenant_id = ?1 AND m.principal_index IN (?3, ?4) AND m.role_id = r.id
			AND (m.expires_at IS NULL OR m.expires_at > ?5)`

	sqlGrant = `SELECT ` + pairColumns + `, r.number, r.tag, (` + sqlKeyBacked + `),
			m.id, coalesce(m.key_id, 0), coalesce(m.role_id, 0), coalesce(m.kind, 0), coalesce(m.principal_id, ''), coalesce(m.expires_at, 0)
		FROM revision AS r ` + joinPair + `
		LEFT JOIN memberships AS m ON m.tenant_id = ?1 AND m.principal_index IN (?2, ?3)
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
		if m.row.id != 0 {
			// A membership that grants nothing is not there already: it has to be removed.
			if err := s.openMember(tx.ctx, m.keys, tenant, &m.row, kind, id); err != nil {
				return nil, err
			}
		}
		m.w.After = store.MembershipState{Expires: store.AuditTime(store.FromNanos(until))}
		switch {
		case m.row.id == 0:
			err = tx.insertMember(tenant, &m, kind, id, until)
		case m.expires == until:
			return m.w, nil
		default:
			_, err = tx.exec(tx.ctx, sqlExpireMember, nullable(until), m.row.id)
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
		if err != nil || m.w.Outcome == store.OutcomeMissing || m.row.id == 0 {
			return m.w, err
		}
		if _, err := tx.exec(tx.ctx, sqlDeleteMember, m.row.id); err != nil {
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
	keys    sealing.Keys
	index   store.Index // under the tenant's current key
	role    policy.RoleID
	row     memberRow // its id is 0 where there is none
	expires int64
}

// memberRow is what a membership's sealed column is bound to.
type memberRow struct {
	id, key int64
	role    policy.RoleID
	kind    policy.Kind
	sealed  string
}

func (m *memberRow) place(tenant store.TenantID) sealing.Place {
	return sealing.MemberID(m.id, int64(tenant), m.kind.String(), int64(m.role))
}

// openMember is nil where the row is indeed the principal's, which its index says
// it is.
func (s *Store) openMember(ctx context.Context, keys sealing.Keys, tenant store.TenantID, m *memberRow, kind policy.Kind, id string) error {
	opened, err := s.open(ctx, keys, m.key, m.place(tenant), m.sealed)
	if err == nil && (opened != id || m.kind != kind) {
		err = s.strange(ctx, m.place(tenant), whyIndex)
	}
	return err
}

func (tx *writeTx) insertMember(tenant store.TenantID, m *membership, kind policy.Kind, id string, until int64) error {
	key := m.keys.Current
	row, err := newID(tx.ctx, tx.conn, key, sqlNextMember)
	if err != nil {
		return err
	}
	sealed, err := key.Seal(sealing.MemberID(row.Int64, int64(tenant), kind.String(), int64(m.role)), id)
	if err != nil {
		return err
	}
	_, err = tx.exec(tx.ctx, sqlInsertMember, row, int64(tenant), m.index[:], int64(kind), sealed, int64(m.role), nullable(until), key.KeyID())
	return err
}

func (tx *writeTx) membership(action store.Action, tenant store.TenantID, kind policy.Kind, id, role string) (membership, error) {
	if kind.String() == "" {
		return membership{}, fmt.Errorf("kind: %d is no kind of principal: use user, client or workload", kind)
	}
	if id == "" {
		return membership{}, errors.New("id: is empty: name the principal")
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return membership{}, err
	}
	current, former := indexes(keys, tenant, kind, id)
	m := membership{
		keys:  keys,
		index: current,
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
	m.row.role = m.role
	err = tx.scan(tx.ctx, sqlMembership, args{int64(tenant), current[:], former[:], int64(m.role)},
		&m.row.id, &m.row.key, &m.row.kind, &m.row.sealed, &m.expires)
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
	err := s.reading(ctx, "list members", func(ctx context.Context, c *conn) error {
		list = nil
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		return c.each(ctx, sqlMemberList, args{int64(tenant), role}, func(rows *sql.Rows) error {
			var m memberRow
			var expires int64
			if err := rows.Scan(&m.id, &m.key, &m.role, &m.kind, &m.sealed, &expires); err != nil {
				return err
			}
			id, err := s.open(ctx, keys, m.key, m.place(tenant), m.sealed)
			list = append(list, store.Member{Kind: m.kind, ID: id, Role: role, Expires: store.FromNanos(expires)})
			return err
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
	has := false
	err := s.borrowing(ctx, "look up membership", func(ctx context.Context, c *conn) error {
		return s.under(ctx, c, tenant, func(keys sealing.Keys) (sealing.Pair, error) {
			var read sealing.Pair
			var row sql.NullInt64
			var m memberRow
			current, former := indexes(keys, tenant, kind, id)
			err := c.scan(ctx, sqlHasRole, args{int64(tenant), role, current[:], former[:], now.UnixNano()},
				append(scanPair(&read), &row, &m.key, &m.role, &m.kind, &m.sealed)...)
			has = row.Valid
			if err != nil || read != keys.Pair || !has {
				return read, err
			}
			m.id = row.Int64
			return read, s.openMember(ctx, keys, tenant, &m, kind, id)
		})
	})
	return has && err == nil, err
}

// Grant implements store.Reader.
func (s *Store) Grant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	row, err := s.grant(ctx, false, tenant, kind, id)
	if errors.Is(err, errManyStatements) {
		row, err = s.grant(ctx, true, tenant, kind, id)
	}
	if err != nil {
		return store.GrantRow{}, err
	}
	return row, nil
}

// errManyStatements: the user's keys are to be opened too, in the same snapshot.
var errManyStatements = errors.New("one statement does not do")

// grant loads a grant, in one statement or, with many, in one snapshot, in which it
// opens the API keys that back a user as well.
func (s *Store) grant(ctx context.Context, many bool, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	run := s.borrowing
	if many {
		run = s.reading
	}
	var row store.GrantRow
	err := run(ctx, "load grant", func(ctx context.Context, c *conn) error {
		return s.under(ctx, c, tenant, func(keys sealing.Keys) (sealing.Pair, error) {
			row = store.GrantRow{}
			var read sealing.Pair
			current, former := indexes(keys, tenant, kind, id)
			err := c.each(ctx, sqlGrant, args{int64(tenant), current[:], former[:]}, func(rows *sql.Rows) error {
				var m memberRow
				var there sql.NullInt64
				var expires int64
				err := rows.Scan(&read.Current, &read.Former, &read.Rotating, &row.Revision.Number, tagOf(&row.Revision.Tag), &row.KeyBackedUntil,
					&there, &m.key, &m.role, &m.kind, &m.sealed, &expires)
				switch {
				case err != nil:
					return err
				case read != keys.Pair:
					return errOtherPair
				case !there.Valid:
					return nil
				}
				m.id = there.Int64
				row.Grant = append(row.Grant, policy.Membership{Role: m.role, Expires: expires})
				return s.openMember(ctx, keys, tenant, &m, kind, id)
			})
			if err == nil && row.Revision == (store.Revision{}) {
				err = errors.New("the revision row is gone: restore a backup")
			}
			if err == nil && row.KeyBackedUntil != 0 && keys.Pair != (sealing.Pair{}) {
				if !many {
					return read, errManyStatements
				}
				row.KeyBackedUntil, err = s.backedUntil(ctx, c, keys, tenant, id)
			}
			return read, err
		})
	})
	return row, err
}
