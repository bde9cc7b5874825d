package policy_test

import (
	"strings"
	"testing"

	"portcullis/policy"
)

// workloadsOf is a policy without rules and with these workloads, the first on line 3.
func workloadsOf(entries ...string) string {
	return "version: 1\nworkloads:\n  - {" + strings.Join(entries, "}\n  - {") + "}\nrules: []\n"
}

func TestWorkloads(t *testing.T) {
	const cart, old, ship = "spiffe://example.org/ns/shop/sa/cart", "spiffe://old.example.org/cart", "spiffe://example.org/ns/shop/sa/Ship_1.x"
	p := mustCompile(t, workloadsOf(
		"spiffe: '"+cart+"', tenant: acme, id: cart",
		"spiffe: '"+ship+"', id: 'ship|1'",
		"spiffe: '"+old+"', tenant: acme, id: cart", // a second name of the same caller
	))
	for spiffe, want := range map[string]policy.Principal{
		cart: {Tenant: "acme", Kind: policy.KindWorkload, ID: "cart"},
		old:  {Tenant: "acme", Kind: policy.KindWorkload, ID: "cart"},
		ship: {Tenant: policy.DefaultTenant, Kind: policy.KindWorkload, ID: "ship|1"},
	} {
		w := p.Workload(spiffe)
		if w == nil || w.Principal != want || w.SPIFFE != spiffe || p.Workloads()[w.Index] != w {
			t.Errorf("%s: %+v, want %v", spiffe, w, want)
		}
	}
	// Exact means exact.
	for _, text := range []string{
		"", "cart", "spiffe://", "spiffe://example.org", cart + "/", cart + "/x", cart[:len(cart)-1], strings.ToUpper(cart), "SPIFFE" + cart[6:],
		"spiffe://example.org/ns/shop/sa/ship_1.x", "spiffe://Example.org/ns/shop/sa/cart", "spiffe://example.org./ns/shop/sa/cart",
		"spiffe://example.org:443/ns/shop/sa/cart", "spiffe://example.org/ns/shop/sa/c%61rt", cart + "?", cart + "#", " " + cart, cart + ",x", cart + "\x00",
		"example.org/ns/shop/sa/cart", "CN=" + cart,
	} {
		if w := p.Workload(text); w != nil {
			t.Errorf("%q is taken for %v", text, w.Principal)
		}
	}
	if w := policy.Empty().Workload(cart); w != nil {
		t.Errorf("an empty policy knows %v", w)
	}
	text := []byte(cart)
	if n := testing.AllocsPerRun(100, func() { p.Workload(cart); p.Workload(string(text[:0])) }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

// The longest ids that the specification knows, and the shortest.
func TestSPIFFEBounds(t *testing.T) {
	domain := "spiffe://" + strings.Repeat("a", 255) + "/"
	for _, spiffe := range []string{"spiffe://a/b", "spiffe://1-_.a/-_.", "spiffe://a/...", domain + strings.Repeat("b", 2048-len(domain))} {
		if p := mustCompile(t, workloadsOf("spiffe: '"+spiffe+"', id: x")); p.Workload(spiffe) == nil {
			t.Errorf("%.40q is not found", spiffe)
		}
	}
}

// Each entry has exactly the problems that stand beside it.
func TestWorkloadErrors(t *testing.T) {
	const spiffe = "spiffe: 'spiffe://example.org/a'"
	bad := func(text, wrong string) [2]string {
		return [2]string{workloadsOf("spiffe: '" + text + "', id: a"), `line 3: workload #1: spiffe: "` + text + `" ` + wrong}
	}
	const (
		noScheme = "is no SPIFFE id: it begins with spiffe://, in small letters"
		query    = "has a query or a fragment, which no SPIFFE id has"
		domain   = "has a trust domain with other characters than small letters, digits and . - _ (no port and no user either)"
		noPath   = "names a trust domain; a workload's id has a path"
		empty    = "has an empty path segment or a slash at the end"
		dots     = "has a dot segment in its path"
		path     = "has a path with other characters than letters, digits and . - _ (no percent-encoding either)"
	)
	long := "spiffe://a/" + strings.Repeat("b", 2048)
	for _, c := range [][2]string{
		{"version: 1\nworkloads: x\nrules: []", `line 2: workloads: "x" where a list is due`},
		{"version: 1\nworkloads: [cart]\nrules: []", `line 2: workload #1: "cart" where a mapping of keys to values is due`},
		{workloadsOf("id: a"), "line 3: workload #1: spiffe is missing"},
		{workloadsOf(spiffe), "line 3: workload #1: id is missing"},
		{workloadsOf(spiffe + ", id: a, tennant: x"), `line 3: workload #1: unknown key "tennant"; did you mean "tenant"?`},
		{workloadsOf(spiffe + ", id: 12"), "line 3: workload #1: id: YAML reads 12 as something else than a word; put it in quotes"},
		{workloadsOf(spiffe + ", id: ''"), `line 3: workload #1: id: "" is no id: 1 to 255 visible ASCII characters without spaces`},
		{workloadsOf(spiffe + ", id: 'a b'"), `line 3: workload #1: id: "a b" is no id: 1 to 255 visible ASCII characters without spaces`},
		{workloadsOf(spiffe + ", id: é"), `line 3: workload #1: id: "é" is no id: 1 to 255 visible ASCII characters without spaces`},
		{workloadsOf(spiffe + ", id: a, tenant: 'a b'"), `line 3: workload #1: tenant: "a b" is not a tenant name: 1 to 64 letters, digits and _ . -`},
		{workloadsOf(spiffe+", id: a", spiffe+", id: b"), `line 4: workload #2: spiffe: "spiffe://example.org/a" is on line 3 already`},
		{workloadsOf(spiffe+", id: a", spiffe+", id: a"), `line 4: workload #2: spiffe: "spiffe://example.org/a" is on line 3 already`},
		{workloadsOf("spiffe: '" + long + "', id: a"), `line 3: workload #1: spiffe: "` + long[:80] + `..." has 2059 bytes, more than the 2048 of a SPIFFE id`},
		{workloadsOf("spiffe: 'spiffe://" + strings.Repeat("a", 256) + "/b', id: a"),
			`line 3: workload #1: spiffe: "spiffe://` + strings.Repeat("a", 71) + `..." has a trust domain of more than 255 bytes`},
		bad("", noScheme), bad("cart", noScheme), bad("https://example.org/a", noScheme), bad("SPIFFE://example.org/a", noScheme),
		bad("spiffe:/example.org/a", noScheme), bad(" spiffe://example.org/a", noScheme),
		bad("spiffe://example.org/a?b", query), bad("spiffe://example.org/a#b", query), bad("spiffe://example.org?/a", query),
		bad("spiffe:///a", "has no trust domain"), bad("spiffe://", "has no trust domain"),
		bad("spiffe://Example.org/a", domain), bad("spiffe://example.org:1/a", domain), bad("spiffe://u@example.org/a", domain),
		bad("spiffe://exämple.org/a", domain), bad("spiffe://*.example.org/a", domain), bad("spiffe://[::1]/a", domain),
		bad("spiffe://example.org", noPath), bad("spiffe://example.org/", noPath),
		bad("spiffe://example.org/a/", empty), bad("spiffe://example.org//a", empty), bad("spiffe://example.org/a//b", empty),
		bad("spiffe://example.org/a/./b", dots), bad("spiffe://example.org/..", dots),
		bad("spiffe://example.org/%61", path), bad("spiffe://example.org/a b", path), bad("spiffe://example.org/a;b", path),
		bad("spiffe://example.org/é", path), bad("spiffe://example.org/*", path), bad("spiffe://example.org/a,b", path),

		{policyOf("name: a, path: /a, allow: anonymous, mtls: true"), `line 3: rule "a": mtls: an anonymous rule asks nobody for a certificate; leave mtls out`},
		{policyOf("name: a, path: /a, allow: authenticated, mtls: 'yes'"), `line 3: rule "a": mtls: "yes" where true or false is due`},
	} {
		_, err := policy.Compile([]byte(c[0]))
		if err == nil || err.Error() != c[1] {
			t.Errorf("%.200s\ngot  %v\nwant %s", c[0], err, c[1])
		}
	}
}

// A workload passes only where every rule that asks for a caller takes one.
func TestDecideWorkloads(t *testing.T) {
	p := mustCompile(t, policyOf(
		"name: open, path: /open, allow: anonymous",
		"name: me, path: /me, allow: authenticated",
		"name: view, path: /view, require: view",
		"name: no-mtls, path: /no, require: view, mtls: false",
		"name: mtls-me, path: /mtls-me, allow: authenticated, mtls: true",
		"name: mtls-view, path: /mtls-view, require: view, mtls: true",
		"name: mtls-acme, path: /mtls-acme, require: view, mtls: true, tenants: [acme]",
	))
	for _, c := range []struct {
		route at
		grant policy.Grant
		want  policy.Reason
	}{
		{at{path: "open"}, nil, ok},
		{at{path: "me"}, viewer, missingCredential},
		{at{path: "view"}, viewer, missingCredential},
		{at{path: "no-mtls"}, viewer, missingCredential},
		{at{path: "mtls-me"}, nil, ok},
		{at{path: "mtls-view"}, viewer, ok},
		{at{path: "mtls-view"}, nil, missingPermission},
		{at{path: "mtls-acme"}, viewer, wrongTenant},
		// Two rules: both must take it.
		{at{path: "mtls-view", named: "mtls-me"}, viewer, ok},
		{at{path: "mtls-view", named: "view"}, viewer, missingCredential},
		{at{path: "view", named: "mtls-view"}, viewer, missingCredential},
		// An anonymous rule adds nothing, and does not stand in for one that takes it.
		{at{path: "open", named: "mtls-view"}, viewer, ok},
		{at{path: "open", named: "view"}, viewer, missingCredential},
		// A permission narrows a rule; alone it takes no certificate.
		{at{path: "mtls-view", permission: "edit"}, viewer, missingPermission},
		{at{path: "mtls-view", permission: "view"}, viewer, ok},
		{at{path: "open", permission: "view"}, viewer, missingCredential},
		{at{permission: "view"}, viewer, missingCredential},
		{at{named: "mtls-view"}, viewer, ok},
		{at{}, viewer, noRule},
	} {
		in := policy.Input{Demand: c.route.demand(p), Roles: decideRoles, Grant: c.grant, TenantAdmitted: true, Now: 1000,
			Principal: policy.Principal{Tenant: policy.DefaultTenant, Kind: policy.KindWorkload, ID: "cart"}}
		if got := policy.Decide(&in); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.route, got, c.want)
		}
		// What a certificate may not do, a user with the same roles may.
		if in.Principal.Kind = policy.KindUser; c.want == missingCredential && policy.Decide(&in) != ok {
			t.Errorf("%+v: a user gets %s", c.route, policy.Decide(&in))
		}
	}
}

