package policy_test

import (
	"math"
	"testing"

	"portcullis/policy"
)

const (
	ok                = policy.ReasonOK
	noRule            = policy.ReasonNoRule
	wrongTenant       = policy.ReasonWrongTenant
	missingPermission = policy.ReasonMissingPermission
	missingCredential = policy.ReasonMissingCredential
)

const decidePolicy = `version: 1
rules:
  - {name: open, path: /open, allow: anonymous}
  - {name: me, path: /me, allow: authenticated}
  - {name: me-anywhere, path: /me-anywhere, allow: authenticated, tenants: any}
  - {name: me-acme, path: /me-acme, allow: authenticated, tenants: [acme]}
  - {name: view, path: /view, require: view}
  - {name: view-anywhere, path: /view-anywhere, require: view, tenants: any}
  - {name: view-acme, path: /view-acme, require: view, tenants: [acme, globex]}
  - {name: view-mtls, path: /view-mtls, require: view, mtls: true}
  - {name: view-or-edit, path: /view-or-edit, require: {any: [view, edit]}}
  - {name: view-and-edit, path: /view-and-edit, require: {all: [view, edit]}}
`

// The roles of every tenant here, and memberships by role name.
var (
	decideRoles = policy.NewRoleTable([]policy.RoleSpec{
		{ID: 1, Name: "viewer", Permissions: []string{"view"}},
		{ID: 2, Name: "editor", Permissions: []string{"edit"}, Parents: []policy.RoleID{1}},
		{ID: 3, Name: "scribe", Permissions: []string{"edit"}},
		{ID: 4, Name: "empty"},
	})
	viewer = policy.Grant{{Role: 1}}
	editor = policy.Grant{{Role: 2}}
	scribe = policy.Grant{{Role: 3}}
	both   = policy.Grant{{Role: 4}, {Role: 3}, {Role: 1}}
)

// A caller of the tests: ada of a tenant with some roles. "!" before the
// tenant's name: no operator has admitted it. "" is nobody.
type caller struct {
	tenant string
	grant  policy.Grant
}

// at is the demand of a route: the rule of its path, and what context
// extensions name; "" for nothing.
type at struct{ path, named, permission string }

func (a at) demand(p *policy.Policy) policy.Demand {
	d := policy.Demand{Path: p.Rule(a.path), Named: p.Rule(a.named)}
	if a.permission != "" {
		d.Permission, d.HasPermission = a.permission, true
	}
	return d
}

func decide(d policy.Demand, c caller) policy.Reason {
	in := policy.Input{Demand: d, Roles: decideRoles, Grant: c.grant, Now: 1000}
	if c.tenant != "" {
		in.TenantAdmitted = c.tenant[0] != '!'
		if !in.TenantAdmitted {
			c.tenant = c.tenant[1:]
		}
		in.Principal = policy.Principal{Tenant: c.tenant, Kind: policy.KindUser, ID: "ada"}
	}
	return policy.Decide(&in)
}

