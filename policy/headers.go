package policy

// The headers that the gate asserts to upstreams. Their names live here alone:
// the responses that set and remove them, and the Envoy configuration that lets
// the gate do so, are both made from these.
const (
	HeaderTenant       = "x-auth-tenant"        // the principal's tenant
	HeaderSubject      = "x-auth-subject"       // the principal's id
	HeaderKind         = "x-auth-kind"          // user, client or workload
	HeaderRoles        = "x-auth-roles"         // live roles, comma-separated
	HeaderRolesOmitted = "x-auth-roles-omitted" // "true" where the roles are too long to send
	HeaderDecisionID   = "x-auth-decision-id"   // names the decision in the log
	HeaderRevision     = "x-auth-revision"      // the revision's bare number
)

// The headers that carry credentials.
const (
	HeaderAuthorization = "authorization"
	HeaderClientKey     = "x-client-key"
	HeaderAPIKey        = "x-api-key"
)

// ManagedHeaders lists the headers that only the gate may set: whatever a client
// sends under one of these names, or under a twin of it, never reaches an
// upstream.
func ManagedHeaders() []string {
	return []string{
		HeaderTenant, HeaderSubject, HeaderKind, HeaderRoles, HeaderRolesOmitted,
		HeaderDecisionID, HeaderRevision,
	}
}

// KeyHeaders lists the credential headers that never reach an upstream, whatever
// a rule says: a key is for the gate alone.
func KeyHeaders() []string { return []string{HeaderClientKey, HeaderAPIKey} }

// CredentialHeaders lists every header that carries a credential.
func CredentialHeaders() []string {
	return append([]string{HeaderAuthorization}, KeyHeaders()...)
}

// HeaderTwins lists the other spellings of a header name that an upstream which
// reads '_' as '-' (CGI, WSGI, PHP) would take for it: every mix of the two, the
// all-underscore one first, the name itself left out. A name with n dashes has
// 2^n - 1 twins.
func HeaderTwins(name string) []string {
	var dashes []int
	for i := range len(name) {
		if name[i] == '-' {
			dashes = append(dashes, i)
		}
	}
	twins := make([]string, 0, 1<<len(dashes)-1)
	for mix := 1<<len(dashes) - 1; mix > 0; mix-- {
		twin := []byte(name)
		for bit, at := range dashes {
			if mix&(1<<bit) != 0 {
				twin[at] = '_'
			}
		}
		twins = append(twins, string(twin))
	}
	return twins
}

// IsHeaderTwin reports whether received is name or a twin of it, in any case of
// ASCII letters. name is lower-case with dashes. It allocates nothing.
func IsHeaderTwin(received []byte, name string) bool {
	if len(received) != len(name) {
		return false
	}
	for i, c := range received {
		switch {
		case c == '_':
			c = '-'
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}
