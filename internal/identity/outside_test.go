package identity

import (
	"reflect"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

func TestOutsideAlgorithms(t *testing.T) {
	v, _, _ := newVerifiers(t, nil, newProvider(t, allKeys()...).entry())
	for alg, key := range map[string][2]string{
		"RS256": {"rsa", "r"}, "RS384": {"rsa", "r"}, "RS512": {"rsa", "r"}, "PS256": {"rsa", "r"}, "PS384": {"rsa", "r"}, "PS512": {"rsa", "r"},
		"ES256": {"p256", "e"}, "ES384": {"p384", "e384"}, "ES512": {"p521", "e521"}, "EdDSA": {"ed", "d"},
	} {
		token := outsideSigned(jwt.GetSigningMethod(alg), key[0], withKid(alg, key[1]), outsideObject())
		got := mustAccept(t, v, token)
		if want := (policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}); got.Principal != want {
			t.Errorf("%s: %v", alg, got.Principal)
		}
		if got.KeyID != key[1] || got.Issuer != "https://id.example.com" {
			t.Errorf("%s: %+v", alg, got)
		}
	}
}

func TestOutsideClaims(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	pinned := func(*policy.Issuer) {}
	claimed := func(i *policy.Issuer) { i.Tenant, i.TenantClaim, i.Tenants = "", "org", []string{"acme", "globex"} }
	prefixed := func(i *policy.Issuer) { i.SubjectPrefix, i.SubjectClaim = "id|", "oid" }
	roles := func(i *policy.Issuer) { i.RolesClaim = []string{"realm_access", "roles"} }
	mapped := func(i *policy.Issuer) {
		i.RolesClaim, i.RolesMap = []string{"groups"}, map[string]string{"Editors": "editor", "Staff": "viewer"}
	}
	skipped := func(i *policy.Issuer) { i.Audiences, i.SkipAudience = nil, true }
	access := func(roles any) map[string]any { return map[string]any{"roles": roles} }
	hour := noon.Add(time.Hour).Unix()
	for name, try := range map[string]struct {
		entry  func(*policy.Issuer)
		claims []any
		tenant string
		id     string
		roles  []string
		detail string
	}{
		"plain":                      {entry: pinned},
		"a usual subject":            {entry: pinned, claims: []any{"sub", "auth0|65f0"}, id: "auth0|65f0"},
		"another audience":           {entry: pinned, claims: []any{"aud", []string{"x", "shop"}}},
		"the pinned tenant said":     {entry: pinned, claims: []any{"tenant", "default"}},
		"kind is nothing to us":      {entry: pinned, claims: []any{"kind", "workload"}},
		"kind of any type":           {entry: pinned, claims: []any{"kind", 7}},
		"Keycloak's payload typ":     {entry: pinned, claims: []any{"typ", "Bearer"}},
		"another tenant said":        {entry: pinned, claims: []any{"tenant", "acme"}, detail: "not the one that the policy pins"},
		"a tenant claimed":           {entry: claimed, claims: []any{"org", "acme"}, tenant: "acme"},
		"another tenant claimed":     {entry: claimed, claims: []any{"org", "default"}, detail: "may not claim"},
		"a claimed one in capitals":  {entry: claimed, claims: []any{"org", "ACME"}, detail: "may not claim"},
		"no tenant claimed":          {entry: claimed, detail: "`org`, which names the tenant, is missing"},
		"a list of tenants":          {entry: claimed, claims: []any{"org", []string{"acme"}}, detail: "`org` has a wrong type"},
		"our claim for another's":    {entry: claimed, claims: []any{"tenant", "acme"}, detail: "is missing"},
		"a prefix":                   {entry: prefixed, claims: []any{"oid", "7"}, id: "id|7"},
		"a prefix before nothing":    {entry: prefixed, claims: []any{"oid", ""}, detail: "`oid`"},
		"the usual claim instead":    {entry: prefixed, detail: "`oid`, which names the user, is missing"},
		"roles":                      {entry: roles, claims: []any{"realm_access", access([]string{"viewer", "editor", "viewer"})}, roles: []string{"editor", "viewer"}},
		"roles as text":              {entry: roles, claims: []any{"realm_access", access("viewer editor")}, roles: []string{"editor", "viewer"}},
		"no roles":                   {entry: roles},
		"roles of nothing":           {entry: roles, claims: []any{"realm_access", access(nil)}},
		"a path that ends early":     {entry: roles, claims: []any{"realm_access", map[string]any{}}},
		"a path through text":        {entry: roles, claims: []any{"realm_access", "x"}, detail: "`realm_access` has a wrong type"},
		"roles of numbers":           {entry: roles, claims: []any{"realm_access", access([]int{1})}, detail: "`realm_access`"},
		"roles mapped":               {entry: mapped, claims: []any{"groups", []string{"Staff", "Editors", "admin", "editor"}}, roles: []string{"editor", "viewer"}},
		"roles nobody asked for":     {entry: pinned, claims: []any{"roles", []string{"admin"}}},
		"audience skipped":           {entry: skipped, claims: []any{"aud", "anything"}},
		"audience skipped, none":     {entry: skipped, claims: []any{"aud", nil}},
		"a day long":                 {entry: pinned, claims: []any{"iat", hour - 86400, "exp", hour}},
		"longer than a day":          {entry: pinned, claims: []any{"iat", hour - 86401, "exp", hour}, detail: "max_token_age"},
		"a day long, no iat":         {entry: pinned, claims: []any{"iat", nil, "exp", noon.Unix() + 86400}},
		"longer than a day, no iat":  {entry: pinned, claims: []any{"iat", nil, "exp", noon.Unix() + 86401}, detail: "max_token_age"},
		"an hour was enough":         {entry: func(i *policy.Issuer) { i.MaxTokenAge = time.Hour }, claims: []any{"exp", noon.Unix() + 3601}, detail: "max_token_age"},
		"subject of 255 with prefix": {entry: prefixed, claims: []any{"oid", string(make255()[3:])}, id: "id|" + string(make255()[3:])},
		"subject of 256 with prefix": {entry: prefixed, claims: []any{"oid", string(make255()[2:])}, detail: "`oid`"},
	} {
		t.Run(name, func(t *testing.T) {
			v, _, _ := newVerifiers(t, nil, p.entry(try.entry))
			token := outsideToken(try.claims...)
			if try.detail != "" {
				mustRefuse(t, v, token, policy.ReasonInvalidToken, try.detail)
				return
			}
			got := mustAccept(t, v, token)
			want := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}
			if try.tenant != "" {
				want.Tenant = try.tenant
			}
			if try.id != "" {
				want.ID = try.id
			}
			if got.Principal != want || !reflect.DeepEqual(got.Roles, try.roles) {
				t.Errorf("got %v with roles %q, want %v with %q", got.Principal, got.Roles, want, try.roles)
			}
		})
	}
}

