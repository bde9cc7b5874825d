package sealing

import (
	"encoding/hex"
	"fmt"
)

// What is sealed, and where it belongs. A row's id is known before the row is
// inserted, and never changes; neither does what it is bound to.

// MemberID is memberships.principal_id. Bound to the role, a membership cannot be
// turned into one of another role.
func MemberID(row, tenant int64, kind string, role int64) Place {
	return Place{"memberships", "principal_id", row, fmt.Sprintf("%d %s %d", tenant, kind, role)}
}

// PermissionName is permissions.name.
func PermissionName(row, tenant, role int64) Place {
	return Place{"permissions", "name", row, fmt.Sprintf("%d %d", tenant, role)}
}

// RoleDescription is roles.description.
func RoleDescription(row, tenant int64) Place {
	return Place{"roles", "description", row, fmt.Sprint(tenant)}
}

// UserKeyUser is user_keys.user_id. Bound to the digest, a user's key cannot be
// given another secret.
func UserKeyUser(row, tenant int64, keyID string, digest [32]byte) Place {
	return Place{"user_keys", "user_id", row, userKeyBound(tenant, keyID, digest)}
}

// UserKeyLabel is user_keys.label.
func UserKeyLabel(row, tenant int64, keyID string, digest [32]byte) Place {
	return Place{"user_keys", "label", row, userKeyBound(tenant, keyID, digest)}
}

func userKeyBound(tenant int64, keyID string, digest [32]byte) string {
	return fmt.Sprintf("%d %s %s", tenant, keyID, hex.EncodeToString(digest[:]))
}

// AuditHidden is audit.sealed: all that an audit row hides, as one text.
func AuditHidden(row, tenant int64) Place {
	return Place{"audit", "sealed", row, fmt.Sprint(tenant)}
}

// DenialSubject is deny_list.principal_id.
func DenialSubject(row, tenant int64, kind, issuer string) Place {
	return Place{"deny_list", "principal_id", row, fmt.Sprintf("%d %s %x", tenant, kind, issuer)}
}

// RefreshUser is refresh_families.user_id. Bound to the family, its tokens cannot be
// given to another user.
func RefreshUser(row, tenant int64, family [16]byte) Place {
	return Place{"refresh_families", "user_id", row, fmt.Sprintf("%d %s", tenant, hex.EncodeToString(family[:]))}
}

// PrincipalIndex is the blind index of a principal, in memberships, user_keys,
// change rows and slots.
func (k *Key) PrincipalIndex(kind, id string) [IndexSize]byte {
	return k.Index("principal", kind, id)
}

// PermissionIndex is the blind index of a role's permission. The role is in it, so
// that two roles with the same permission do not look alike.
func (k *Key) PermissionIndex(role int64, name string) [IndexSize]byte {
	return k.Index("permission", fmt.Sprint(role), name)
}

// SubjectIndex is the fingerprint of whom an audit row is about (store.AuditUser).
func (k *Key) SubjectIndex(user string) [IndexSize]byte {
	return k.Index("audit subject", user)
}