func TestDecide(t *testing.T) {
	p := mustCompile(t, decidePolicy)
	tests := []struct {
		route  at
		caller caller
		want   policy.Reason
	}{
		// No rule, no access, whoever asks.
		{at{}, caller{}, noRule},
		{at{}, caller{"default", editor}, noRule},

		// Anonymous rules ask nothing of anybody.
		{at{path: "open"}, caller{}, ok},
		{at{path: "open"}, caller{"default", nil}, ok},
		{at{path: "open"}, caller{"!stranger", nil}, ok},

		// Authenticated rules ask for a caller of their tenants, not for roles.
		{at{path: "me"}, caller{}, missingCredential},
		{at{path: "me"}, caller{"default", nil}, ok},
		{at{path: "me"}, caller{"acme", editor}, wrongTenant},
		{at{path: "me"}, caller{"!default", nil}, wrongTenant},
		{at{path: "me-anywhere"}, caller{"default", nil}, ok},
		{at{path: "me-anywhere"}, caller{"acme", nil}, ok},
		{at{path: "me-anywhere"}, caller{"!acme", nil}, wrongTenant},
		{at{path: "me-acme"}, caller{"acme", nil}, ok},
		{at{path: "me-acme"}, caller{"default", nil}, wrongTenant},
		{at{path: "me-acme"}, caller{"!acme", nil}, wrongTenant},

		// Permissions, held by a role or inherited.
		{at{path: "view"}, caller{}, missingCredential},
		{at{path: "view"}, caller{"default", nil}, missingPermission},
		{at{path: "view"}, caller{"default", viewer}, ok},
		{at{path: "view"}, caller{"default", editor}, ok},
		{at{path: "view"}, caller{"default", scribe}, missingPermission},
		{at{path: "view"}, caller{"default", policy.Grant{{Role: 9}}}, missingPermission},
		{at{path: "view-or-edit"}, caller{"default", scribe}, ok},
		{at{path: "view-or-edit"}, caller{"default", viewer}, ok},
		{at{path: "view-or-edit"}, caller{"default", nil}, missingPermission},
		{at{path: "view-and-edit"}, caller{"default", scribe}, missingPermission},
		{at{path: "view-and-edit"}, caller{"default", viewer}, missingPermission},
		{at{path: "view-and-edit"}, caller{"default", editor}, ok},
		{at{path: "view-and-edit"}, caller{"default", both}, ok},

		// A permission of the same name in another tenant is another permission.
		{at{path: "view"}, caller{"acme", viewer}, wrongTenant},
		{at{path: "view"}, caller{"!default", viewer}, wrongTenant},
		{at{path: "view-acme"}, caller{"acme", viewer}, ok},
		{at{path: "view-acme"}, caller{"globex", viewer}, ok},
		{at{path: "view-acme"}, caller{"globex", nil}, missingPermission},
		{at{path: "view-acme"}, caller{"default", viewer}, wrongTenant},
		{at{path: "view-anywhere"}, caller{"acme", viewer}, ok},
		{at{path: "view-anywhere"}, caller{"acme", nil}, missingPermission},
		{at{path: "view-anywhere"}, caller{"!acme", viewer}, wrongTenant},

		// Memberships that expire: now is 1000.
		{at{path: "view"}, caller{"default", policy.Grant{{Role: 1, Expires: 1001}}}, ok},
		{at{path: "view"}, caller{"default", policy.Grant{{Role: 1, Expires: 1000}}}, missingPermission},
		{at{path: "view"}, caller{"default", policy.Grant{{Role: 1, Expires: 999}, {Role: 2, Expires: 2000}}}, ok},

		// A named rule narrows: both must allow.
		{at{path: "me", named: "view"}, caller{"default", viewer}, ok},
		{at{path: "me", named: "view"}, caller{"default", scribe}, missingPermission},
		{at{path: "view", named: "me"}, caller{"default", scribe}, missingPermission},
		{at{path: "view", named: "open"}, caller{"default", viewer}, ok},
		{at{path: "view", named: "open"}, caller{"default", nil}, missingPermission},
		{at{path: "view", named: "open"}, caller{}, missingCredential},
		{at{path: "me-anywhere", named: "me"}, caller{"acme", nil}, wrongTenant},
		{at{path: "me", named: "me-anywhere"}, caller{"acme", nil}, wrongTenant},
		{at{path: "open", named: "me"}, caller{}, missingCredential},
		{at{path: "open", named: "me"}, caller{"default", nil}, ok},
		{at{path: "open", named: "me"}, caller{"acme", nil}, wrongTenant},
		{at{path: "open", named: "open"}, caller{}, ok},

		// A named rule alone stands in for the path rule.
		{at{named: "open"}, caller{}, ok},
		{at{named: "view"}, caller{"default", viewer}, ok},
		{at{named: "view"}, caller{"default", scribe}, missingPermission},
		{at{named: "view-acme"}, caller{"default", viewer}, wrongTenant},

		// A permission narrows too, for the tenants of the path rule.
		{at{path: "me", permission: "edit"}, caller{"default", editor}, ok},
		{at{path: "me", permission: "edit"}, caller{"default", viewer}, missingPermission},
		{at{path: "me", permission: "edit"}, caller{}, missingCredential},
		{at{path: "me", permission: "unknown"}, caller{"default", editor}, missingPermission},
		{at{path: "view-acme", permission: "edit"}, caller{"acme", editor}, ok},
		{at{path: "view-acme", permission: "edit"}, caller{"acme", viewer}, missingPermission},
		{at{path: "me-anywhere", permission: "edit"}, caller{"acme", editor}, ok},
		{at{path: "view", permission: "edit"}, caller{"default", scribe}, missingPermission},

		// Where the path rule has no tenants it is for the default tenant alone.
		{at{path: "open", permission: "edit"}, caller{"default", editor}, ok},
		{at{path: "open", permission: "edit"}, caller{"default", viewer}, missingPermission},
		{at{path: "open", permission: "edit"}, caller{"acme", editor}, wrongTenant},
		{at{path: "open", permission: "edit"}, caller{}, missingCredential},
		{at{permission: "edit"}, caller{"default", editor}, ok},
		{at{permission: "edit"}, caller{"!default", editor}, wrongTenant},
		{at{permission: "edit"}, caller{"acme", editor}, wrongTenant},
		{at{permission: "edit"}, caller{}, missingCredential},
		{at{named: "view-acme", permission: "edit"}, caller{"acme", editor}, wrongTenant},

		// All three.
		{at{"me", "view", "edit"}, caller{"default", editor}, ok},
		{at{"me", "view", "edit"}, caller{"default", scribe}, missingPermission},
		{at{"me", "view", "edit"}, caller{"default", viewer}, missingPermission},
	}
	for _, test := range tests {
		if got := decide(test.route.demand(p), test.caller); got != test.want {
			t.Errorf("%+v, %+v: %s, want %s", test.route, test.caller, got, test.want)
		}
	}
}

