package policy_test

import (
	"testing"

	"portcullis/policy"
)

func TestReplay(t *testing.T) {
	roles, err := policy.ReadRoles([]byte("roles:\n  viewer: {permissions: [view]}\n  editor: {permissions: [edit], parents: [viewer]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	old := mustCompile(t, policyOf("name: read, methods: [GET], path: '/posts/{id}', require: view", "name: open, path: /open, allow: anonymous",
		"name: own, path: '/users/{user}', require: edit", "name: desk, path: /desk, require: view, when: \"request.headers['x-desk'] == 'news'\"",
		"name: acme, path: /acme, allow: authenticated, tenants: [acme]", "name: asked, path: /asked, require: view", "name: gone, path: /gone, require: view"))
	draft := mustCompile(t, policyOf("name: read, methods: [GET], path: '/posts/{id}', require: edit", "name: open, path: /open, require: view",
		"name: own, path: '/users/{user}', require: edit, when: 'path.user == principal.id'", "name: desk, path: /desk, require: view, when: \"request.headers['x-desk'] == 'news'\"",
		"name: acme, path: /acme, require: view, tenants: [default, acme]", "name: asked, path: /asked, require: view, when: \"request.query == ''\"", "name: new, path: /new, allow: anonymous"))
	ann := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}
	eve := policy.Principal{Tenant: "t-new", Kind: policy.KindUser, ID: "eve"}
	for _, try := range []struct {
		name          string
		rec           policy.Recorded
		before, after string
	}{
		{"the draft asks for more", policy.Recorded{Path: "/posts/1", Rule: "read", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"viewer"}}, "ok", "missing_permission"},
		{"who has more stays in", policy.Recorded{Path: "/posts/1", Rule: "read", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"editor"}}, "ok", "ok"},
		{"a role that is gone grants nothing", policy.Recorded{Path: "/posts/1", Rule: "read", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"boss"}}, "missing_permission", "missing_permission"},
		{"nobody was asked", policy.Recorded{Path: "/open", Rule: "open", Reason: policy.ReasonOK}, "ok", "?caller"},
		{"nobody was known", policy.Recorded{Path: "/posts/1", Rule: "read", Reason: policy.ReasonMissingCredential}, "missing_credential", "missing_credential"},
		{"no rule then", policy.Recorded{Path: "/new", Reason: policy.ReasonNoRule}, "no_rule", "ok"},
		{"no rule now", policy.Recorded{Path: "/gone", Rule: "gone", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"viewer"}}, "ok", "no_rule"},
		{"a condition that the log can answer", policy.Recorded{Path: "/users/bob", Rule: "own", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"editor"}}, "ok", "condition_false"},
		{"the same, their own", policy.Recorded{Path: "/users/%61nn", Rule: "own", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"editor"}}, "ok", "ok"},
		{"a condition that it cannot", policy.Recorded{Path: "/asked", Rule: "asked", Reason: policy.ReasonOK, Principal: ann, Roles: []string{"viewer"}}, "ok", "?when"},
		{"nor need", policy.Recorded{Path: "/asked", Rule: "asked", Reason: policy.ReasonMissingPermission, Principal: ann}, "missing_permission", "missing_permission"},
		{"a condition that both have", policy.Recorded{Path: "/desk", Rule: "desk", Reason: policy.ReasonConditionFalse, Principal: ann, Roles: []string{"viewer"}}, "condition_false", "condition_false"},
		{"another tenant, whose roles nobody looked up", policy.Recorded{Path: "/acme", Rule: "acme", Reason: policy.ReasonWrongTenant, Principal: ann}, "wrong_tenant", "?roles"},
		{"a tenant that nobody admitted", policy.Recorded{Path: "/acme", Rule: "acme", Reason: policy.ReasonWrongTenant, Principal: policy.Principal{Tenant: "acme", Kind: policy.KindUser, ID: "a"}}, "wrong_tenant", "wrong_tenant"},
		{"no tenant of the rule", policy.Recorded{Path: "/posts/1", Rule: "read", Reason: policy.ReasonWrongTenant, Principal: eve}, "wrong_tenant", "wrong_tenant"},
		{"an unsafe path", policy.Recorded{Path: "/posts/../1", Reason: policy.ReasonAmbiguousRequest}, "ambiguous_request", "ambiguous_request"},
		{"a line that was cut", policy.Recorded{Path: "/posts/1", Rule: "read", Reason: policy.ReasonOK, Principal: ann, Truncated: true}, "?text", "?text"},
	} {
		word := func(r policy.Replayed) string {
			if r.Unknown != "" {
				return "?" + string(r.Unknown)
			}
			return r.Reason.String()
		}
		try.rec.Method, try.rec.PolicyDigest, try.rec.Now = "GET", old.Digest(), 1
		if before, after := policy.Replay(&try.rec, old, draft, roles); word(before) != try.before || word(after) != try.after {
			t.Errorf("%s: from %s to %s, want %s to %s", try.name, word(before), word(after), try.before, try.after)
		}
	}
	// A record of another policy says nothing of what old's condition gave.
	rec := policy.Recorded{Method: "GET", Path: "/desk", Rule: "desk", Reason: policy.ReasonConditionFalse, Principal: ann, Roles: []string{"viewer"}, PolicyDigest: "another"}
	if before, after := policy.Replay(&rec, old, draft, roles); before.Unknown != policy.UnknownWhen || after.Unknown != policy.UnknownWhen {
		t.Errorf("from %+v to %+v", before, after)
	}
}

