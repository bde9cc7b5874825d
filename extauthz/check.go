package extauthz

import (
	"slices"
	"time"
	"unsafe"

	"portcullis/cache"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/policy"
)

// check is one request on its way to a verdict, and the memory that it needs. It
// is pooled. Its slices point into the request bytes, which outlive it.
type check struct {
	now      cache.Instant
	view     view
	received received
	answer   answer
	err      error

	path  []byte // canonical
	host  []byte // canonical
	flags policy.PathFlags
	last  bool // there is no further attempt

	snapshot *cache.Snapshot
	demand   policy.Demand
	named    *policy.Rule // the rule of the metrics and the log; nil where there is none
	token    *cache.Token
	bearer   judgedBearer // of the request, once it was judged
	key      *cache.Key
	userKey  *cache.UserKey
	workload *cache.Holder // of a workload that mTLS proved
	input    policy.Input
	roles    []string
	joined   policy.Grant // of the store and of the token
	log      decisionlog.Record

	shadowing bool // this check asks a shadow rule, for another check
	shadow    shadowVerdict
}

// begin readies a pooled check.
func (k *check) begin(now cache.Instant) {
	k.now = now
	k.answer.id = newDecisionID()
}

// maxScratch bounds the canonical path and host that a pooled check keeps, in
// bytes.
const maxScratch = 16 << 10

// release drops every hold on the request and on what was looked up, so that a
// check in the pool keeps nothing of the last caller.
func (k *check) release() {
	path, host, roles, joined := k.path[:0], k.host[:0], k.roles, k.joined[:0]
	clear(roles[:cap(roles)])
	if cap(path) > maxScratch {
		path = nil
	}
	if cap(host) > maxScratch {
		host = nil
	}
	k.view.reset()
	lists := k.view
	*k = check{path: path, host: host, roles: roles[:0], joined: joined}
	k.view = lists
}

// maxAttempts is how often a check takes the snapshot, where each time the store
// proved to be ahead of it. The cache's budget ends it sooner; once would starve
// cold checks under a stream of writes.
const maxAttempts = 8

// judge carries a request from its bytes to the reason in the answer. The error is
// ErrNotCheckRequest alone. What a request is to blame for comes before what the
// gate lacks, so that a fault is never the answer where a denial can be.
func (c *Core) judge(k *check, req []byte) error {
	if len(req) > maxRequest {
		k.answer.reason = policy.ReasonTooLarge
		return nil
	}
	if err := c.parser.parse(&k.view, req); err != nil {
		return err
	}
	k.received.gather(&k.view)
	k.answer.grpc = k.received.grpc
	k.answer.actor = text(k.view.principal)
	if plantPanic && k.received.planted {
		panic("planted by the request")
	}
	if reason := k.shape(); reason != policy.ReasonOK {
		k.answer.reason = reason
		return nil
	}
	reason, retake := policy.ReasonStoreUnavailable, true
	for n := range maxAttempts {
		if n > 0 {
			c.metrics.retakes.Inc()
		}
		k.last = n == maxAttempts-1
		if reason, retake = c.attempt(k); !retake {
			break
		}
	}
	if retake {
		reason = policy.ReasonStoreUnavailable
	}
	if reason == policy.ReasonStoreUnavailable && k.token != nil && c.cache.Late(k.token, k.now) {
		// It waited for its token's turn, which callers can bring about, and the store
		// had no fair chance: no fault.
		reason = policy.ReasonOverloaded
	}
	k.answer.reason = reason
	return nil
}

// shape refuses what has no single meaning, whatever the rules say, and makes the
// canonical host and path.
func (k *check) shape() policy.Reason {
	v := &k.view
	switch {
	case v.tooMany:
		return policy.ReasonTooLarge
	case v.badText, v.twoValues, k.received.disagrees, headersDisagree(v):
		return policy.ReasonAmbiguousRequest
	case !validMethod(v.method):
		return policy.ReasonAmbiguousRequest
	}
	var ok bool
	if k.host, ok = policy.CanonHost(k.host[:0], v.host); !ok {
		return policy.ReasonAmbiguousRequest
	}
	if len(v.path) == 0 && string(v.method) == "CONNECT" {
		// A plain CONNECT has no path, so no rule is for it.
		return policy.ReasonNoRule
	}
	k.path, k.flags = policy.CanonPath(k.path[:0], v.path)
	if k.flags&policy.FlagUnsafe != 0 {
		return policy.ReasonAmbiguousRequest
	}
	return policy.ReasonOK
}