// An empty permission name is held by nobody, and is no missing permission.
func TestDecideEmptyPermission(t *testing.T) {
	p := mustCompile(t, decidePolicy)
	for _, rule := range []*policy.Rule{nil, p.Rule("me"), p.Rule("open")} {
		d := policy.Demand{Path: rule, HasPermission: true}
		if got := decide(d, caller{"default", editor}); got != missingPermission {
			t.Errorf("%+v: %s", rule, got)
		}
	}
}

// What was forgotten denies.
func TestDecideZeroValues(t *testing.T) {
	ada := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ada"}
	p := mustCompile(t, decidePolicy)
	me, view := policy.Demand{Path: p.Rule("me")}, policy.Demand{Path: p.Rule("view")}
	for name, test := range map[string]struct {
		in   policy.Input
		want policy.Reason
	}{
		"zero input":          {policy.Input{}, noRule},
		"no demand":           {policy.Input{Principal: ada, TenantAdmitted: true, Roles: decideRoles, Grant: editor}, noRule},
		"tenant not admitted": {policy.Input{Demand: me, Principal: ada}, wrongTenant},
		"no role table":       {policy.Input{Demand: view, Principal: ada, TenantAdmitted: true, Grant: viewer}, missingPermission},
		"no grant":            {policy.Input{Demand: view, Principal: ada, TenantAdmitted: true, Roles: decideRoles}, missingPermission},
		"no kind":             {policy.Input{Demand: me, Principal: policy.Principal{Tenant: "default", ID: "ada"}, TenantAdmitted: true}, missingCredential},
		"unknown kind":        {policy.Input{Demand: me, Principal: policy.Principal{Tenant: "default", Kind: 9, ID: "ada"}, TenantAdmitted: true}, missingCredential},
		"no id":               {policy.Input{Demand: me, Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser}, TenantAdmitted: true}, missingCredential},
		"no tenant":           {policy.Input{Demand: policy.Demand{Path: p.Rule("me-anywhere")}, Principal: policy.Principal{Kind: policy.KindUser, ID: "ada"}, TenantAdmitted: true}, missingCredential},
		"zero rule":           {policy.Input{Demand: policy.Demand{Path: &policy.Rule{}}, Principal: ada, TenantAdmitted: true, Roles: decideRoles, Grant: editor}, wrongTenant},
		"rule that requires nothing": {policy.Input{Demand: policy.Demand{Path: &policy.Rule{AnyTenant: true}}, Principal: ada, TenantAdmitted: true,
			Roles: decideRoles, Grant: editor}, missingPermission},
		"unknown access": {policy.Input{Demand: policy.Demand{Path: &policy.Rule{AnyTenant: true, Access: 9}}, Principal: ada, TenantAdmitted: true,
			Roles: decideRoles, Grant: editor}, missingPermission},
		"all and any": {policy.Input{Demand: policy.Demand{Path: &policy.Rule{AnyTenant: true, Require: policy.Requirement{All: []string{"edit"}, Any: []string{"view"}}}},
			Principal: ada, TenantAdmitted: true, Roles: decideRoles, Grant: scribe}, missingPermission},
	} {
		if got := policy.Decide(&test.in); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestDemand(t *testing.T) {
	p := mustCompile(t, decidePolicy)
	for route, want := range map[at]struct{ anonymous, grant bool }{
		{}:                                    {false, false},
		{path: "open"}:                        {true, false},
		{named: "open"}:                       {true, false},
		{path: "open", named: "open"}:         {true, false},
		{path: "me"}:                          {false, false},
		{path: "open", named: "me"}:           {false, false},
		{path: "me", named: "open"}:           {false, false},
		{path: "view"}:                        {false, true},
		{path: "open", named: "view"}:         {false, true},
		{path: "me", named: "view"}:           {false, true},
		{path: "open", permission: "x"}:       {false, true},
		{permission: "x"}:                     {false, true},
		{named: "me", permission: "x"}:        {false, true},
		{path: "view-and-edit"}:               {false, true},
		{path: "open", named: "view-or-edit"}: {false, true},
	} {
		d := route.demand(p)
		if d.Anonymous() != want.anonymous || d.NeedsGrant() != want.grant {
			t.Errorf("%+v: anonymous %v, needs grant %v", route, d.Anonymous(), d.NeedsGrant())
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	p := mustCompile(t, decidePolicy)
	in := policy.Input{
		Demand:    at{"view-and-edit", "view-or-edit", "edit"}.demand(p),
		Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ada"}, TenantAdmitted: true, Roles: decideRoles, Grant: both,
	}
	if got := policy.Decide(&in); got != ok {
		t.Fatal(got)
	}
	if n := testing.AllocsPerRun(100, func() { policy.Decide(&in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	in.Grant = nil
	if n := testing.AllocsPerRun(100, func() { policy.Decide(&in) }); n != 0 {
		t.Errorf("%v allocations for a denial", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	p := mustCompile(b, decidePolicy)
	in := policy.Input{
		Demand:    at{path: "view-and-edit"}.demand(p),
		Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ada"}, TenantAdmitted: true, Roles: decideRoles, Grant: both,
	}
	b.ReportAllocs()
	for b.Loop() {
		policy.Decide(&in)
	}
}

// A tenant with strict users takes no user without an active API key, whatever
// the rule asks for. Now is 1000.
func TestDecideStrictUsers(t *testing.T) {
	p := mustCompile(t, decidePolicy)
	const user, client, workload = policy.KindUser, policy.KindClient, policy.KindWorkload
	for _, test := range []struct {
		route  at
		tenant string
		kind   policy.Kind
		until  int64
		grant  policy.Grant
		want   policy.Reason
	}{
		{at{path: "view"}, "default", user, 0, viewer, policy.ReasonNotKeyBacked},
		{at{path: "view"}, "default", user, 1000, viewer, policy.ReasonNotKeyBacked},
		{at{path: "view"}, "default", user, 1001, viewer, ok},
		{at{path: "view"}, "default", user, math.MaxInt64, viewer, ok},
		{at{path: "view"}, "default", client, 0, viewer, ok},
		{at{path: "view-mtls"}, "default", workload, 0, viewer, ok},
		{at{path: "me"}, "default", user, 0, nil, policy.ReasonNotKeyBacked},
		{at{path: "me"}, "default", user, 1001, nil, ok},
		{at{path: "me"}, "default", client, 0, nil, ok},
		{at{path: "open"}, "default", user, 0, nil, ok},
		{at{path: "open", named: "me"}, "default", user, 0, nil, policy.ReasonNotKeyBacked},
		{at{permission: "edit"}, "default", user, 0, editor, policy.ReasonNotKeyBacked},
		{at{permission: "edit"}, "default", user, 1001, editor, ok},
		// A key gives nobody a role, and another tenant's rule stays shut first.
		{at{path: "view"}, "default", user, 1001, nil, missingPermission},
		{at{path: "view"}, "acme", user, 0, viewer, wrongTenant},
		{at{}, "default", user, 0, viewer, noRule},
	} {
		in := policy.Input{Demand: test.route.demand(p), Principal: policy.Principal{Tenant: test.tenant, Kind: test.kind, ID: "ada"}, TenantAdmitted: true,
			Roles: decideRoles, Grant: test.grant, StrictUsers: true, KeyBackedUntil: test.until, Now: 1000}
		if got := policy.Decide(&in); got != test.want {
			t.Errorf("%+v, %s until %d: %s, want %s", test.route, test.kind, test.until, got, test.want)
		}
		if got := in.NeedsGrant(); got != (test.kind == user || in.Demand.NeedsGrant()) {
			t.Errorf("%+v, %s: needs grant %v", test.route, test.kind, got)
		}
		in.StrictUsers, in.KeyBackedUntil = false, 0
		if got := policy.Decide(&in); got == policy.ReasonNotKeyBacked || in.NeedsGrant() != in.Demand.NeedsGrant() {
			t.Errorf("%+v, %s in a tenant that is not strict: %s, needs grant %v", test.route, test.kind, got, in.NeedsGrant())
		}
	}
}