func make255() []byte {
	b := make([]byte, 255)
	for i := range b {
		b[i] = 'a'
	}
	return b
}

// The unverified `iss` picks one verifier, and the other is never asked.
func TestExactlyOneVerifier(t *testing.T) {
	p := newProvider(t, allKeys()...)
	v, _, _ := newVerifiers(t, nil, p.entry())
	ours := signed(goodHeader, object(nil))
	mustAccept(t, v, ours)
	if p.fetches.Load() != 0 {
		t.Error("a token of our own caused a fetch")
	}
	mustRefuse(t, v, signed(goodHeader, outsideObject()), policy.ReasonInvalidToken, "`alg`") // our secret, their name
	mustRefuse(t, v, outsideToken("iss", "gate"), policy.ReasonInvalidToken, "`alg`")         // their key, our name
	mustRefuse(t, v, outsideToken("iss", "https://id.example.com/"), policy.ReasonInvalidToken, "`alg`")
	mustRefuse(t, v, outsideToken("iss", nil), policy.ReasonInvalidToken, "`alg`")

	if err := v.Check([]policy.Issuer{p.entry(func(i *policy.Issuer) { i.Name = "gate" })}); err == nil {
		t.Error("an issuer that is our own was taken")
	}
	if err := v.Check([]policy.Issuer{p.entry(func(i *policy.Issuer) { i.CAFile = "nowhere.pem" })}); err == nil {
		t.Error("a CA file that is not there was taken")
	}
}

// A name that the policy gives to an outside issuer takes our own tokens of that
// name with it, those in a cache too.
func TestNameIsGivenAway(t *testing.T) {
	p := newProvider(t, allKeys()...)
	own := newVerifier(t, VerifierConfig{})
	v, err := NewVerifiers(VerifiersConfig{Own: own, Now: newClock().now})
	if err != nil {
		t.Fatal(err)
	}
	ours := signed(goodHeader, outsideObject())
	kept := mustAccept(t, v, ours)
	if !v.Current(kept) {
		t.Fatal("not current")
	}
	v.Apply([]policy.Issuer{p.entry()})
	if v.Current(kept) {
		t.Error("our own token of a name that is no longer ours is still current")
	}
	mustRefuse(t, v, ours, policy.ReasonInvalidToken, "`alg`")
}
