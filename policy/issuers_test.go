package policy_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"portcullis/policy"
)

const goodIssuer = "issuer: https://id.example.com, jwks_url: https://id.example.com/keys, audiences: [blog], algorithms: [RS256], tenant: default"

func issuersFile(entries ...string) string {
	text := "version: 1\nissuers:\n"
	for _, e := range entries {
		text += "  - {" + e + "}\n"
	}
	return text + "rules: []\n"
}

func TestIssuers(t *testing.T) {
	p := mustCompile(t, issuersFile(goodIssuer,
		"issuer: 'https://login.example.com/x', discovery: true, insecure_skip_audience: true, algorithms: [ES256, EdDSA], tenant_claim: org, tenants: [acme, globex], "+
			"subject_claim: oid, subject_prefix: 'x|', roles_claim: realm_access.roles, roles_map: {their-name: our-role}, max_token_age: 90m, ca_file: /etc/ca.pem",
		"issuer: plain, jwks_url: http://10.0.0.1/keys, insecure_http: true, audiences: [blog, shop], algorithms: [PS512], tenant: third, roles_claim: https://example.com/roles",
	))
	want := []policy.Issuer{
		{Line: 3, Name: "https://id.example.com", JWKSURL: "https://id.example.com/keys", Audiences: []string{"blog"}, Algorithms: []string{"RS256"},
			Tenant: "default", SubjectClaim: "sub", MaxTokenAge: 24 * time.Hour},
		{Line: 4, Name: "https://login.example.com/x", Discovery: true, SkipAudience: true, Algorithms: []string{"ES256", "EdDSA"},
			TenantClaim: "org", Tenants: []string{"acme", "globex"}, SubjectClaim: "oid", SubjectPrefix: "x|",
			RolesClaim: []string{"realm_access", "roles"}, RolesMap: map[string]string{"their-name": "our-role"}, MaxTokenAge: 90 * time.Minute, CAFile: "/etc/ca.pem"},
		{Line: 5, Name: "plain", JWKSURL: "http://10.0.0.1/keys", InsecureHTTP: true, Audiences: []string{"blog", "shop"}, Algorithms: []string{"PS512"},
			Tenant: "third", SubjectClaim: "sub", RolesClaim: []string{"https://example.com/roles"}, MaxTokenAge: 24 * time.Hour},
	}
	if got := p.Issuers(); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if got := policy.Empty().Issuers(); got != nil {
		t.Errorf("the empty policy has issuers: %v", got)
	}
	// http needs no leave where it does not leave the machine.
	for _, host := range []string{"127.0.0.1:80", "[::1]:80", "localhost", "127.9.9.9"} {
		mustCompile(t, issuersFile(strings.Replace(goodIssuer, "https://id.example.com/keys", "'http://"+host+"/keys'", 1)))
	}
	// Two issuers of one tenant, kept apart; and without one in common.
	mustCompile(t, issuersFile(goodIssuer+", subject_prefix: a-", strings.ReplaceAll(goodIssuer, "id.", "id2.")+", subject_prefix: b-"))
	mustCompile(t, issuersFile(goodIssuer, strings.ReplaceAll(goodIssuer, "id.", "id2.")[:len(goodIssuer)+2-len("default")]+"acme"))
}

