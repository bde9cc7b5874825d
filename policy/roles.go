package policy

// RoleID is a role's database id. Ids are never reused: an id that a RoleTable
// does not hold grants nothing.
type RoleID int64

// RoleSpec is one role as the store holds it.
type RoleSpec struct {
	ID          RoleID
	Name        string
	Parents     []RoleID // roles whose permissions this one inherits
	Permissions []string // its own, without the inherited ones
}

// Membership is one role held by a principal.
type Membership struct {
	Role    RoleID
	Expires int64 // Unix nanoseconds; 0 is never. Checked on every use.
}

// Live reports whether the membership holds at now (Unix nanoseconds).
func (m Membership) Live(now int64) bool { return m.Expires == 0 || now < m.Expires }

// Grant is the roles that a principal holds, as the store knew them at one
// revision.
type Grant []Membership
