package policy

// Demand is what must hold for one request: the rule of its path and, where
// Envoy's context_extensions name them, one more rule and one more permission.
// All of them must allow. The empty Demand is that of a request without a rule.
type Demand struct {
	Path          *Rule  // the rule that matched, or nil
	Named         *Rule  // the rule that the route names, or nil
	Permission    string // the permission that the route names
	HasPermission bool   // the route names one; an empty name is held by nobody
}

// Anonymous reports whether nothing in the demand needs a caller. The empty
// demand is not anonymous.
func (d Demand) Anonymous() bool {
	return (d.Path != nil || d.Named != nil) && !d.HasPermission && !asks(d.Path) && !asks(d.Named)
}

// NeedsGrant reports whether the roles of the caller are needed to decide.
func (d Demand) NeedsGrant() bool {
	return d.HasPermission || asksPermission(d.Path) || asksPermission(d.Named)
}

// AcceptsMTLS reports whether a workload that is proved by mTLS may be the caller:
// every rule that asks for one must say so, and a permission alone does not.
func (d Demand) AcceptsMTLS() bool {
	return (asks(d.Path) || asks(d.Named)) && (!asks(d.Path) || d.Path.MTLS) && (!asks(d.Named) || d.Named.MTLS)
}

// asks reports whether a rule needs a caller. What is not plainly anonymous does.
func asks(r *Rule) bool { return r != nil && r.Access != AccessAnonymous }

func asksPermission(r *Rule) bool {
	return asks(r) && (r.Access != AccessAuthenticated || r.when != nil && r.when.reads.roles)
}

// Conditional reports whether a rule of the demand has a condition to evaluate.
func (d Demand) Conditional() bool {
	return asks(d.Path) && d.Path.when != nil || asks(d.Named) && d.Named.when != nil
}

// Input is everything that a decision depends on. The zero Input is denied.
type Input struct {
	Demand         Demand
	Principal      Principal  // the verified caller; the zero Principal is nobody
	TenantAdmitted bool       // an operator has admitted the principal's tenant
	Roles          *RoleTable // of the principal's tenant
	Grant          Grant      // the roles of the principal
	StrictUsers    bool       // the tenant's users need an active API key
	KeyBackedUntil int64      // when the last of the principal's API keys expires: Unix nanoseconds, 0 where it has none
	Now            int64      // Unix nanoseconds, for what expires, and for conditions
	Request        *Request   // for conditions; nil makes one an error
}

// Decide says whether a request is allowed, and why not. It is total and pure.
// The reasons are ReasonOK, ReasonNoRule for an empty demand,
// ReasonMissingCredential for nobody and for a workload where not every rule has
// mtls: true, ReasonWrongTenant, ReasonNotKeyBacked, ReasonMissingPermission,
// ReasonConditionFalse and ReasonConditionError, in this order where several hold.
// Conditions are evaluated only where everything else allows, and that alone
// allocates.
//
// A bare permission holds for the tenants of the path rule where that rule asks
// for a caller, and for the tenant "default" alone otherwise: each tenant makes
// up its own permission names, and such a name must not open a route that was
// written with another tenant in mind. An anonymous rule in a demand that asks
// for a caller elsewhere adds nothing to it.
func Decide(in *Input) Reason {
	d := &in.Demand
	switch {
	case d.Path == nil && d.Named == nil && !d.HasPermission:
		return ReasonNoRule
	case d.Anonymous():
		return ReasonOK
	case in.Principal.Tenant == "" || in.Principal.ID == "" || in.Principal.Kind.String() == "":
		return ReasonMissingCredential
	case in.Principal.Kind == KindWorkload && !d.AcceptsMTLS():
		return ReasonMissingCredential // there, a certificate is none
	case !in.TenantAdmitted || !d.admitsTenant(in.Principal.Tenant):
		return ReasonWrongTenant
	case !KeyBacked(in.StrictUsers, in.Principal.Kind, in.KeyBackedUntil, in.Now):
		return ReasonNotKeyBacked
	case !in.allows(d.Path) || !in.allows(d.Named):
		return ReasonMissingPermission
	case d.HasPermission && !in.holds(d.Permission):
		return ReasonMissingPermission
	case d.Conditional():
		return in.conditions()
	}
	return ReasonOK
}

// NeedsGrant reports whether what the store knows of the principal is needed to
// decide: its roles, or in a strict tenant a user's API keys.
func (in *Input) NeedsGrant() bool {
	return in.Demand.NeedsGrant() || in.StrictUsers && in.Principal.Kind == KindUser
}

func (d *Demand) admitsTenant(tenant string) bool {
	if asks(d.Path) && !d.Path.AdmitsTenant(tenant) || asks(d.Named) && !d.Named.AdmitsTenant(tenant) {
		return false
	}
	return !d.HasPermission || asks(d.Path) || tenant == DefaultTenant
}

// allows reports whether the caller has what a rule requires.
func (in *Input) allows(r *Rule) bool {
	if r == nil {
		return true
	}
	switch r.Access {
	case AccessAnonymous, AccessAuthenticated:
		return true
	case AccessPermission:
	default:
		return false
	}
	for _, permission := range r.Require.All {
		if !in.holds(permission) {
			return false
		}
	}
	if len(r.Require.Any) == 0 {
		return len(r.Require.All) > 0
	}
	for _, permission := range r.Require.Any {
		if in.holds(permission) {
			return true
		}
	}
	return false
}

func (in *Input) holds(permission string) bool {
	return in.Roles.Allows(in.Grant, in.Now, permission)
}
