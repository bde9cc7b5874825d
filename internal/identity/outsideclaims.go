package identity

import (
	"slices"
	"strings"

	"portcullis/policy"
)

// outsideClaims is what an outside issuer's entry asks of a payload.
type outsideClaims struct {
	entry *policy.Issuer
	names []string // that are read; see respelled
}

func newOutsideClaims(entry *policy.Issuer) outsideClaims {
	names := []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "typ", "at_hash", "c_hash", "cnf"}
	for _, name := range []string{entry.SubjectClaim, tenantClaim(entry)} {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(entry.RolesClaim) > 0 && !slices.Contains(names, entry.RolesClaim[0]) {
		names = append(names, entry.RolesClaim[0])
	}
	return outsideClaims{entry, names}
}

// tenantClaim is the claim that a token names a tenant by. Where the entry pins
// one, a `tenant` claim need not be there, but must not say otherwise.
func tenantClaim(entry *policy.Issuer) string {
	if entry.TenantClaim == "" {
		return "tenant"
	}
	return entry.TenantClaim
}

// read reads a payload whose signature is the issuer's, and makes every check that
// needs no clock. What it says of a `kind` is nothing to us: it is always a user.
func (o *outsideClaims) read(payload []byte) (*claims, *Refusal) {
	members, err := readObject(payload)
	if err != nil {
		return nil, refuse("payload: " + err.Error())
	}
	c := &claims{kind: policy.KindUser, tenant: o.entry.Tenant}
	claimed := ""
	for _, m := range members {
		if refusal := c.registered(m, o.names); refusal != nil {
			return nil, refusal
		}
		// One claim may be several of these.
		ok := true
		if m.key == o.entry.SubjectClaim {
			c.subject, ok = stringValue(m.value)
			c.subject = o.entry.SubjectPrefix + c.subject
			ok = ok && len(c.subject) > len(o.entry.SubjectPrefix) && validSubject(c.subject)
		}
		if ok && m.key == tenantClaim(o.entry) {
			claimed, ok = stringValue(m.value)
			ok = ok && claimed != ""
		}
		if ok && len(o.entry.RolesClaim) > 0 && m.key == o.entry.RolesClaim[0] {
			c.roles, ok = o.roles(m.value, o.entry.RolesClaim[1:])
		}
		if !ok {
			return nil, misfit(m.key)
		}
	}
	switch {
	case c.subject == "":
		return nil, refuse("`" + o.entry.SubjectClaim + "`, which names the user, is missing")
	case c.expires == 0:
		return nil, refuse("`exp` is missing")
	case o.entry.TenantClaim != "" && claimed == "":
		return nil, refuse("`" + o.entry.TenantClaim + "`, which names the tenant, is missing")
	case o.entry.TenantClaim != "" && !slices.Contains(o.entry.Tenants, claimed):
		return nil, refuse("`" + o.entry.TenantClaim + "` names a tenant that the issuer may not claim")
	case o.entry.TenantClaim == "" && claimed != "" && claimed != o.entry.Tenant:
		return nil, refuse("`tenant` is not the one that the policy pins")
	}
	if claimed != "" {
		c.tenant = claimed
	}
	return c, nil
}

// roles reads the roles at the end of a path: a list of names, or one text of
// names with spaces between them. A path that leads nowhere is no role.
func (o *outsideClaims) roles(value []byte, path []string) ([]string, bool) {
	for _, name := range path {
		if string(value) == "null" {
			return nil, true
		}
		members, err := readObject(value)
		if err != nil {
			return nil, false
		}
		at := slices.IndexFunc(members, func(m member) bool { return m.key == name })
		if at < 0 {
			return nil, true
		}
		value = members[at].value
	}
	if string(value) == "null" {
		return nil, true
	}
	var theirs []string
	if text, ok := stringValue(value); ok {
		theirs = strings.Fields(text)
	} else if theirs, ok = readAudience(value); !ok {
		return nil, false
	}
	var ours []string
	for _, name := range theirs {
		if len(o.entry.RolesMap) > 0 {
			name = o.entry.RolesMap[name]
		}
		if name != "" {
			ours = append(ours, name)
		}
	}
	slices.Sort(ours)
	return slices.Compact(ours), true
}