// validMethod reports whether a method is a token of RFC 9110 without small letters.
// Methods are compared exactly, so `get` would pass by a rule for GET and find a
// wider one, while many servers read both as GET; no registered method has a small
// letter. An absent method is not valid: a rule without methods must not match it.
func validMethod(method []byte) bool {
	if len(method) == 0 {
		return false
	}
	for _, c := range method {
		switch {
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '!', c == '#', c == '$', c == '%', c == '&', c == '\'', c == '*', c == '+', c == '-', c == '.', c == '^', c == '_', c == '`', c == '|', c == '~':
		default:
			return false
		}
	}
	return true
}

// attempt decides at one snapshot. retake asks for one more attempt, since the
// cache has caught up with the store meanwhile.
func (c *Core) attempt(k *check) (reason policy.Reason, retake bool) {
	k.answer = answer{id: k.answer.id, grpc: k.answer.grpc, actor: text(k.view.principal)}
	k.token, k.key, k.userKey, k.workload = nil, nil, nil, nil
	k.snapshot = c.cache.Snapshot()
	if k.snapshot == nil {
		return policy.ReasonNoSnapshot, false
	}
	k.answer.revision = k.snapshot.Revision.Number
	if reason := c.findDemand(k); reason != policy.ReasonOK {
		return reason, false
	}
	if k.demand.Anonymous() {
		k.answer.anonymous = true
		return policy.ReasonOK, false
	}
	if reason, retake := c.authenticate(k); reason != policy.ReasonOK || retake {
		return reason, retake
	}
	return c.authorize(k)
}

// findDemand finds what must hold for the request: the rule of its path, and what
// Envoy's route names.
func (c *Core) findDemand(k *check) policy.Reason {
	k.demand, k.named = policy.Demand{}, nil
	v := &k.view
	rules := k.snapshot.Policy
	var name, permission []byte
	var hasRule, hasPermission bool
	if c.extensions != ContextExtensionsIgnore {
		name, hasRule = v.extension("rule")
		permission, hasPermission = v.extension("permission")
	}
	if c.extensions != ContextExtensionsReplace || !hasRule && !hasPermission {
		if k.shadowing {
			k.demand.Path = rules.MatchShadow(text(v.method), text(k.host), text(k.path))
		} else {
			k.demand.Path = rules.Match(text(v.method), text(k.host), text(k.path))
		}
		if k.demand.Path == nil {
			return policy.ReasonNoRule
		}
		k.setRule(k.demand.Path)
	}
	if hasRule {
		// An empty name, or one that no rule has, is a mistake in Envoy's routes.
		if k.demand.Named = rules.Rule(text(name)); k.demand.Named == nil {
			return policy.ReasonNoRule
		}
		if k.named == nil {
			k.setRule(k.demand.Named)
		}
	}
	if hasPermission {
		if len(permission) == 0 {
			return policy.ReasonMissingPermission
		}
		k.demand.Permission, k.demand.HasPermission = text(permission), true
	}
	if !k.acceptsPath() {
		return policy.ReasonAmbiguousRequest
	}
	k.answer.forward = forwards(k.demand) && !k.received.keyInAuthorization
	return policy.ReasonOK
}

func (k *check) setRule(r *policy.Rule) {
	k.named = r
	k.answer.rule = r.Name
}

// acceptsPath reports whether every rule of the demand takes the path with its
// ambiguities. A permission alone takes none.
func (k *check) acceptsPath() bool {
	if k.flags == 0 {
		return true
	}
	d := &k.demand
	return (d.Path != nil || d.Named != nil) &&
		(d.Path == nil || d.Path.Accepts(k.flags)) &&
		(d.Named == nil || d.Named.Accepts(k.flags))
}

// forwards reports whether every rule of the demand leaves Authorization on the
// request.
func forwards(d policy.Demand) bool {
	return (d.Path != nil || d.Named != nil) &&
		(d.Path == nil || d.Path.ForwardCredentials) &&
		(d.Named == nil || d.Named.ForwardCredentials)
}

