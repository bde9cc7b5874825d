package e2e

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"portcullis/envoy"
	"portcullis/internal/testkit"
)

// testGRPC plays calls by a gRPC client: Envoy turns the gate's denials into a
// grpc-status, and their reason is the grpc-message.
func testGRPC(t *testing.T, w *world, p people) {
	conn, err := grpc.NewClient(w.envoy.Addr(envoy.ListenerIngress),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(blog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for _, c := range []struct {
		name, method string
		metadata     []string
		code         codes.Code
		message      string
		answers      who
		identity     map[string]string
	}{
		{name: "allowed", method: "/blog.Posts/Read", metadata: []string{"authorization", "Bearer " + p.bob}, identity: user("bob", "viewer")},
		{name: "spoofed identity", method: "/blog.Posts/Read", metadata: []string{"authorization", "Bearer " + p.bob, "x-auth-subject", "root"}, identity: user("bob", "viewer")},
		{name: "no token", method: "/blog.Posts/Read", code: codes.Unauthenticated, message: "missing_credential", answers: gate},
		{name: "expired token", method: "/blog.Posts/Read", metadata: []string{"authorization", "Bearer " + signed(t, claims{Subject: "bob", Age: time.Hour})},
			code: codes.Unauthenticated, message: "expired", answers: gate},
		{name: "two tokens", method: "/blog.Posts/Read", metadata: []string{"authorization", "Bearer " + p.bob, "authorization", "Bearer " + p.root},
			code: codes.Unauthenticated, message: "conflicting_credentials", answers: gate},
		{name: "wrong role", method: "/blog.Posts/Edit", metadata: []string{"authorization", "Bearer " + p.bob},
			code: codes.PermissionDenied, message: "missing_permission", answers: gate},
		{name: "right role", method: "/blog.Posts/Edit", metadata: []string{"authorization", "Bearer " + p.amy}, identity: user("amy", "editor")},
		{name: "no rule", method: "/blog.Secrets/Read", metadata: []string{"authorization", "Bearer " + p.root},
			code: codes.PermissionDenied, message: "no_rule", answers: gate},
		{name: "token of another tenant", method: "/blog.Posts/Read", metadata: []string{"authorization", "Bearer " + p.zed},
			code: codes.PermissionDenied, message: "wrong_tenant", answers: gate},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, reached := w.counters(t, envoy.ListenerIngress), w.upstream.Requests()
			echo, err := testkit.CallEcho(metadata.AppendToOutgoingContext(t.Context(), c.metadata...), conn, c.method)
			moved := w.counters(t, envoy.ListenerIngress).minus(asked)
			reached = w.upstream.Requests() - reached
			if got := status.Convert(err); got.Code() != c.code || got.Message() != c.message {
				t.Errorf("grpc-status %v, grpc-message %q; want %v, %q", got.Code(), got.Message(), c.code, c.message)
			}
			if c.answers == gate {
				if reached != 0 || moved != (counters{denied: 1}) {
					t.Errorf("%d calls reached the upstream, Envoy's counters moved by: %v", reached, moved)
				}
				return
			}
			if reached != 1 || moved != (counters{ok: 1}) {
				t.Errorf("%d calls reached the upstream, Envoy's counters moved by: %v", reached, moved)
			}
			if echo.Path != c.method || len(echo.Headers.Values("Authorization")) != 0 {
				t.Errorf("the upstream received %s with %v", echo.Path, echo.Headers)
			}
			checkIdentity(t, echo.Headers, c.identity)
		})
	}
}

// testWebSocket asks for upgrades: one check covers a whole socket.
func testWebSocket(t *testing.T, w *world, p people) {
	for _, c := range []struct {
		name    string
		headers map[string][]string
		status  int
		reason  string
	}{
		{"with a token", map[string][]string{"Authorization": {"Bearer " + p.bob}, "X-Auth-Subject": {"root"}}, 101, ""},
		{"without a token", nil, 401, "missing_credential"},
		{"with the token of somebody without the role", map[string][]string{"Authorization": {"Bearer " + p.eve}}, 403, "missing_permission"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, reached := w.counters(t, envoy.ListenerIngress), w.upstream.Requests()
			ws, resp, err := testkit.DialWebSocket(t.Context(), w.envoy.Addr(envoy.ListenerIngress), "/chat", blog, c.headers)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Fatalf("status %d, want %d", resp.StatusCode, c.status)
			}
			moved := w.counters(t, envoy.ListenerIngress).minus(asked)
			reached = w.upstream.Requests() - reached
			if ws == nil {
				var body strings.Builder
				_ = resp.Write(&body)
				if !strings.Contains(body.String(), `"reason":"`+c.reason+`"`) {
					t.Errorf("the denial is %s, want reason %s", body.String(), c.reason)
				}
				if reached != 0 || moved != (counters{denied: 1}) {
					t.Errorf("%d requests reached the upstream, Envoy's counters moved by: %v", reached, moved)
				}
				return
			}
			defer ws.Close()
			if reached != 1 || moved != (counters{ok: 1}) {
				t.Errorf("%d requests reached the upstream, Envoy's counters moved by: %v", reached, moved)
			}
			echo := receiveEcho(t, ws)
			checkIdentity(t, echo.Headers, user("bob", "viewer"))
			if echo.Path != "/chat" || len(echo.Headers.Values("Authorization")) != 0 {
				t.Errorf("the upstream received %s with %v", echo.Path, echo.Headers)
			}
			if err := ws.Send("hello"); err != nil {
				t.Fatal(err)
			}
			if got, err := ws.Receive(); err != nil || got != "hello" {
				t.Errorf("the socket echoed %q, %v", got, err)
			}
		})
	}
}
