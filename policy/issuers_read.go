package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// issuerKeys are the keys of one issuer, in the order in which messages list them.
var issuerKeys = []string{
	"issuer", "jwks_url", "discovery", "audiences", "insecure_skip_audience", "algorithms", "tenant", "tenant_claim", "tenants",
	"subject_claim", "subject_prefix", "roles_claim", "roles_map", "max_token_age", "insecure_http", "ca_file",
}

// issuerAlgorithms are those that an outside issuer's tokens may be signed with.
// HMAC is not among them: whoever verifies with a shared secret could sign with it.
var issuerAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Bounds of the issuers section.
const (
	maxIssuers         = 64 // each is a label of metrics
	maxIssuerURL       = 1024
	maxSubjectPrefix   = 64
	maxRolesMap        = 256
	defaultMaxTokenAge = 24 * time.Hour
	longestTokenAge    = 366 * 24 * time.Hour
)

// readIssuers reads the issuers section.
func (y *yamlReader) readIssuers(at *yaml.Node) []Issuer {
	if at == nil || !y.isKind(at, yaml.SequenceNode, "issuers", "a list") {
		return nil
	}
	if len(at.Content) > maxIssuers {
		y.fail(at, "issuers: %d of them, more than %d", len(at.Content), maxIssuers)
		return nil
	}
	var list []Issuer
	for n, item := range at.Content {
		what := fmt.Sprintf("issuer #%d", n+1)
		if issuer, ok := y.readIssuer(item, what); ok {
			y.issuerBeside(item, list, issuer)
			list = append(list, *issuer)
		}
	}
	return list
}

// issuerBeside holds an issuer against those before it.
func (y *yamlReader) issuerBeside(at *yaml.Node, before []Issuer, issuer *Issuer) {
	for i := range before {
		other := &before[i]
		if other.Name == issuer.Name && issuer.Name != "" {
			y.fail(at, "issuer %q: the issuer on line %d has this name already; a token's iss picks exactly one entry", shorten(issuer.Name), other.Line)
			continue
		}
		tenant := issuer.sharedTenant(other)
		if tenant == "" {
			continue
		}
		a, b := other.SubjectPrefix, issuer.SubjectPrefix
		if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
			y.fail(at, "issuer %q: it shares tenant %q with the issuer on line %d, and a subject of one could be a user of the other; "+
				"give each a subject_prefix, neither of which begins with the other", shorten(issuer.Name), tenant, other.Line)
		}
	}
}

func (y *yamlReader) readIssuer(at *yaml.Node, what string) (*Issuer, bool) {
	f, ok := y.mapping(at, what, issuerKeys...)
	if !ok {
		return nil, false
	}
	i := &Issuer{Line: at.Line, SubjectClaim: "sub", MaxTokenAge: defaultMaxTokenAge}
	if name := f["issuer"]; name == nil {
		y.fail(at, "%s: issuer is missing; it is the exact iss of its tokens", what)
	} else if text, ok := y.word(name, what+": issuer"); ok {
		if len(text) > maxIssuerURL || !visible(text) {
			y.fail(name, "%s: issuer: not 1 to %d visible ASCII characters", what, maxIssuerURL)
		} else {
			i.Name = text
			what = fmt.Sprintf("issuer %q", shorten(text))
		}
	}
	if flag := f["insecure_http"]; flag != nil {
		i.InsecureHTTP = y.boolean(flag, what+": insecure_http")
	}
	if file := f["ca_file"]; file != nil {
		if i.CAFile, ok = y.word(file, what+": ca_file"); ok && i.CAFile == "" {
			y.fail(file, "%s: ca_file is empty; name a PEM file, or leave it out", what)
		}
	}
	y.readIssuerKeys(i, at, f, what)
	y.readIssuerTokens(i, at, f, what)
	y.readIssuerTenants(i, at, f, what)
	y.readIssuerClaims(i, f, what)
	return i, true
}

