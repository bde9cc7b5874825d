package policy

import "slices"

// Access is what a rule asks of a caller. The zero Access asks for a
// permission, so that a forgotten one cannot open a route.
type Access uint8

// The three kinds of access.
const (
	AccessPermission    Access = iota // the permissions of Rule.Require
	AccessAuthenticated               // any verified caller of the rule's tenants
	AccessAnonymous                   // everybody, without authentication
)

// String returns "permission", "authenticated" or "anonymous".
func (a Access) String() string {
	switch a {
	case AccessAuthenticated:
		return "authenticated"
	case AccessAnonymous:
		return "anonymous"
	}
	return "permission"
}

// Requirement is the permissions that a rule asks for: every one of All, or one
// of Any. Exactly one of the two lists is set in a rule of AccessPermission,
// and both are empty in every other rule. The empty Requirement holds for
// nobody.
type Requirement struct {
	All []string
	Any []string
}

// DefaultTenant is the tenant of a rule that names none.
const DefaultTenant = "default"

// Rule is one compiled rule of the policy file. Its fields are read-only: the
// matcher and every snapshot share it.
type Rule struct {
	Name    string
	Index   int      // position among the rules of the file that decide, or among its shadow rules, from 0
	Line    int      // where the rule begins in the file, from 1
	Hosts   []string // canonical hosts, exact or "*.suffix"; none matches every host
	Methods []string // exact; none matches every method but CONNECT
	Path    string   // the pattern as written

	Access  Access
	Require Requirement

	AnyTenant bool     // every admitted tenant
	Tenants   []string // otherwise these; none for an anonymous rule

	OptIns             PathFlags // ambiguities that the rule takes; never FlagUnsafe
	ForwardCredentials bool      // leave the credentials on the request that goes upstream
	MTLS               bool      // a workload of the file, proved by mTLS, may be the caller

	Shadow bool // it never decides: its verdict is logged and counted

	when *condition // nil: none

	pattern pattern
	hosts   []hostID  // ids of Hosts, sorted; anyHost alone when there are none
	methods methodSet // bits of Methods
	// hostWeight is how many host patterns of the policy lie within Hosts. Of two
	// rules whose hosts lie strictly inside each other's the inner one has less.
	hostWeight int

	tenantSet map[string]bool // Tenants, when they are many
}

// AdmitsTenant reports whether a principal of this tenant may use the rule. A
// rule for every tenant says true here for any name: whether the tenant is an
// admitted one is asked apart (Input.TenantAdmitted).
func (r *Rule) AdmitsTenant(tenant string) bool {
	switch {
	case tenant == "":
		return false
	case r.AnyTenant:
		return true
	case r.tenantSet != nil:
		return r.tenantSet[tenant]
	}
	return slices.Contains(r.Tenants, tenant)
}

// Accepts reports whether the rule opts in to every ambiguity of a path.
func (r *Rule) Accepts(flags PathFlags) bool {
	return flags&^(r.OptIns&^FlagUnsafe) == 0
}
