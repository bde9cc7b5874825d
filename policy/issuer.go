package policy

import "time"

// Issuer is one outside identity provider of the policy file. Its fields are
// read-only and have been checked: see docs/policy.md for what each one may be.
type Issuer struct {
	Line int // where the entry begins in the file, from 1

	// Name is the exact `iss` of its tokens.
	Name string
	// JWKSURL is where its keys are. It is empty where Discovery is true: then the
	// provider's own document says so.
	JWKSURL   string
	Discovery bool
	// InsecureHTTP lets its URLs be http beyond the loopback.
	InsecureHTTP bool
	// CAFile, where set, holds the only authorities that its certificate may come
	// from.
	CAFile string

	// Audiences are those of which a token must name one. SkipAudience is true where
	// there are none on purpose.
	Audiences    []string
	SkipAudience bool
	// Algorithms are those that its tokens may be signed with; never HMAC or none.
	Algorithms []string
	// MaxTokenAge is how long a token may live.
	MaxTokenAge time.Duration

	// Tenant is the one that its users are of. It is empty where TenantClaim names
	// the claim that says which, one of Tenants.
	Tenant      string
	TenantClaim string
	Tenants     []string

	// SubjectClaim names the user, and SubjectPrefix is put before it.
	SubjectClaim  string
	SubjectPrefix string

	// RolesClaim is the path to the claim that lists roles, none where it is empty.
	// RolesMap says what they are called here; where it is not empty, roles that it
	// does not name grant nothing.
	RolesClaim []string
	RolesMap   map[string]string
}

// Issuers returns the outside issuers in the order of the file. The caller must
// not change them.
func (p *Policy) Issuers() []Issuer { return p.issuers }

// admits reports whether a user of the issuer may be of a tenant.
func (i *Issuer) admits(tenant string) bool {
	if i.TenantClaim == "" {
		return i.Tenant == tenant
	}
	for _, t := range i.Tenants {
		if t == tenant {
			return true
		}
	}
	return false
}

// sharedTenant returns a tenant that both issuers may have users of, or "".
func (i *Issuer) sharedTenant(other *Issuer) string {
	if i.TenantClaim == "" {
		if i.Tenant != "" && other.admits(i.Tenant) {
			return i.Tenant
		}
		return ""
	}
	for _, t := range i.Tenants {
		if other.admits(t) {
			return t
		}
	}
	return ""
}
