package admin_test

import (
	"net/url"
	"regexp"
	"strings"

	"portcullis/internal/identity"
)

// attack says how a route is attacked: with whose key, and which parameters of its
// query, members of its JSON body or parameters of its form hold hostile values in
// turn, while the others are as they should be.
type attack struct {
	caller string
	query  []string
	// takes says which values of a parameter of the query the contract takes at
	// their word; without it none of the hostile ones.
	takes map[string]func(value string) bool
	json  map[string]member
	empty bool // no body and {} are admitted
	forms []formAttack
}

// member is one of a JSON body's.
type member struct {
	good   string                 // a value that is admitted, in JSON; "" leaves it out
	admits func(json string) bool // which of the hostile values the contract admits; nil is none
}

// formAttack is a form that would be admitted, and which of its parameters are
// attacked. admits says which values the contract takes at their word, and
// harmless is the answer to them where there is one; without it such a value is sent
// twice, which no form may.
type formAttack struct {
	form     url.Values
	attacked []string
	admits   func(value string) bool
	harmless string
}

// names are what a route's {parameters} hold while another one is attacked.
var names = map[string]string{
	"{role}": "editor", "{group}": "editor", "{name}": "edit_content", "{user}": "alice", "{workflow}": "edit_content",
	"{key_id}": "3f0c1d6e-8a52-4d53-9d0e-6b1f2a7c9e10", "{tenant}": "globex", "{id}": "1",
}

var printable = regexp.MustCompile(`\A[ -~]+\z`)

// word admits, as a JSON string, what a token may carry as a jti or a kid.
func word(most int) func(string) bool {
	return func(json string) bool {
		text, ok := identity.ReadString([]byte(json))
		return json == "null" || ok && len(text) <= most && printable.MatchString(text)
	}
}

func visible(most int) func(string) bool {
	return func(text string) bool {
		return text != "" && len(text) <= most && printable.MatchString(text) && !strings.Contains(text, " ")
	}
}

// absent admits null, which stands for a member that is left out.
func absent(json string) bool { return json == "null" }

func subjectID(json string) bool {
	text, ok := identity.ReadString([]byte(json))
	return ok && visible(identity.MaxSubjectSize)(text)
}

func label(json string) bool {
	text, ok := identity.ReadString([]byte(json))
	return json == "null" || ok && regexp.MustCompile(`\A[a-zA-Z0-9 _.-]{1,64}\z`).MatchString(text)
}

// denial is a body of the deny-list: one member that it is about, and those that every
// body may have.
func denial(name string, about member, more ...string) map[string]member {
	body := map[string]member{
		name:         about,
		"issuer":     {admits: func(json string) bool { return json == `""` || word(1024)(json) }},
		"expires_in": {good: "60", admits: absent},
	}
	for _, name := range more {
		body[name] = member{admits: absent}
	}
	return body
}

// anAPIKey has the form of a user's API key and is nobody's.
const anAPIKey = `"rak_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"`

// What filters the audit. Whom and by whom it is asked about may be any name that a
// token may carry, which the store takes as a value.
var (
	auditFilters = []string{"action", "entity", "subject", "actor", "outcome", "since", "until", "before"}
	auditNames   = map[string]func(string) bool{
		"action": auditWord, "entity": auditWord, "subject": visible(2100), "actor": visible(2100),
	}
)

func auditWord(value string) bool {
	return regexp.MustCompile(`\A[A-Za-z_]{1,64}\z`).MatchString(value)
}

var (
	paged       = []string{"limit", "offset"}
	settled     = []string{"wait", "timeout"} // of every write
	tokenOfNone = []formAttack{{
		form: url.Values{"token": {"nobodys"}}, attacked: []string{"token"},
		admits: func(value string) bool { return value != "" && printable.MatchString(value) },
	}}
)

