package main

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"portcullis/policy"
)

func TestEveryReasonHasAMeaning(t *testing.T) {
	for r := policy.Reason(0); r < policy.NumReasons; r++ {
		if meanings[r] == "" {
			t.Errorf("%s means nothing", r)
		}
	}
}

func metadata(t *testing.T, fields map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The command reads a response as Envoy does, whatever the metadata says.
func TestVerdicts(t *testing.T) {
	q := question{method: "GET", path: "/x", host: "h", headers: [][2]string{{"x-client-key", "k"}}}
	denied := &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 401}}}
	fault := &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 503}}}
	for _, c := range []struct {
		what     string
		response *authv3.CheckResponse
		effect   string
		status   int
		exit     exitCode
	}{
		{"an empty response is an allow to Envoy", &authv3.CheckResponse{}, "allow", 0, exitOK},
		{"status 0 allows, whatever stands beside it",
			&authv3.CheckResponse{HttpResponse: denied, DynamicMetadata: metadata(t, map[string]any{"reason": "no_rule"})}, "allow", 0, exitOK},
		{"any other status denies, whatever the metadata says",
			&authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}, DynamicMetadata: metadata(t, map[string]any{"reason": "ok"})}, "deny", 403, exitNo},
		{"a denial", &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 16}, HttpResponse: denied}, "deny", 401, exitNo},
		{"a fault", &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 14}, HttpResponse: fault}, "fault", 503, exitUnavailable},
	} {
		v := newVerdict(q, c.response)
		var out strings.Builder
		code := exitOK
		if err := v.report(&out, false); err != nil {
			code, _ = judge(err)
		}
		if v.Effect != c.effect || v.Status != c.status || code != c.exit {
			t.Errorf("%s: %s, status %d, exit code %d; want %s, %d, %d", c.what, v.Effect, v.Status, code, c.effect, c.status, c.exit)
		}
	}
}

func TestAVerdictShowsWhatChanges(t *testing.T) {
	q := question{method: "GET", path: "/x\x1b[2J", host: "h", headers: [][2]string{{"x-client-key", "k"}, {"accept", "*/*"}}}
	v := newVerdict(q, &authv3.CheckResponse{
		Status: &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				{Header: &corev3.HeaderValue{Key: "x-auth-subject", Value: "amy\r\n\x1b[31m"}},
				{Header: &corev3.HeaderValue{Key: "x-auth-revision", Value: "17"}},
			},
			HeadersToRemove: []string{"x-client-key", "x-api-key"},
		}},
		DynamicMetadata: metadata(t, map[string]any{
			"reason": "ok", "rule": "me", "tenant": "default", "kind": "user", "subject": "amy\x1b[31m", "roles": []any{"editor", "reader"}, "decision_id": "d1",
		}),
	})
	var out strings.Builder
	if err := v.report(&out, false); err != nil {
		t.Fatal(err)
	}
	want := `ALLOW  "GET h/x\x1b[2J"
  reason       ok: everything that the rule asks for holds
  rule         me
  principal    "user:amy\x1b[31m@default"
  roles        editor, reader
  sets         x-auth-revision: 17
  sets         "x-auth-subject: amy\r\n\x1b[31m"
  removes      x-client-key
  revision     17
  decision     d1
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