// readIssuerKeys reads where the keys are.
func (y *yamlReader) readIssuerKeys(i *Issuer, at *yaml.Node, f fields, what string) {
	if flag := f["discovery"]; flag != nil {
		i.Discovery = y.boolean(flag, what+": discovery")
	}
	link := f["jwks_url"]
	switch {
	case link != nil && i.Discovery:
		y.fail(link, "%s: jwks_url and discovery: true exclude each other", what)
	case link == nil && !i.Discovery:
		y.fail(at, "%s: neither jwks_url nor discovery: true; say where its keys are", what)
	case link != nil:
		if text, ok := y.word(link, what+": jwks_url"); ok {
			i.JWKSURL = text
			if wrong := CheckIssuerURL(text, i.InsecureHTTP); wrong != "" {
				y.fail(link, "%s: jwks_url: %s", what, wrong)
			}
		}
	case i.Name != "":
		if wrong := CheckIssuerURL(i.Name, i.InsecureHTTP); wrong != "" {
			y.fail(f["issuer"], "%s: discovery needs a URL as issuer: %s", what, wrong)
		} else if strings.Contains(i.Name, "?") {
			y.fail(f["issuer"], "%s: discovery needs an issuer without a query", what)
		}
	}
}

// CheckIssuerURL says what is wrong with a URL of an issuer, or "". It must be
// https; http is for the loopback, and for other hosts where insecure is true.
func CheckIssuerURL(text string, insecure bool) string {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxIssuerURL || err != nil || u.Host == "" || u.Hostname() == "" || !visible(text):
		return fmt.Sprintf("%q is not a URL such as https://id.example.com/keys", shorten(text))
	case u.User != nil:
		return "a URL with a user name would put a secret into this file"
	case strings.Contains(text, "#"):
		return "a fragment is not sent to the server; leave it out"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return fmt.Sprintf("%q is neither https nor http", shorten(text))
	case insecure || loopback(u.Hostname()):
		return ""
	}
	return fmt.Sprintf("%q is not https: whoever answers it makes tokens; insecure_http: true takes it all the same", shorten(text))
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// readIssuerTokens reads what its tokens must be.
func (y *yamlReader) readIssuerTokens(i *Issuer, at *yaml.Node, f fields, what string) {
	if flag := f["insecure_skip_audience"]; flag != nil {
		i.SkipAudience = y.boolean(flag, what+": insecure_skip_audience")
	}
	switch audiences := f["audiences"]; {
	case audiences != nil && i.SkipAudience:
		y.fail(audiences, "%s: audiences and insecure_skip_audience: true exclude each other", what)
	case audiences != nil:
		i.Audiences, _ = y.words(audiences, what+": audiences", func(text string) string {
			if text == "" || len(text) > maxIssuerURL {
				return fmt.Sprintf("%q is no audience", shorten(text))
			}
			return ""
		})
	case !i.SkipAudience:
		y.fail(at, "%s: audiences is missing; without it a token that was made for any other service would pass (insecure_skip_audience: true lets it)", what)
	}
	if algorithms := f["algorithms"]; algorithms == nil {
		y.fail(at, "%s: algorithms is missing; list those that it signs with, such as [RS256]", what)
	} else {
		i.Algorithms, _ = y.words(algorithms, what+": algorithms", func(text string) string {
			if slices.Contains(issuerAlgorithms, text) {
				return ""
			}
			if strings.HasPrefix(strings.ToUpper(text), "HS") {
				return fmt.Sprintf("%q takes a shared secret; an outside issuer's tokens are verified by public keys", shorten(text))
			}
			return fmt.Sprintf("%q is none of %s", shorten(text), strings.Join(issuerAlgorithms, ", "))
		})
	}
	if age := f["max_token_age"]; age != nil {
		text, ok := y.word(age, what+": max_token_age")
		if !ok {
			return
		}
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 || d > longestTokenAge {
			y.fail(age, "%s: max_token_age: %q; write a duration such as 15m or 24h, at most %dh", what, shorten(text), int(longestTokenAge.Hours()))
			return
		}
		i.MaxTokenAge = d
	}
}

