package main

import (
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"portcullis/policy"
)

// verdict is a gate's answer, as the command prints it.
type verdict struct {
	Effect     string            `json:"effect"` // allow, deny or fault
	Reason     string            `json:"reason"`
	Meaning    string            `json:"meaning"`
	Status     int               `json:"status"` // what Envoy would answer; 0 for an allow
	Rule       string            `json:"rule"`
	Principal  *principalJSON    `json:"principal"` // null where nobody was proved
	Actor      string            `json:"actor"`     // the certificate's name, where it did not prove the principal
	Roles      []string          `json:"roles"`
	DecisionID string            `json:"decision_id"`
	Revision   *int64            `json:"revision"` // null where the gate does not say
	Set        map[string]string `json:"headers_set"`
	Removed    []string          `json:"headers_removed"` // those that the request had
	Body       string            `json:"body"`

	effect  policy.Effect
	request string
}

type principalJSON struct {
	Tenant string `json:"tenant"`
	Kind   string `json:"kind"`
	ID     string `json:"id"`
}

// meanings says what an operator can make of a reason.
var meanings = map[policy.Reason]string{
	policy.ReasonInternal:               "the gate failed on this request; its log says how",
	policy.ReasonOK:                     "everything that the rule asks for holds",
	policy.ReasonNoRule:                 "no rule of the policy file matches this host, method and path",
	policy.ReasonAmbiguousRequest:       "the request can be read in more than one way, and the rule does not opt in",
	policy.ReasonTooLarge:               "the request is larger than the gate reads",
	policy.ReasonMissingCredential:      "the rule needs a caller, and the request brings no credential (a certificate is one only under mtls: true, by a SPIFFE id of the policy file)",
	policy.ReasonInvalidToken:           "the token does not verify: signature, algorithm, issuer, audience or form",
	policy.ReasonExpired:                "the credential was good and has expired",
	policy.ReasonRevoked:                "the credential was revoked",
	policy.ReasonBadKey:                 "no live key of this store is this secret",
	policy.ReasonConflictingCredentials: "the request brings credentials twice, or two that disagree",
	policy.ReasonWrongTenant:            "the rule is not for the caller's tenant, or that tenant is not admitted",
	policy.ReasonMissingPermission:      "no live role of the caller carries the permission that the rule requires",
	policy.ReasonNotKeyBacked:           "the tenant requires its users to hold an API key",
	policy.ReasonConditionFalse:         "the rule's condition does not hold",
	policy.ReasonConditionError:         "the rule's condition could not be evaluated on this request",
	policy.ReasonOverloaded:             "too many requests waited for the store",
	policy.ReasonNoSnapshot:             "the gate has not loaded the store yet",
	policy.ReasonStale:                  "the gate has not heard from the store for too long",
	policy.ReasonStoreUnavailable:       "the gate had to ask the store, and it did not answer",
}

func newVerdict(q question, r *authv3.CheckResponse) *verdict {
	v := &verdict{request: strings.TrimSpace(q.method + " " + q.host + q.path), Roles: []string{}, Set: map[string]string{}, Removed: []string{}}
	meta := r.GetDynamicMetadata().GetFields()
	text := func(key string) string { return meta[key].GetStringValue() }
	v.Reason, v.Rule, v.DecisionID, v.Actor = text("reason"), text("rule"), text("decision_id"), text("actor")
	if kind := text("kind"); kind != "" {
		v.Principal = &principalJSON{Tenant: text("tenant"), Kind: kind, ID: text("subject")}
	}
	for _, role := range meta["roles"].GetListValue().GetValues() {
		v.Roles = append(v.Roles, role.GetStringValue())
	}
	v.takeEffect(r)
	if reason, ok := policy.ParseReason(v.Reason); ok {
		v.Meaning = meanings[reason]
	}
	if ok := r.GetOkResponse(); ok != nil {
		for _, h := range ok.GetHeaders() {
			v.Set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		v.Removed = removedOf(q, ok.GetHeadersToRemove())
	}
	if revision, err := strconv.ParseInt(v.Set[policy.HeaderRevision], 10, 64); err == nil {
		v.Revision = &revision
	}
	return v
}

// takeEffect reads the response as Envoy does: status 0 allows, and nothing else.
func (v *verdict) takeEffect(r *authv3.CheckResponse) {
	switch {
	case r.GetStatus().GetCode() == 0:
		v.effect = policy.Allow
	case r.GetErrorResponse() != nil:
		v.effect = policy.Fault
		v.Status, v.Body = int(r.GetErrorResponse().GetStatus().GetCode()), r.GetErrorResponse().GetBody()
	default:
		v.Status, v.Body = int(r.GetDeniedResponse().GetStatus().GetCode()), r.GetDeniedResponse().GetBody()
		if v.Status == 0 {
			v.Status = 403
		}
	}
	v.Effect = v.effect.String()
}

// removedOf lists those of the removed headers that the request had.
func removedOf(q question, remove []string) []string {
	out := []string{}
	for _, name := range remove {
		for _, h := range q.headers {
			if h[0] == strings.ToLower(name) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

// report prints the verdict and returns what the command ends with.
func (v *verdict) report(w io.Writer, asJSON bool) error {
	var err error
	if asJSON {
		err = printJSON(w, v)
	} else {
		_, err = io.WriteString(w, v.text())
	}
	switch {
	case err != nil:
		return unavailablef("write the answer: %w", err)
	case v.effect == policy.Allow:
		return nil
	case v.effect == policy.Fault:
		return &failure{code: exitUnavailable}
	}
	return answerNo()
}

func (v *verdict) text() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", name, value)
		}
	}
	fmt.Fprintf(&b, "%s  %s\n", strings.ToUpper(v.Effect), visible(v.request))
	line("reason", v.Reason+": "+v.Meaning)
	if v.Status != 0 {
		line("status", strconv.Itoa(v.Status))
	}
	line("rule", printable(v.Rule))
	if v.Principal != nil {
		line("principal", visible(v.Principal.Kind+":"+v.Principal.ID+"@"+v.Principal.Tenant))
	}
	line("actor", printable(v.Actor))
	line("roles", printable(strings.Join(v.Roles, ", ")))
	names := make([]string, 0, len(v.Set))
	for name := range v.Set {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		line("sets", visible(name+": "+v.Set[name]))
	}
	for _, name := range v.Removed {
		line("removes", visible(name))
	}
	if v.Revision != nil {
		line("revision", strconv.FormatInt(*v.Revision, 10))
	}
	line("decision", printable(v.DecisionID))
	return b.String()
}

// printable is visible, but nothing for nothing.
func printable(s string) string {
	if s == "" {
		return ""
	}
	return visible(s)
}
