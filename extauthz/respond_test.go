package extauthz

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"portcullis/policy"
)

// naive is the reference: the same answer from generated types, in no hurry.
func naive(a *answer) *authv3.CheckResponse {
	response := &authv3.CheckResponse{Status: &status.Status{}, DynamicMetadata: naiveMetadata(a)}
	option := func(key, value string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: key, Value: value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
	}
	if a.reason.Effect() != policy.Allow {
		o := outcomeOf(a.reason)
		response.Status = &status.Status{Code: int32(o.code), Message: a.reason.String()}
		denied := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(o.status)}}
		if challenge := challengeOf(o); challenge != "" {
			denied.Headers = append(denied.Headers, option("www-authenticate", challenge))
		}
		denied.Headers = append(denied.Headers, option("x-auth-decision-id", string(a.id[:])), option("cache-control", "no-store"))
		denied.Body = a.reason.String()
		if !a.grpc {
			denied.Headers = append(denied.Headers, option("content-type", "application/json"))
			denied.Body = `{"error":"` + o.text + `","reason":"` + a.reason.String() + `","decision_id":"` + string(a.id[:]) + "\"}\n"
		}
		response.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied}
		if a.reason.Effect() == policy.Fault {
			response.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: denied}
		}
		return response
	}
	values := map[string]string{}
	if !a.anonymous {
		values = map[string]string{
			"x-auth-tenant": a.principal.Tenant, "x-auth-subject": a.principal.ID, "x-auth-kind": a.principal.Kind.String(),
			"x-auth-decision-id": string(a.id[:]), "x-auth-revision": itoa(a.revision), "x-auth-roles": strings.Join(a.roles, ","),
		}
		joined := strings.Join(a.roles, ",")
		if a.rolesUnknown || len(joined) > 4096 || strings.Count(joined, ",") >= max(len(a.roles), 1) || slices.ContainsFunc(a.roles, func(r string) bool { return !visible(r) }) {
			delete(values, "x-auth-roles")
			values["x-auth-roles-omitted"] = "true"
		}
	}
	ok := &authv3.OkHttpResponse{}
	for _, name := range []string{"x-auth-tenant", "x-auth-subject", "x-auth-kind", "x-auth-roles", "x-auth-roles-omitted", "x-auth-decision-id", "x-auth-revision"} {
		if value := values[name]; visible(value) && (len(value) <= 1024 || name == "x-auth-roles") {
			ok.Headers = append(ok.Headers, option(name, value))
		} else {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
		}
		ok.HeadersToRemove = append(ok.HeadersToRemove, policy.HeaderTwins(name)...)
	}
	for _, name := range []string{"x-client-key", "x-api-key"} {
		ok.HeadersToRemove = append(append(ok.HeadersToRemove, name), policy.HeaderTwins(name)...)
	}
	if !a.forward {
		ok.HeadersToRemove = append(ok.HeadersToRemove, "authorization")
	}
	slices.Sort(ok.HeadersToRemove)
	response.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: ok}
	return response
}

func naiveMetadata(a *answer) *structpb.Struct {
	fields := map[string]*structpb.Value{
		"decision_id": structpb.NewStringValue(string(a.id[:])), "reason": structpb.NewStringValue(a.reason.String()),
	}
	put := func(key, value string) {
		if value != "" && utf8.ValidString(value) {
			fields[key] = structpb.NewStringValue(value)
		}
	}
	put("rule", a.rule)
	if !a.anonymous && len(a.actor) <= 2048 {
		put("actor", a.actor)
	}
	if a.principal.Kind != 0 && !a.anonymous {
		put("kind", a.principal.Kind.String())
		put("tenant", a.principal.Tenant)
		put("subject", a.principal.ID)
		joined := strings.Join(a.roles, "")
		if len(a.roles) > 0 && !a.rolesUnknown && len(joined) <= 4096 && utf8.ValidString(joined) && !slices.Contains(a.roles, "") {
			list := &structpb.ListValue{}
			for _, role := range a.roles {
				list.Values = append(list.Values, structpb.NewStringValue(role))
			}
			fields["roles"] = structpb.NewListValue(list)
		}
	}
	return &structpb.Struct{Fields: fields}
}