// authenticate proves who is calling. A token is proved without the store, so a
// bad one is a denial even where the gate is out of touch.
func (c *Core) authenticate(k *check) (policy.Reason, bool) {
	r := &k.received
	cred := identity.ReadCredentials(r.authorization, r.clientKey, r.apiKey)
	if cred.Present == 0 {
		return c.authenticateWorkload(k), false
	}
	if cred.Reason != policy.ReasonOK {
		return cred.Reason, false
	}
	if cred.Present&identity.PresentBearer != 0 {
		token, reason := c.judgeBearer(k, cred.Bearer)
		if reason != policy.ReasonOK {
			return reason, false
		}
		// A workload is proved by mTLS alone, whatever a token says.
		if token.Principal.Kind == policy.KindWorkload {
			return policy.ReasonInvalidToken, false
		}
		k.token = token
	}
	if reason := c.cache.Fresh(k.now); reason != policy.ReasonOK {
		return reason, false
	}
	if cred.Present&identity.PresentClientKey != 0 {
		key, reason, end := c.cache.Key(k.snapshot, identity.KeyDigest(cred.Key), k.now)
		if reason != policy.ReasonOK || end != cache.Found {
			return refused(reason), end == cache.Retake
		}
		k.key = key
	}
	if cred.Present&identity.PresentAPIKey != 0 {
		key, reason, end := c.cache.UserKey(k.snapshot, identity.UserKeyDigest(cred.APIKey), k.now)
		if reason != policy.ReasonOK || end != cache.Found {
			return refused(reason), end == cache.Retake
		}
		k.userKey = key
	}
	if reason := k.unify(); reason != policy.ReasonOK || k.token == nil {
		return reason, false
	}
	return c.askDenyList(k)
}

// refused is the reason of a look-up that gave nothing: never ok.
func refused(reason policy.Reason) policy.Reason {
	if reason == policy.ReasonOK {
		return policy.ReasonInternal
	}
	return reason
}

// unify makes one principal of the credentials: the token's, else the API key's
// user, else the client. An API key beside a token must be the same user's of the
// same tenant; a client key beside either must be of the same tenant.
func (k *check) unify() policy.Reason {
	var p policy.Principal // the zero Principal: none is proved yet
	if k.token != nil {
		p = k.token.Principal
	}
	if k.userKey != nil {
		tenant, served := k.snapshot.TenantByID(k.userKey.Tenant)
		if !served {
			return k.unserved(p)
		}
		user := policy.Principal{Tenant: tenant.Name, Kind: policy.KindUser, ID: k.userKey.User}
		if k.token != nil && p != user {
			return policy.ReasonConflictingCredentials
		}
		p = user
	}
	if k.key != nil {
		tenant, served := k.snapshot.TenantByID(k.key.Tenant)
		switch {
		case !served:
			return k.unserved(p)
		case p == policy.Principal{}:
			p = policy.Principal{Tenant: tenant.Name, Kind: policy.KindClient, ID: k.key.Name}
		case tenant.Name != p.Tenant:
			return policy.ReasonConflictingCredentials
		}
	}
	k.answer.principal = p
	return policy.ReasonOK
}

// unserved is the reason for a key of a tenant that is not served here: whatever
// was proved beside it is of another one.
func (k *check) unserved(proved policy.Principal) policy.Reason {
	if proved == (policy.Principal{}) {
		return policy.ReasonWrongTenant
	}
	return policy.ReasonConflictingCredentials
}

// decideWithoutStore decides what can be decided without what the store knows of the
// caller: only a missing permission or a missing API key can still turn into an allow,
// and a condition, which is an error as long as there is no request to ask it about. The
// rest is denied here, before the store is asked for anything. It fills the input, and
// returns the caller's tenant, nil where it is not served, and whether the reason is the
// verdict.
func (k *check) decideWithoutStore() (tenant *cache.Tenant, reason policy.Reason, decided bool) {
	in := &k.input
	*in = policy.Input{Demand: k.demand, Principal: k.answer.principal, Now: k.now.Wall}
	tenant, served := k.snapshot.Tenant(in.Principal.Tenant)
	if !served || !tenant.Admitted {
		return tenant, policy.Decide(in), true
	}
	in.TenantAdmitted, in.StrictUsers = true, tenant.StrictUsers
	switch reason = policy.Decide(in); reason {
	case policy.ReasonOK, policy.ReasonMissingPermission, policy.ReasonNotKeyBacked, policy.ReasonConditionError:
		return tenant, reason, false
	}
	return tenant, reason, true
}

