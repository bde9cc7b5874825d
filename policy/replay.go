package policy

import (
	"reflect"
	"slices"
)

// Recorded is a decision as the decision log has it, to be asked again of another
// policy.
type Recorded struct {
	Method, Host string
	Path         string // as it came, without its query
	Principal    Principal
	Certificate  string   // what the connection's certificate named, "" for nothing
	Issuer       string   // of the caller's token, "" for none
	Roles        []string // by name, as the principal held them
	Now          int64    // Unix nanoseconds
	Rule         string   // that decided
	Reason       Reason
	PolicyDigest string
	Truncated    bool // the log cut a text or the roles
}

// Unknown says what a log would have to hold for a decision to be replayed; the
// empty one says that nothing is missing.
type Unknown string

// What a log may not hold.
const (
	UnknownWhen   Unknown = "when"   // what the rule's condition reads
	UnknownCaller Unknown = "caller" // who is calling: nobody was asked then, or an issuer's entry differs
	UnknownRoles  Unknown = "roles"  // the caller's roles: they were not looked up then
	UnknownText   Unknown = "text"   // what the log cut
)

// Replayed is what a policy says of a recorded decision. Rule is nil where none
// matches; Reason means nothing where something is unknown.
type Replayed struct {
	Rule    *Rule
	Reason  Reason
	Unknown Unknown
}

// Replay asks old and then new about a recorded decision. roles are those of the
// principal's tenant. What old cannot know it takes from the record, where the
// record is of old itself; what new cannot know of a condition it takes from there
// too, where old has the same condition on the same path. What Envoy's routes named
// in context_extensions is not in a log, and is left out.
func Replay(rec *Recorded, old, new *Policy, roles *RoleTable) (before, after Replayed) {
	before = old.replay(rec, roles, true)
	own := rec.PolicyDigest == old.digest && (before.Rule == nil && rec.Rule == "" || before.Rule != nil && before.Rule.Name == rec.Rule)
	// A tenant that its rule admits and that was refused all the same is one that no
	// operator has admitted.
	admitted := !(own && rec.Reason == ReasonWrongTenant && before.Rule != nil && before.Rule.AdmitsTenant(rec.Principal.Tenant))
	if !admitted {
		before = old.replay(rec, roles, false)
	}
	if before.Unknown != "" && own {
		before.Reason, before.Unknown = rec.Reason, ""
	}
	after = new.replay(rec, roles, admitted)
	if after.Unknown == UnknownWhen && own && sameCondition(before.Rule, after.Rule) {
		switch rec.Reason {
		case ReasonOK, ReasonConditionFalse, ReasonConditionError:
			after.Reason, after.Unknown = rec.Reason, ""
		}
	}
	if r := after.Rule; r != nil && r.Access != AccessAnonymous && after.Reason != ReasonAmbiguousRequest {
		switch was, is := old.issuer(rec.Issuer), new.issuer(rec.Issuer); {
		case was == nil: // a token of our own, or none
		case is == nil:
			after.Reason, after.Unknown = ReasonInvalidToken, ""
		case !sameIssuer(*was, *is):
			after.Unknown = UnknownCaller // whom its token would be is not in the log
		}
	}
	return before, after
}

// issuer finds an outside issuer by name, nil where there is none.
func (p *Policy) issuer(name string) *Issuer {
	if i := slices.IndexFunc(p.issuers, func(i Issuer) bool { return i.Name == name }); i >= 0 {
		return &p.issuers[i]
	}
	return nil
}

// sameIssuer compares two entries wherever in the file they stand.
func sameIssuer(a, b Issuer) bool {
	a.Line, b.Line = 0, 0
	return reflect.DeepEqual(a, b)
}

func sameCondition(a, b *Rule) bool {
	return a != nil && b != nil && a.when != nil && b.when != nil && a.when.text == b.when.text && a.Path == b.Path
}