// readIssuerTenants reads whose users they are.
func (y *yamlReader) readIssuerTenants(i *Issuer, at *yaml.Node, f fields, what string) {
	tenant, claim, tenants := f["tenant"], f["tenant_claim"], f["tenants"]
	switch {
	case tenant != nil && (claim != nil || tenants != nil):
		y.fail(tenant, "%s: tenant pins one; tenant_claim and tenants let the token choose; they exclude each other", what)
		return
	case tenant == nil && claim == nil && tenants == nil:
		y.fail(at, "%s: tenant is missing; write tenant: NAME, or tenant_claim: CLAIM with tenants: [...]", what)
		return
	case tenant == nil && claim == nil:
		y.fail(tenants, "%s: tenants without tenant_claim: which claim names the tenant?", what)
		return
	case tenant == nil && tenants == nil:
		y.fail(claim, "%s: tenant_claim without tenants: list those that its tokens may claim", what)
		return
	case tenant != nil:
		if text, ok := y.word(tenant, what+": tenant"); ok {
			if wrong := checkTenant(text); wrong != "" {
				y.fail(tenant, "%s: tenant: %s", what, wrong)
				return
			}
			i.Tenant = text
		}
		return
	}
	i.TenantClaim = y.claim(claim, what+": tenant_claim")
	i.Tenants, _ = y.words(tenants, what+": tenants", checkTenant)
}

// readIssuerClaims reads how a token names the user and the roles.
func (y *yamlReader) readIssuerClaims(i *Issuer, f fields, what string) {
	if claim := f["subject_claim"]; claim != nil {
		i.SubjectClaim = y.claim(claim, what+": subject_claim")
	}
	if prefix := f["subject_prefix"]; prefix != nil {
		if text, ok := y.word(prefix, what+": subject_prefix"); ok {
			if len(text) > maxSubjectPrefix || !visible(text) {
				y.fail(prefix, "%s: subject_prefix: not 1 to %d visible ASCII characters", what, maxSubjectPrefix)
			} else {
				i.SubjectPrefix = text
			}
		}
	}
	if claim := f["roles_claim"]; claim != nil {
		text := y.claim(claim, what+": roles_claim")
		switch {
		case strings.Contains(text, "/"):
			// Claims that are named by a URL have dots in them.
			i.RolesClaim = []string{text}
		case text != "":
			i.RolesClaim = strings.Split(text, ".")
			if slices.Contains(i.RolesClaim, "") {
				y.fail(claim, "%s: roles_claim: %q has an empty part", what, shorten(text))
			}
		}
	}
	y.readRolesMap(i, f, what)
}

func (y *yamlReader) readRolesMap(i *Issuer, f fields, what string) {
	at := f["roles_map"]
	if at == nil {
		return
	}
	if f["roles_claim"] == nil {
		y.fail(at, "%s: roles_map without roles_claim: which claim lists the roles?", what)
	}
	names, ok := y.mapping(at, what+": roles_map")
	if !ok {
		return
	}
	if len(names) == 0 || len(names) > maxRolesMap {
		y.fail(at, "%s: roles_map: %d names; want 1 to %d, or leave it out", what, len(names), maxRolesMap)
		return
	}
	i.RolesMap = make(map[string]string, len(names))
	for _, theirs := range slices.Sorted(maps.Keys(names)) {
		ours, ok := y.word(names[theirs], what+": roles_map")
		switch {
		case !ok:
		case theirs == "" || ours == "":
			y.fail(names[theirs], "%s: roles_map: a name is empty", what)
		default:
			i.RolesMap[theirs] = ours
		}
	}
}

// claim reads the name of a claim.
func (y *yamlReader) claim(at *yaml.Node, what string) string {
	text, ok := y.word(at, what)
	if ok && (len(text) > 256 || !visible(text)) {
		y.fail(at, "%s: not 1 to 256 visible ASCII characters", what)
		return ""
	}
	return text
}

// visible reports whether a text is of visible ASCII characters, one at least.
func visible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f {
			return false
		}
	}
	return text != ""
}