func TestWorkloadWarnings(t *testing.T) {
	const workloads = "version: 1\nworkloads:\n  - {spiffe: 'spiffe://a/b', id: x}\n  - {spiffe: 'spiffe://a/c', id: y, tenant: acme}\nrules:\n"
	for src, want := range map[string]string{
		policyOf("name: a, path: /a, allow: authenticated"):                           "",
		workloads + "  - {name: a, path: /a, require: p, mtls: true, tenants: any}\n": "",
		workloads + "  - {name: a, path: /a, require: p, mtls: true}\n":               `line 4: workload #2: no rule for tenant "acme" has mtls: true, so it passes nowhere`,
		policyOf("name: a, path: /a, require: p, mtls: true"):                         `line 3: rule "a": mtls: true, but the file has no workload of the rule's tenants`,
		policyOf("name: a, path: /a, require: p, mtls: true, tenants: any"):           `line 3: rule "a": mtls: true, but the file has no workload of the rule's tenants`,
		workloads + "  - {name: a, path: /a, require: p, mtls: true, tenants: [acme]}\n  - {name: b, path: /b, require: p, mtls: true, tenants: [globex]}\n": `line 3: workload #1: no rule for tenant "default" has mtls: true, so it passes nowhere
line 7: rule "b": mtls: true, but the file has no workload of the rule's tenants`,
	} {
		var got []string
		for _, w := range mustCompile(t, src).Warnings() {
			got = append(got, w.String())
		}
		if text := strings.Join(got, "\n"); text != want {
			t.Errorf("%s\ngot\n%s\nwant\n%s", src, text, want)
		}
	}
}

