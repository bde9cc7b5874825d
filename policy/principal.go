package policy

// Kind says what sort of caller a principal is. It is part of every grant key,
// membership and change row, so that a client named like a user is not that
// user. The zero Kind is invalid and holds nothing.
type Kind uint8

// The kinds of caller.
const (
	KindUser     Kind = 1 // a person, proved by a JWT or a user API key
	KindClient   Kind = 2 // a program, proved by a client key; its id is the key's name
	KindWorkload Kind = 3 // a program, proved by mTLS
)

// String returns "user", "client", "workload", or "" for an invalid kind.
func (k Kind) String() string {
	switch k {
	case KindUser:
		return "user"
	case KindClient:
		return "client"
	case KindWorkload:
		return "workload"
	}
	return ""
}

// ParseKind reads what String writes.
func ParseKind(s string) (Kind, bool) {
	switch s {
	case "user":
		return KindUser, true
	case "client":
		return KindClient, true
	case "workload":
		return KindWorkload, true
	}
	return 0, false
}

// Principal is a verified caller. Two principals are the same caller only if
// all three fields are equal.
type Principal struct {
	Tenant string // the tenant's name
	Kind   Kind
	ID     string // a user's subject, a client key's name, or a workload's id
}

// String is for display only ("client:ci@default"); nothing compares it.
func (p Principal) String() string { return p.Kind.String() + ":" + p.ID + "@" + p.Tenant }