func TestIssuerErrors(t *testing.T) {
	with := func(old, new string) string {
		if !strings.Contains(goodIssuer, old) {
			t.Fatalf("no %q", old)
		}
		return issuersFile(strings.Replace(goodIssuer, old, new, 1))
	}
	plus := func(more string) string { return issuersFile(goodIssuer + ", " + more) }
	second := strings.ReplaceAll(goodIssuer, "id.", "id2.")
	for name, try := range map[string]struct{ src, want string }{
		"no list":              {"version: 1\nissuers: {}\nrules: []", "issuers: a mapping where a list is due"},
		"unknown key":          {plus("audience: x"), `line 3: issuer #1: unknown key "audience"; did you mean "audiences"?`},
		"no issuer":            {with("issuer: https://id.example.com, ", ""), "issuer #1: issuer is missing"},
		"issuer empty":         {with("issuer: https://id.example.com", "issuer: ''"), "issuer: not 1 to 1024 visible"},
		"issuer with a space":  {with("issuer: https://id.example.com", "issuer: 'a b'"), "issuer: not 1 to 1024 visible"},
		"no keys":              {with("jwks_url: https://id.example.com/keys, ", ""), "neither jwks_url nor discovery: true"},
		"discovery false":      {with("jwks_url: https://id.example.com/keys", "discovery: false"), "neither jwks_url nor discovery: true"},
		"both ways to keys":    {plus("discovery: true"), "jwks_url and discovery: true exclude each other"},
		"http":                 {with("https://id.example.com/keys", "http://id.example.com/keys"), "is not https: whoever answers it makes tokens"},
		"http of a lookalike":  {with("https://id.example.com/keys", "http://localhost.example.com/keys"), "is not https"},
		"ftp":                  {with("https://id.example.com/keys", "ftp://id.example.com/keys"), "neither https nor http"},
		"a file":               {with("https://id.example.com/keys", "file:///etc/keys"), "is not a URL such as"},
		"a bare path":          {with("https://id.example.com/keys", "keys.json"), "is not a URL such as"},
		"a password in a URL":  {with("https://id.example.com/keys", "'https://u:p@id.example.com/keys'"), "a URL with a user name"},
		"a fragment":           {with("https://id.example.com/keys", "'https://id.example.com/keys#a'"), "a fragment is not sent"},
		"discovery of a word":  {with("issuer: https://id.example.com, jwks_url: https://id.example.com/keys", "issuer: accounts, discovery: true"), "discovery needs a URL as issuer"},
		"discovery over http":  {with("issuer: https://id.example.com, jwks_url: https://id.example.com/keys", "issuer: http://id.example.com, discovery: true"), "is not https"},
		"discovery of a query": {with("issuer: https://id.example.com, jwks_url: https://id.example.com/keys", "issuer: 'https://id.example.com?a=b', discovery: true"), "an issuer without a query"},
		"no audience":          {with("audiences: [blog], ", ""), "audiences is missing; without it a token that was made for any other service would pass"},
		"audience empty":       {with("[blog]", "['']"), "is no audience"},
		"audiences empty":      {with("[blog]", "[]"), "audiences: the list is empty"},
		"audience and skipped": {plus("insecure_skip_audience: true"), "audiences and insecure_skip_audience: true exclude each other"},
		"no algorithms":        {with("algorithms: [RS256], ", ""), "algorithms is missing"},
		"algorithm HS256":      {with("RS256", "HS256"), `"HS256" takes a shared secret`},
		"algorithm none":       {with("RS256", "none"), `"none" is none of RS256`},
		"algorithm ES256K":     {with("RS256", "ES256K"), `"ES256K" is none of`},
		"algorithm rs256":      {with("RS256", "rs256"), `"rs256" is none of`},
		"no tenant":            {with(", tenant: default", ""), "tenant is missing; write tenant: NAME, or tenant_claim: CLAIM with tenants: [...]"},
		"tenant and claim":     {plus("tenant_claim: org"), "they exclude each other"},
		"tenant and tenants":   {plus("tenants: [acme]"), "they exclude each other"},
		"claim alone":          {with("tenant: default", "tenant_claim: org"), "tenant_claim without tenants"},
		"tenants alone":        {with("tenant: default", "tenants: [acme]"), "tenants without tenant_claim"},
		"tenant with a slash":  {with("tenant: default", "tenant: a/b"), "tenant: "},
		"subject_claim empty":  {plus("subject_claim: ''"), "subject_claim: not 1 to 256 visible"},
		"prefix with a space":  {plus("subject_prefix: 'a '"), "subject_prefix: not 1 to 64 visible"},
		"roles_claim dots":     {plus("roles_claim: a..b"), "has an empty part"},
		"roles_map alone":      {plus("roles_map: {a: b}"), "roles_map without roles_claim"},
		"roles_map empty":      {plus("roles_claim: r, roles_map: {}"), "roles_map: 0 names"},
		"roles_map to nothing": {plus("roles_claim: r, roles_map: {a: ''}"), "roles_map: a name is empty"},
		"age zero":             {plus("max_token_age: 0s"), "max_token_age: "},
		"age a number":         {plus("max_token_age: 24"), "put it in quotes"},
		"age of years":         {plus("max_token_age: 99999h"), "at most 8784h"},
		"ca_file empty":        {plus("ca_file: ''"), "ca_file is empty"},
		"insecure_http a word": {plus("insecure_http: yes please"), "true or false"},
		"one name twice":       {issuersFile(goodIssuer, goodIssuer), "line 4: issuer \"https://id.example.com\": the issuer on line 3 has this name already"},
		"one tenant twice":     {issuersFile(goodIssuer, second), `it shares tenant "default" with the issuer on line 3`},
		"one prefix":           {issuersFile(goodIssuer, second+", subject_prefix: b-"), "it shares tenant"},
		"a prefix of a prefix": {issuersFile(goodIssuer+", subject_prefix: a", second+", subject_prefix: a-"), "it shares tenant"},
		"a tenant in common": {issuersFile(goodIssuer, strings.Replace(second, "tenant: default", "tenant_claim: org, tenants: [acme, default]", 1)),
			`it shares tenant "default"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Compile([]byte(try.src))
			var wrong *policy.CompileError
			if !errors.As(err, &wrong) {
				t.Fatalf("compiled:\n%s", try.src)
			}
			if !strings.Contains(err.Error(), try.want) {
				t.Errorf("got\n%v\nwant\n%s", err, try.want)
			}
			for _, p := range wrong.Problems {
				if p.Line == 0 {
					t.Errorf("no line: %s", p)
				}
			}
		})
	}
	// One run names every problem.
	_, err := policy.Compile([]byte(issuersFile("issuer: a, algorithms: [HS256]", "tenant: 'a b'")))
	if n := strings.Count(err.Error(), "\n"); n < 6 {
		t.Errorf("%d problems:\n%v", n+1, err)
	}
}
