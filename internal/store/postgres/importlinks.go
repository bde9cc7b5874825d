package postgres

import (
	"errors"
	"fmt"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// What is there under the key that writes is left to the unique index: a planner
	// that knows the tables as empty takes any index for a join, and reads a whole tenant
	// for each row. Only under a former key must be looked first. $1 is each row's number
	// in the list.
	sqlFormerMembers = `
SELECT u.n
FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::bigint[]) AS u (n, tenant, index, role)
JOIN portcullis.memberships m ON m.tenant_id = u.tenant AND m.principal_index = u.index AND m.role_id = u.role`

	sqlImportMembers = `
INSERT INTO portcullis.memberships (id, tenant_id, principal_index, kind, principal_id, role_id, key_id)
SELECT u.id, u.tenant, u.index, $7, u.principal, u.role, u.key_id
FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::bigint[], $6::bigint[]) AS u (id, tenant, index, principal, role, key_id)
ON CONFLICT (tenant_id, principal_index, role_id) DO NOTHING RETURNING id`

	sqlManyMemberIDs = `SELECT nextval('portcullis.membership_ids') FROM generate_series(1, $1::integer)`

	sqlFormerPlainPermissions = `
SELECT u.n FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[]) AS u (n, tenant, role, name)
JOIN portcullis.permissions p ON p.tenant_id = u.tenant AND p.role_id = u.role AND p.name = u.name AND p.key_id = 0`

	sqlFormerSealedPermissions = `
SELECT u.n FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bytea[]) AS u (n, tenant, role, index)
JOIN portcullis.permissions p ON p.tenant_id = u.tenant AND p.role_id = u.role AND p.name_index = u.index`

	sqlImportPermissions = `
INSERT INTO portcullis.permissions (id, tenant_id, role_id, name, name_index, key_id)
SELECT u.id, u.tenant, u.role, u.name, u.index, u.key_id
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::bigint[]) AS u (id, tenant, role, name, index, key_id)
ON CONFLICT DO NOTHING RETURNING id`

	sqlManyPermissionIDs = `SELECT nextval('portcullis.permission_ids') FROM generate_series(1, $1::integer)`
)

// numbers reads which rows of a list are there, into there.
func (tx *writeTx) numbers(there []bool, query string, args ...any) error {
	rows, err := tx.Query(tx.ctx, query, args...)
	return each(rows, err, func(scan func(...any) error) error {
		var n int
		err := scan(&n)
		if err == nil {
			there[n] = true
		}
		return err
	})
}

// inserted runs an insertion, and says which of its rows are new, by id.
func (tx *writeTx) inserted(query string, args ...any) (map[int64]bool, error) {
	made := make(map[int64]bool)
	rows, err := tx.Query(tx.ctx, query, args...)
	err = each(rows, err, func(scan func(...any) error) error {
		var id int64
		err := scan(&id)
		made[id] = true
		return err
	})
	return made, err
}