func visible(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

func itoa(n int64) string {
	b := []byte{}
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	if len(b) == 0 {
		return "0"
	}
	return string(b)
}

// read unmarshals a response and sorts the one list whose order means nothing.
func read(tb testing.TB, b []byte) *authv3.CheckResponse {
	tb.Helper()
	var response authv3.CheckResponse
	if err := proto.Unmarshal(b, &response); err != nil {
		tb.Fatalf("the response is no CheckResponse: %v: %x", err, b)
	}
	if ok := response.GetOkResponse(); ok != nil {
		slices.Sort(ok.HeadersToRemove)
	}
	return &response
}

// holdsTheContract checks what must be true of any response, whatever it answers.
func holdsTheContract(tb testing.TB, response *authv3.CheckResponse, reason policy.Reason) {
	tb.Helper()
	allowed := response.GetStatus().GetCode() == 0
	if response.Status == nil || response.HttpResponse == nil {
		tb.Fatalf("status or response is left to a default: %v", response)
	}
	if allowed != (reason == policy.ReasonOK) || allowed != (response.GetOkResponse() != nil) {
		tb.Fatalf("reason %s gave %v", reason, response)
	}
	var set []string
	for _, h := range slices.Concat(response.GetOkResponse().GetHeaders(), response.GetDeniedResponse().GetHeaders(), response.GetErrorResponse().GetHeaders()) {
		if h.AppendAction != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			tb.Fatalf("header %q would be appended", h.Header.Key)
		}
		if !visible(h.Header.Value) {
			tb.Fatalf("header %q has the value %q", h.Header.Key, h.Header.Value)
		}
		set = append(set, h.Header.Key)
	}
	if !allowed {
		return
	}
	removed := response.GetOkResponse().HeadersToRemove
	for _, name := range set {
		if slices.Contains(removed, name) {
			tb.Fatalf("%q is set and removed, so it would be lost", name)
		}
	}
	for _, name := range policy.ManagedHeaders() {
		if !slices.Contains(removed, name) && !slices.Contains(set, name) {
			tb.Fatalf("%q is neither set nor removed: a client's own would reach the upstream", name)
		}
		for _, twin := range policy.HeaderTwins(name) {
			if !slices.Contains(removed, twin) {
				tb.Fatalf("the twin %q is not removed", twin)
			}
		}
	}
}

func drawAnswer(t *rapid.T) *answer {
	text := rapid.OneOf(rapid.StringMatching(`[a-z]{1,12}`), rapid.String(), rapid.SampledFrom([]string{"", "a,b", " a", "a\r\nx-auth-roles: admin", "jos\u00e9", "\xff", strings.Repeat("x", 2000)}))
	role := rapid.OneOf(rapid.StringMatching(`[a-z-]{1,40}`), text)
	a := &answer{
		reason: policy.Reason(rapid.IntRange(0, int(policy.NumReasons)-1).Draw(t, "reason")),
		id:     newDecisionID(),
		rule:   text.Draw(t, "rule"),
		actor:  rapid.OneOf(text, rapid.SampledFrom([]string{strings.Repeat("x", 2048), strings.Repeat("x", 2049)})).Draw(t, "actor"),
		principal: policy.Principal{Tenant: text.Draw(t, "tenant"), Kind: policy.Kind(rapid.IntRange(0, 3).Draw(t, "kind")),
			ID: text.Draw(t, "subject")},
		roles:        rapid.SliceOfN(role, 0, 150).Draw(t, "roles"),
		rolesUnknown: rapid.Bool().Draw(t, "rolesUnknown"),
		revision:     rapid.Int64Min(0).Draw(t, "revision"),
		anonymous:    rapid.Bool().Draw(t, "anonymous"),
		forward:      rapid.Bool().Draw(t, "forward"),
		grpc:         rapid.Bool().Draw(t, "grpc"),
	}
	if rapid.Bool().Draw(t, "allow") {
		a.reason = policy.ReasonOK
	}
	return a
}