// attacks is every route's. One that is missing here fails the test.
var attacks = map[string]attack{
	"GET /ping":   {},
	"GET /health": {},

	"POST /api/role/{role}":   {caller: "manager", query: settled},
	"DELETE /api/role/{role}": {caller: "manager", query: settled},
	"GET /api/roles":          {caller: "manager", query: paged},

	"POST /api/permission/{group}/{name}":   {caller: "manager", query: settled},
	"DELETE /api/permission/{group}/{name}": {caller: "manager", query: settled},
	"GET /api/permission/{group}/{name}":    {caller: "manager"},

	"POST /api/membership/{user}/{group}":   {caller: "manager", query: settled},
	"DELETE /api/membership/{user}/{group}": {caller: "manager", query: settled},
	"GET /api/membership/{user}/{group}":    {caller: "manager"},

	"GET /api/has_permission/{user}/{name}":            {caller: "manager"},
	"GET /api/user_permissions/{user}":                 {caller: "manager"},
	"GET /api/role_permissions/{role}":                 {caller: "manager", query: paged},
	"GET /api/user_roles/{user}":                       {caller: "manager", query: paged},
	"GET /api/members/{role}":                          {caller: "manager", query: paged},
	"GET /api/which_roles_can/{name}":                  {caller: "manager", query: paged},
	"GET /api/which_users_can/{name}":                  {caller: "manager", query: paged},
	"GET /api/workflow/users/{workflow}":               {caller: "manager"},
	"GET /api/workflow/user/{user}/can_run/{workflow}": {caller: "manager"},
	"GET /api/settings":                                {caller: "manager"},
	"GET /api/audit":                                   {caller: "manager", query: append([]string{"limit", "offset"}, auditFilters...), takes: auditNames},
	"GET /api/audit/export":                            {caller: "manager", query: auditFilters, takes: auditNames},
	"GET /api/apikeys/user/{user}":                     {caller: "manager"},
	"DELETE /api/apikeys/user/{user}/{key_id}":         {caller: "manager", query: settled},
	"POST /api/apikeys/user/{user}":                    {caller: "manager", query: settled, empty: true, json: map[string]member{"label": {good: `"laptop"`, admits: label}}},
	"POST /api/apikeys/validate":                       {caller: "manager", json: map[string]member{"api_key": {good: anAPIKey}}},
	"POST /api/apikeys/check_permission":               {caller: "manager", json: map[string]member{"api_key": {good: anAPIKey}, "permission": {good: `"edit_content"`}}},
	"PUT /api/settings":                                {caller: "manager", query: settled, json: map[string]member{"strict_users": {good: "true", admits: func(json string) bool { return json == "true" || json == "false" }}}},
	"POST /api/keys/rotate":                            {caller: "manager", query: []string{"wait", "timeout", "overlap"}},
	"POST /api/deny/token":                             {caller: "tokens", query: settled, json: denial("jti", member{`"x"`, word(256)}, "kind", "id", "before", "kid")},
	"POST /api/deny/subject":                           {caller: "tokens", query: settled, json: denial("id", member{`"alice"`, subjectID}, "kind", "jti", "before", "kid")},
	"GET /api/deny":                                    {caller: "tokens", query: []string{"limit", "after"}},
	"DELETE /api/deny/{id}":                            {caller: "tokens", query: settled},
	"POST /api/deny/key":                               {caller: "operator", query: settled, json: denial("kid", member{`"x"`, word(256)}, "kind", "id", "before", "jti")},
	"GET /api/deny/key":                                {caller: "operator", query: []string{"limit", "after"}},
	"DELETE /api/deny/key/{id}":                        {caller: "operator", query: settled},
	"POST /api/deny/tenant/{tenant}/token":             {caller: "operator", query: settled, json: denial("jti", member{`"x"`, word(256)}, "kind", "id", "before", "kid")},
	"POST /api/deny/tenant/{tenant}/subject":           {caller: "operator", query: settled, json: denial("id", member{`"alice"`, subjectID}, "kind", "jti", "before", "kid")},
	"GET /api/deny/tenant/{tenant}":                    {caller: "operator", query: []string{"limit", "after"}},
	"DELETE /api/deny/tenant/{tenant}/{id}":            {caller: "operator", query: settled},
	"GET /.well-known/jwks.json":                       {},
	"GET /.well-known/oauth-authorization-server":      {},
	"POST /oauth/token": {caller: "tokens", query: settled, forms: []formAttack{
		{form: url.Values{"grant_type": {"client_credentials"}}, attacked: []string{"grant_type", "scope", "client_id", "client_secret"}},
		{form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"nobodys"}}, attacked: []string{"refresh_token"}},
		{form: exchangeForm("alice"), attacked: []string{"subject_token"}, admits: func(text string) bool {
			return visible(identity.MaxSubjectSize)(text) && !strings.Contains(text, "<script")
		}},
		{form: exchangeForm("alice"), attacked: []string{"subject_token_type", "requested_token_type", "actor_token", "actor_token_type", "audience", "resource"}},
		{form: url.Values{"grant_type": {exchangeGrant}, "subject_token": {"x"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}}, attacked: []string{"subject_token"}},
		{form: url.Values{"grant_type": {exchangeGrant}, "subject_token": {"x"}, "subject_token_type": {"urn:portcullis:params:oauth:token-type:api_key"}}, attacked: []string{"subject_token"}},
	}},
	// What is no token of ours is nobody's: RFC 7009 and 7662 want a 200 that says so.
	"POST /oauth/revoke":     {caller: "tokens", query: settled, forms: answering(tokenOfNone, "{}")},
	"POST /oauth/introspect": {caller: "tokens", query: []string{"wait"}, forms: answering(tokenOfNone, `{"active":false}`)},
}

func answering(forms []formAttack, harmless string) []formAttack {
	var out []formAttack
	for _, f := range forms {
		f.harmless = harmless
		out = append(out, f)
	}
	return out
}