// Test cases name a caller by its certificate as well.
func TestRunTestsByCertificate(t *testing.T) {
	const src = `version: 1
workloads:
  - {spiffe: "spiffe://a/cart", id: cart}
  - {spiffe: "spiffe://a/partner", id: cart, tenant: acme}
rules:
  - {name: stock, path: /stock, require: view, mtls: true}
  - {name: page, path: /page, require: view}
tests:
  roles: {viewer: {permissions: [view]}}
  cases:
`
	const viewer = ", roles: [viewer]}, expect: "
	for item, wrong := range map[string]string{
		"request: {path: /stock}, principal: {spiffe: 'spiffe://a/cart'" + viewer + "allow":                             ``,
		"request: {path: /stock}, principal: {spiffe: 'spiffe://a/cart'}, expect: deny, reason: missing_permission":     ``,
		"request: {path: /page}, principal: {spiffe: 'spiffe://a/cart'" + viewer + "deny, reason: missing_credential":   ``,
		"request: {path: /stock}, principal: {spiffe: 'spiffe://a/other'" + viewer + "deny, reason: missing_credential": ``,
		"request: {path: /stock}, principal: {spiffe: 'spiffe://a/partner'" + viewer + "deny, reason: wrong_tenant":     ``,
		"request: {path: /stock}, principal: {spiffe: 'spiffe://a/other'" + viewer + "allow":                            `expected allow, got deny (missing_credential); the rule was stock`,
	} {
		results, err := policy.RunTests([]byte(src+"    - {name: c, "+item+"}\n"), nil)
		if err != nil || results[0].Wrong != wrong {
			t.Errorf("%s: %v, %+v; want %q", item, err, results, wrong)
		}
	}
	for item, want := range map[string]string{
		"{spiffe: 'spiffe://a/cart', id: x}":          `line 11: case "c": principal: id: the workloads of the policy say who a spiffe id is; leave id out`,
		"{spiffe: 'spiffe://a/cart', kind: workload}": `line 11: case "c": principal: kind: the workloads of the policy say who a spiffe id is; leave kind out`,
		"{spiffe: cart.shop}":                         `line 11: case "c": principal: spiffe: "cart.shop" is no SPIFFE id: it begins with spiffe://, in small letters`,
		"{roles: [viewer]}":                           `line 11: case "c": principal: id is missing`,
	} {
		_, err := policy.RunTests([]byte(src+"    - {name: c, request: {path: /}, expect: deny, principal: "+item+"}\n"), nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", item, err, want)
		}
	}
}