func TestResponsesEqualTheNaiveEncoders(t *testing.T) {
	r := newResponder()
	prefix := []byte("kept")
	rapid.Check(t, func(rt *rapid.T) {
		a := drawAnswer(rt)
		b := r.respond(prefix, a)
		if !strings.HasPrefix(string(b), "kept") {
			t.Fatal("what the caller's buffer held was overwritten")
		}
		got, want := read(t, b[len(prefix):]), naive(a)
		if !proto.Equal(got, want) {
			t.Fatalf("of %+v\ngot  %v\nwant %v", a, got, want)
		}
		holdsTheContract(t, got, a.reason)
	})
}

func TestZeroAnswerIsADenial(t *testing.T) {
	got := read(t, newResponder().respond(nil, &answer{}))
	if got.GetStatus().GetCode() == 0 || got.GetDeniedResponse().GetStatus().GetCode() != 500 {
		t.Fatalf("got %v", got)
	}
}

func TestReasonOutsideTheListIsADenial(t *testing.T) {
	got := read(t, newResponder().respond(nil, &answer{reason: policy.NumReasons + 9}))
	if got.GetStatus().GetCode() == 0 || got.GetDeniedResponse().GetStatus().GetCode() != 500 {
		t.Fatalf("got %v", got)
	}
}

func TestEveryReasonHasItsOutcome(t *testing.T) {
	for i := range policy.NumReasons {
		o := outcomeOf(i)
		allowed := i.Effect() == policy.Allow
		if o.status == 0 || (o.code == 0) != allowed || (o.text == "") != allowed {
			t.Errorf("reason %s has the outcome %+v", i, *o)
		}
		if fault := i.Effect() == policy.Fault; (o.status == 503) != fault {
			t.Errorf("reason %s (fault: %v) has the status %d", i, fault, o.status)
		}
		if o.challenge != "" && o.status != 401 {
			t.Errorf("reason %s has a challenge and the status %d", i, o.status)
		}
	}
	if outcomeOf(policy.ReasonMissingCredential).challenge != "" {
		t.Error("a missing credential has an error code, which RFC 6750 forbids")
	}
}

func TestSubjectThatIsNoHeaderTextIsNeverAsserted(t *testing.T) {
	for _, subject := range []string{"", "jos\u00e9", "a\nb", "a\x00", " a", "a ", "a\tb", strings.Repeat("x", 1025)} {
		a := &answer{reason: policy.ReasonOK, id: newDecisionID(), principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: subject}}
		ok := read(t, newResponder().respond(nil, a)).GetOkResponse()
		for _, h := range ok.GetHeaders() {
			if h.Header.Key == policy.HeaderSubject {
				t.Errorf("subject %q was asserted as %q", subject, h.Header.Value)
			}
		}
		if !slices.Contains(ok.GetHeadersToRemove(), policy.HeaderSubject) {
			t.Errorf("subject %q: the client's own subject header would pass", subject)
		}
	}
}

func TestRolesPastFourKiBAreMarkedAsLeftOut(t *testing.T) {
	header := func(size int) (roles, omitted string) {
		names := []string{strings.Repeat("a", 2047), strings.Repeat("b", size-2048)}
		a := &answer{reason: policy.ReasonOK, principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}, roles: names}
		for _, h := range read(t, newResponder().respond(nil, a)).GetOkResponse().GetHeaders() {
			switch h.Header.Key {
			case policy.HeaderRoles:
				roles = h.Header.Value
			case policy.HeaderRolesOmitted:
				omitted = h.Header.Value
			}
		}
		return
	}
	if roles, omitted := header(4096); len(roles) != 4096 || omitted != "" {
		t.Errorf("4 KiB: %d bytes, omitted %q", len(roles), omitted)
	}
	if roles, omitted := header(4097); roles != "" || omitted != "true" {
		t.Errorf("4 KiB and a byte: %d bytes, omitted %q", len(roles), omitted)
	}
}

// A role that is called "a,admin" must not read as two roles.
func TestRoleThatWouldReadAsTwoIsNotAsserted(t *testing.T) {
	for _, role := range []string{"a,admin", ",", "jos\u00e9", "a\nb", " admin", ""} {
		a := &answer{reason: policy.ReasonOK, principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}, roles: []string{role, "viewer"}}
		set := asserted(read(t, newResponder().respond(nil, a)))
		if _, ok := set[policy.HeaderRoles]; ok || set[policy.HeaderRolesOmitted] != "true" {
			t.Errorf("role %q: %v", role, set)
		}
	}
}