// replay decides a recorded request under p.
func (p *Policy) replay(rec *Recorded, roles *RoleTable, admitted bool) (r Replayed) {
	if rec.Truncated {
		return Replayed{Unknown: UnknownText}
	}
	path, flags := CanonPath(nil, []byte(rec.Path))
	host, ok := CanonHost(nil, []byte(rec.Host))
	if !ok || flags&FlagUnsafe != 0 || !isToken(rec.Method) {
		return Replayed{Reason: ReasonAmbiguousRequest}
	}
	r.Rule = p.Match(rec.Method, string(host), string(path))
	switch {
	case r.Rule == nil:
		r.Reason = ReasonNoRule
		return r
	case !r.Rule.Accepts(flags):
		r.Reason = ReasonAmbiguousRequest
		return r
	case r.Rule.Access == AccessAnonymous:
		r.Reason = ReasonOK
		return r
	}
	caller := rec.Principal
	if rec.Reason == ReasonMissingCredential || caller.Kind == KindWorkload {
		// Whom a certificate proves, and where, is this policy's to say.
		workload := p.Workload(rec.Certificate)
		if !r.Rule.MTLS || workload == nil {
			r.Reason = ReasonMissingCredential
			return r
		}
		caller = workload.Principal
	}
	switch {
	case caller == rec.Principal && refusesCredential(rec.Reason):
		r.Reason = rec.Reason
		return r
	case caller == (Principal{}):
		r.Unknown = UnknownCaller
		return r
	}
	in := Input{Demand: Demand{Path: r.Rule}, Principal: caller, TenantAdmitted: admitted, Roles: roles, Now: rec.Now}
	for _, name := range rec.Roles {
		if id, ok := roles.Role(name); ok {
			in.Grant = append(in.Grant, Membership{Role: id})
		}
	}
	r.Reason = Decide(&in)
	if r.Reason == ReasonWrongTenant {
		return r
	}
	if (rec.Reason == ReasonWrongTenant || caller != rec.Principal) && in.Demand.NeedsGrant() {
		r.Unknown = UnknownRoles
		return r
	}
	// With no request to ask about, a condition is an error where all else allows.
	if r.Reason == ReasonConditionError && in.Demand.Conditional() {
		if !r.Rule.when.reads.inLog() {
			r.Unknown = UnknownWhen
			return r
		}
		in.Request = &Request{Method: rec.Method, Host: string(host), Path: string(path), Facts: NoFacts{}}
		r.Reason = Decide(&in)
	}
	return r
}

// inLog reports whether a decision log holds all that is read.
func (r *conditionReads) inLog() bool {
	return !r.rawQuery && len(r.headers)+len(r.query)+len(r.context)+len(r.claims) == 0
}

// refusesCredential reports whether a reason is about the caller's credential, and
// so the same whatever the rule asks for.
func refusesCredential(r Reason) bool {
	return slices.Contains([]Reason{ReasonMissingCredential, ReasonInvalidToken, ReasonExpired, ReasonRevoked, ReasonBadKey, ReasonConflictingCredentials, ReasonNotKeyBacked}, r)
}

// ReadRoles reads a file whose only key is roles, written as under tests: roles of a
// policy. The error is a *CompileError.
func ReadRoles(src []byte) (*RoleTable, error) {
	var y yamlReader
	var specs []RoleSpec
	if top := y.document(src); top != nil {
		if f, ok := y.mapping(top, "roles file", "roles"); ok {
			if f["roles"] == nil {
				y.fail(top, "roles file: roles is missing")
			}
			specs = y.readRoles(f["roles"], map[string]RoleID{})
		}
	}
	if err := y.err(); err != nil {
		return nil, err
	}
	return NewRoleTable(specs), nil
}

// LoadRoles reads the roles file at path (ReadRoles). The error names the file.
func LoadRoles(path string) (*RoleTable, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, err
	}
	roles, err := ReadRoles(src)
	return roles, inFile(err, path)
}