func (im *importing) newPermissions(list []store.ImportPermission) error {
	if len(list) == 0 {
		return nil
	}
	type named struct {
		role policy.RoleID
		name string
	}
	seen := make(map[named]bool, len(list))
	there, roles := make([]bool, len(list)), make([]policy.RoleID, len(list))
	var plain, sealed struct {
		n            []int32
		tenant, role []int64
		names        []string
		index        [][]byte
	}
	for i := range list {
		p := &list[i]
		role, err := im.roleID(p.Tenant, p.Role)
		if err == nil && p.Name == "" {
			err = errors.New("its name is empty")
		}
		if err == nil {
			err = mustBeText("name", p.Name)
		}
		if err != nil {
			return fmt.Errorf("a permission of role %q of tenant %d: %w", p.Role, p.Tenant, err)
		}
		roles[i] = role
		if there[i] = seen[named{role, p.Name}]; there[i] {
			continue
		}
		seen[named{role, p.Name}] = true
		keys := im.tenants[p.Tenant]
		switch {
		case !keys.Pair.Rotating:
		case keys.Former == nil:
			plain.n, plain.tenant, plain.role, plain.names = append(plain.n, int32(i)), append(plain.tenant, int64(p.Tenant)), append(plain.role, int64(role)), append(plain.names, p.Name)
		default:
			index := keys.Former.PermissionIndex(int64(role), p.Name)
			sealed.n, sealed.tenant, sealed.role, sealed.index = append(sealed.n, int32(i)), append(sealed.tenant, int64(p.Tenant)), append(sealed.role, int64(role)), append(sealed.index, index[:])
		}
	}
	if len(plain.n) > 0 {
		if err := im.tx.numbers(there, sqlFormerPlainPermissions, plain.n, plain.tenant, plain.role, plain.names); err != nil {
			return err
		}
	}
	if len(sealed.n) > 0 {
		if err := im.tx.numbers(there, sqlFormerSealedPermissions, sealed.n, sealed.tenant, sealed.role, sealed.index); err != nil {
			return err
		}
	}
	fresh := absentOf(there)
	if len(fresh) == 0 {
		return nil
	}
	ids, err := im.tx.ids(sqlManyPermissionIDs, len(fresh))
	if err != nil {
		return err
	}
	n := len(fresh)
	tenants, roleIDs, keyIDs, texts, indexes := make([]int64, n), make([]int64, n), make([]int64, n), make([]string, n), make([][]byte, n)
	for i, at := range fresh {
		p := &list[at]
		key := im.tenants[p.Tenant].Current
		row := permissionRow{id: ids[i], role: roles[at]}
		if texts[i], err = key.Seal(row.place(p.Tenant), p.Name); err != nil {
			return err
		}
		if key != nil {
			index := key.PermissionIndex(int64(row.role), p.Name)
			indexes[i] = index[:]
		}
		tenants[i], roleIDs[i], keyIDs[i] = int64(p.Tenant), int64(row.role), key.KeyID()
	}
	made, err := im.tx.inserted(sqlImportPermissions, ids, tenants, roleIDs, texts, indexes, keyIDs)
	for i, at := range fresh {
		if made[ids[i]] {
			im.w.Changes.Roles(list[at].Tenant)
		}
	}
	im.counts.Permissions = len(made)
	return err
}

func (im *importing) newMembers(list []store.ImportMember) error {
	if len(list) == 0 {
		return nil
	}
	type named struct {
		role policy.RoleID
		user string
	}
	seen := make(map[named]bool, len(list))
	there, roles := make([]bool, len(list)), make([]policy.RoleID, len(list))
	var numbers []int32
	var tenants, of []int64
	var indexes [][]byte
	for i := range list {
		m := &list[i]
		role, err := im.roleID(m.Tenant, m.Role)
		if err == nil && m.User == "" {
			err = errors.New("the user is empty")
		}
		if err == nil {
			err = mustBeText("user", m.User)
		}
		if err != nil {
			return fmt.Errorf("a member of role %q of tenant %d: %w", m.Role, m.Tenant, err)
		}
		roles[i] = role
		if there[i] = seen[named{role, m.User}]; there[i] {
			continue
		}
		seen[named{role, m.User}] = true
		if keys := im.tenants[m.Tenant]; keys.Pair.Rotating {
			index := indexUnder(keys.Former, m.Tenant, policy.KindUser, m.User)
			numbers, tenants, indexes, of = append(numbers, int32(i)), append(tenants, int64(m.Tenant)), append(indexes, index[:]), append(of, int64(role))
		}
	}
	if len(numbers) > 0 {
		if err := im.tx.numbers(there, sqlFormerMembers, numbers, tenants, indexes, of); err != nil {
			return err
		}
	}
	fresh := absentOf(there)
	if len(fresh) == 0 {
		return nil
	}
	ids, err := im.tx.ids(sqlManyMemberIDs, len(fresh))
	if err != nil {
		return err
	}
	n := len(fresh)
	keyIDs, texts := make([]int64, n), make([]string, n)
	tenants, of, indexes = make([]int64, n), make([]int64, n), make([][]byte, n)
	for i, at := range fresh {
		m := &list[at]
		key := im.tenants[m.Tenant].Current
		row := memberRow{id: ids[i], kind: policy.KindUser, role: roles[at]}
		if texts[i], err = key.Seal(row.place(m.Tenant), m.User); err != nil {
			return err
		}
		index := indexUnder(key, m.Tenant, policy.KindUser, m.User)
		tenants[i], indexes[i], of[i], keyIDs[i] = int64(m.Tenant), index[:], int64(row.role), key.KeyID()
	}
	made, err := im.tx.inserted(sqlImportMembers, ids, tenants, indexes, texts, of, keyIDs, int16(policy.KindUser))
	for i, at := range fresh {
		if made[ids[i]] {
			im.w.Changes.Grant(list[at].Tenant, store.Index(indexes[i]))
		}
	}
	im.counts.Members = len(made)
	return err
}

// absentOf are the numbers of the rows that are not there.
func absentOf(there []bool) []int {
	var out []int
	for i, is := range there {
		if !is {
			out = append(out, i)
		}
	}
	return out
}