// Whom a certificate proves is the policy's to say, so a draft may change it.
func TestReplayOfCertificates(t *testing.T) {
	roles, err := policy.ReadRoles([]byte("roles:\n  viewer: {permissions: [view]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	const cart, till = "spiffe://example.org/cart", "spiffe://example.org/till"
	old := mustCompile(t, policyOf("name: stock, path: /stock, require: view, mtls: true", "name: me, path: /me, allow: authenticated", "name: shut, path: /shut, require: view")+
		"workloads: [{spiffe: '"+cart+"', id: cart}]\n")
	rules := policyOf("name: stock, path: /stock, require: view, mtls: true", "name: me, path: /me, allow: authenticated, mtls: true", "name: shut, path: /shut, require: view, mtls: true")
	same := mustCompile(t, rules+"workloads: [{spiffe: '"+cart+"', id: cart}]\n")
	renamed := mustCompile(t, rules+"workloads: [{spiffe: '"+cart+"', id: basket}]\n")
	dropped := mustCompile(t, rules+"workloads: [{spiffe: '"+till+"', id: cart}]\n")
	served := policy.Recorded{Path: "/stock", Rule: "stock", Reason: policy.ReasonOK, Roles: []string{"viewer"}, Certificate: cart,
		Principal: policy.Principal{Tenant: "default", Kind: policy.KindWorkload, ID: "cart"}}
	nobody := func(path, certificate string) policy.Recorded {
		return policy.Recorded{Path: path, Rule: path[1:], Reason: policy.ReasonMissingCredential, Certificate: certificate}
	}
	for _, try := range []struct {
		name  string
		rec   policy.Recorded
		draft *policy.Policy
		want  policy.Replayed
	}{
		{"the same workload", served, same, policy.Replayed{Reason: policy.ReasonOK}},
		{"one that the draft calls otherwise", served, renamed, policy.Replayed{Unknown: policy.UnknownRoles}},
		{"one that the draft does not know", served, dropped, policy.Replayed{Reason: policy.ReasonMissingCredential}},
		{"a rule that takes certificates now", nobody("/me", cart), same, policy.Replayed{Reason: policy.ReasonOK}},
		{"the same, and it asks for a role", nobody("/shut", cart), same, policy.Replayed{Unknown: policy.UnknownRoles}},
		{"an unknown certificate there", nobody("/me", till), same, policy.Replayed{Reason: policy.ReasonMissingCredential}},
		{"none", nobody("/me", ""), same, policy.Replayed{Reason: policy.ReasonMissingCredential}},
	} {
		try.rec.Method, try.rec.PolicyDigest, try.rec.Now = "GET", old.Digest(), 1
		before, after := policy.Replay(&try.rec, old, try.draft, roles)
		if before.Reason != try.rec.Reason || before.Unknown != "" {
			t.Errorf("%s: before it is %s %s", try.name, before.Reason, before.Unknown)
		}
		if after.Unknown != try.want.Unknown || after.Unknown == "" && after.Reason != try.want.Reason {
			t.Errorf("%s: it becomes %s %s, want %s %s", try.name, after.Reason, after.Unknown, try.want.Reason, try.want.Unknown)
		}
	}
}

// Whose tokens an outside issuer's are is the policy's to say as well.
func TestReplayOfIssuers(t *testing.T) {
	rules := policyOf("name: me, path: /me, allow: authenticated", "name: open, path: /open, allow: anonymous")
	issuer := func(more string) string {
		return rules + "issuers: [{issuer: 'https://id.example.com', jwks_url: 'https://id.example.com/keys', audiences: [blog], algorithms: [RS256], tenant: default" + more + "}]\n"
	}
	old := mustCompile(t, issuer(""))
	record := func(path, issuer string) policy.Recorded {
		return policy.Recorded{Method: "GET", Path: path, Rule: path[1:], Reason: policy.ReasonOK, Issuer: issuer, PolicyDigest: old.Digest(), Now: 1,
			Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}}
	}
	for _, try := range []struct {
		name, path, issuer, draft, want string
	}{
		{"the same entry, on another line", "/me", "https://id.example.com", "\n\n" + issuer(""), "ok"},
		{"an entry that changed", "/me", "https://id.example.com", issuer(", subject_prefix: 'id:'"), "?caller"},
		{"an issuer that the draft lacks", "/me", "https://id.example.com", rules, "invalid_token"},
		{"where nobody is asked", "/open", "https://id.example.com", rules, "ok"},
		{"a token of our own", "/me", "portcullis", rules, "ok"},
		{"no token", "/me", "", rules, "ok"},
	} {
		rec := record(try.path, try.issuer)
		before, after := policy.Replay(&rec, old, mustCompile(t, try.draft), nil)
		got := after.Reason.String()
		if after.Unknown != "" {
			got = "?" + string(after.Unknown)
		}
		if before.Reason != policy.ReasonOK || got != try.want {
			t.Errorf("%s: from %s to %s, want %s", try.name, before.Reason, got, try.want)
		}
	}
}

func TestReadRoles(t *testing.T) {
	for src, want := range map[string]string{
		"roles:\n  a: {permissions: ['x y']}": `line 2: role "a": permissions: "x y" is not a permission name: 1 to 128 letters, digits and _ . : / -`,
		"rolls: {}":                           `line 1: roles file: unknown key "rolls"; did you mean "roles"?`,
		"{}":                                  "line 1: roles file: roles is missing",
	} {
		if roles, err := policy.ReadRoles([]byte(src)); roles != nil || err == nil || err.Error()[:len(want)] != want {
			t.Errorf("%s: %v", src, err)
		}
	}
}