// authorize decides what the caller may do, and collects the roles to assert.
func (c *Core) authorize(k *check) (policy.Reason, bool) {
	in := &k.input
	tenant, reason, decided := k.decideWithoutStore()
	if decided {
		return reason, false
	}
	needed := in.NeedsGrant()
	end := c.loadGrant(k, tenant)
	if end == cache.Retake && (needed || !k.last) {
		return policy.ReasonStoreUnavailable, true
	}
	if end != cache.Found {
		if needed {
			return refused(end.Reason(policy.ReasonStoreUnavailable)), false
		}
		// The rule asks for no role, so it does not fall with the store; the upstream is
		// told that roles were left out.
		in.Roles, in.Grant = nil, nil
		k.answer.rolesUnknown = true
	}
	if k.demand.Conditional() {
		in.Request = k.request()
	}
	reason = policy.Decide(in)
	k.collectRoles()
	return reason, false
}

// loadGrant gets the tenant's role table and the principal's grant.
func (c *Core) loadGrant(k *check, tenant *cache.Tenant) cache.Lookup {
	var end cache.Lookup
	if k.input.Roles, end = c.cache.Roles(k.snapshot, tenant, k.now); end != cache.Found {
		return end
	}
	var holder *cache.Holder
	switch {
	case k.token != nil:
		holder = &k.token.Holder
	case k.userKey != nil:
		holder = &k.userKey.Holder
	case k.key != nil:
		holder = &k.key.Holder
	default:
		holder = k.workload
	}
	p := &k.answer.principal
	held, end := c.cache.Grant(k.snapshot, tenant, p.Kind, p.ID, holder, k.now)
	k.input.Grant, k.input.KeyBackedUntil = held.Roles, held.KeyBackedUntil
	if end == cache.Found && k.token != nil && len(k.token.Roles) > 0 {
		k.joinTokenRoles()
	}
	return end
}

// joinTokenRoles adds the roles that the token brings to those of the store. A
// name that the tenant's table does not have grants nothing.
func (k *check) joinTokenRoles() {
	k.joined = append(k.joined[:0], k.input.Grant...)
	for _, name := range k.token.Roles {
		if id, ok := k.input.Roles.Role(name); ok {
			k.joined = append(k.joined, policy.Membership{Role: id})
		}
	}
	k.input.Grant = k.joined
}

// collectRoles lists the names of the roles that the principal holds now, sorted,
// each once.
func (k *check) collectRoles() {
	k.roles = k.roles[:0]
	for _, m := range k.input.Grant {
		if !m.Live(k.now.Wall) {
			continue
		}
		if name, ok := k.input.Roles.RoleName(m.Role); ok {
			k.roles = append(k.roles, name)
		}
	}
	slices.Sort(k.roles)
	k.roles = slices.Compact(k.roles)
	k.answer.roles = k.roles
}

// record makes the decision log's record. It borrows from the check.
func (k *check) record(elapsed int64) *decisionlog.Record {
	a := &k.answer
	k.log = decisionlog.Record{
		Time: time.Unix(0, k.now.Wall), DecisionID: a.id[:],
		Principal: a.principal, Actor: a.actor, Roles: a.roles,
		Rule: a.rule, Effect: a.reason.Effect(), Reason: a.reason, Revision: a.revision,
		Method: k.view.method, Host: k.view.host, Path: k.view.path,
		Duration: time.Duration(elapsed), GRPC: a.grpc,
	}
	if k.shadow.rule != nil {
		k.log.ShadowRule, k.log.ShadowReason = k.shadow.rule.Name, k.shadow.reason
	}
	if k.snapshot != nil {
		k.log.PolicyDigest = k.snapshot.Policy.Digest()
	}
	if k.key != nil {
		k.log.Proof, k.log.KeyName = decisionlog.ProofClientKey, k.key.Name
	}
	if k.userKey != nil {
		k.log.Proof, k.log.APIKeyID = decisionlog.ProofAPIKey, k.userKey.ID
	}
	if k.token != nil {
		k.log.Proof = decisionlog.ProofJWT
		k.log.Issuer, k.log.KeyID, k.log.TokenID = k.token.Issuer, k.token.KeyID, k.token.ID
	}
	if a.principal.Kind == policy.KindWorkload {
		k.log.Proof, k.log.SPIFFE = decisionlog.ProofMTLS, text(k.view.principal)
	}
	return &k.log
}

// text reads bytes as a string without a copy. It is for pure functions that keep
// nothing of it.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
