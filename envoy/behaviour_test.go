package envoy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"portcullis/internal/testkit"
	"portcullis/policy"
)

// authorizer is a gate of the tests' own: it keeps what it was asked and answers
// what the test says. These tests are about Envoy and its configuration.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	mu     sync.Mutex
	last   *authv3.CheckRequest
	answer *authv3.CheckResponse
}

func (a *authorizer) Check(_ context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = proto.CloneOf(req)
	return a.answer, nil
}

// asked returns the last request and forgets it.
func (a *authorizer) asked() *authv3.AttributeContext_HttpRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	req := a.last
	a.last = nil
	return req.GetAttributes().GetRequest().GetHttp()
}

func (a *authorizer) will(answer *authv3.CheckResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func allow(set map[string]string, remove ...string) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{HeadersToRemove: remove}
	for name, value := range set {
		ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, Value: value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// rig is an Envoy from generated configuration between an authorizer and an
// upstream.
type rig struct {
	*authorizer
	envoy    *testkit.Envoy
	upstream *testkit.Upstream
}

// newRig listens on a unix socket unless options name another gate.
func newRig(t *testing.T, options Options, creds ...grpc.ServerOption) *rig {
	t.Helper()
	return startRig(t, options, func(*bootstrapv3.Bootstrap) {}, creds...)
}

// startRig is newRig with an edit of what was generated.
func startRig(t *testing.T, options Options, edit func(*bootstrapv3.Bootstrap), creds ...grpc.ServerOption) *rig {
	t.Helper()
	bin := testkit.RequireEnvoy(t)
	network, addr := "unix", filepath.Join(t.TempDir(), "gate.sock")
	if options.Gate != "" {
		network, addr = "tcp", options.Gate
	}
	listener, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	options.Gate = listener.Addr().String()
	if network == "unix" {
		options.Gate = "unix://" + addr
	}
	r := &rig{authorizer: &authorizer{answer: allow(nil)}, upstream: testkit.RunUpstream(t)}
	server := grpc.NewServer(creds...)
	authv3.RegisterAuthorizationServer(server, r.authorizer)
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	options.Listen, options.Admin = "127.0.0.1:0", "127.0.0.1:0"
	options.Upstream, options.UpstreamProtocol = r.upstream.Addr(), UpstreamSame
	r.envoy = testkit.RunEnvoy(t, testkit.EnvoyConfig{Binary: bin, Bootstrap: editedYAML(t, options, edit)})
	return r
}

// send writes a request as it stands, line by line, and returns the status and
// what the upstream echoed, if it was reached.
func (r *rig) send(t *testing.T, listener string, lines ...string) (int, testkit.Echo) {
	t.Helper()
	conn, err := net.Dial("tcp", r.envoy.Addr(listener))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\nconnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var echo testkit.Echo
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &echo); err != nil {
			t.Fatalf("echo %q: %v", body, err)
		}
	}
	return resp.StatusCode, echo
}

func (r *rig) stat(t *testing.T, name string) int64 {
	t.Helper()
	n, err := r.envoy.Stat(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGateIsSentJustTheHeadersItReads(t *testing.T) {
	r := newRig(t, Options{Permissive: "127.0.0.1:0"})
	request := []string{"GET /a?b=c HTTP/1.1", "host: blog.example.com", "authorization: Bearer one", "authorization: Bearer two",
		"x-api-key: rak_x", "x-client-key: k1", "x-client-key: k2", "cookie: secret", "x-auth-subject: root", "user-agent: tests", "content-type: text/plain"}
	if status, _ := r.send(t, ListenerIngress, request...); status != 200 {
		t.Fatalf("status %d", status)
	}
	http := r.asked()
	if len(http.GetHeaders()) != 0 {
		t.Errorf("headers are joined: %v", http.GetHeaders())
	}
	var sent []string
	for _, h := range http.GetHeaderMap().GetHeaders() {
		sent = append(sent, h.Key+": "+string(h.RawValue))
	}
	slices.Sort(sent)
	// Envoy keeps Authorization in a slot of its own and joins two lines of it with
	// a comma, encode_raw_headers or not.
	if want := []string{"authorization: Bearer one,Bearer two", "content-type: text/plain", "x-api-key: rak_x",
		"x-client-key: k1", "x-client-key: k2"}; !slices.Equal(sent, want) {
		t.Errorf("the gate was sent %q, want %q", sent, want)
	}
	if http.GetPath() != "/a?b=c" || http.GetHost() != "blog.example.com" || http.GetMethod() != "GET" {
		t.Errorf("the gate was asked about %v", http)
	}
	r.send(t, ListenerPermissive, request...)
	if all := r.asked().GetHeaderMap().GetHeaders(); !slices.ContainsFunc(all, func(h *corev3.HeaderValue) bool { return h.Key == "x-auth-subject" }) {
		t.Errorf("through the permissive listener the gate is not sent everything: %v", all)
	}
}

func TestIdentityHeadersOfClientsAreStripped(t *testing.T) {
	r := newRig(t, Options{})
	lines := []string{"GET / HTTP/1.1", "host: a"}
	for _, name := range policy.ManagedHeaders() {
		lines = append(lines, name+": spoofed")
	}
	_, echo := r.send(t, ListenerIngress, lines...)
	for name := range echo.Headers {
		if strings.HasPrefix(name, "X-Auth") {
			t.Errorf("%s reached the upstream", name)
		}
	}
}

// The gate decides on the method and the path of the request line. An upstream
// that obeys one of these would serve another request than the one it decided on.
func TestHeadersThatReplaceTheRequestAreStripped(t *testing.T) {
	r := newRig(t, Options{})
	names := []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"}
	lines := []string{"GET / HTTP/1.1", "host: a"}
	for _, name := range names {
		lines = append(lines, name+": /admin")
	}
	status, echo := r.send(t, ListenerIngress, lines...)
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, name := range names {
		if _, reached := echo.Headers[name]; reached {
			t.Errorf("%s reached the upstream", name)
		}
	}
}

func TestGateMaySetAndRemoveItsOwnHeadersAndNoOthers(t *testing.T) {
	r := newRig(t, Options{Permissive: "127.0.0.1:0"})
	set := make(map[string]string)
	for _, name := range policy.ManagedHeaders() {
		set[name] = "ours"
	}
	var remove []string
	for _, name := range policy.ManagedHeaders() {
		remove = append(remove, policy.HeaderTwins(name)...)
	}
	for _, name := range policy.CredentialHeaders() {
		remove = append(append(remove, name), policy.HeaderTwins(name)...)
	}
	lines := []string{"GET / HTTP/1.1", "host: a", "cookie: kept"}
	for _, name := range append(policy.ManagedHeaders(), remove...) {
		lines = append(lines, name+": spoofed")
	}
	r.will(allow(set, remove...))
	status, echo := r.send(t, ListenerPermissive, lines...)
	if status != 200 || echo.Headers.Get("Cookie") != "kept" {
		t.Fatalf("status %d, upstream saw %v", status, echo.Headers)
	}
	for name, values := range echo.Headers {
		if slices.Contains(values, "spoofed") {
			t.Errorf("%s: %q reached the upstream", name, values)
		}
	}
	for _, name := range policy.ManagedHeaders() {
		if got := echo.Headers.Values(name); !slices.Equal(got, []string{"ours"}) {
			t.Errorf("%s is %q, want the gate's value once", name, got)
		}
	}

	invalid := AuthzStat(ListenerPermissive, "invalid")
	for name, answer := range map[string]*authv3.CheckResponse{
		"set another header":        allow(map[string]string{"x-admin": "true"}),
		"set a longer name":         allow(map[string]string{"x-auth-tenant-2": "x"}),
		"set the host":              allow(map[string]string{"host": "evil"}),
		"set the path":              allow(map[string]string{":path": "/admin"}),
		"remove another header":     allow(nil, "cookie"),
		"set a value with a return": allow(map[string]string{"x-auth-subject": "a\rb"}),
	} {
		before, reached := r.stat(t, invalid), r.upstream.Requests()
		r.will(answer)
		if status, _ := r.send(t, ListenerPermissive, lines[:3]...); status != 500 {
			t.Errorf("%s: status %d, want 500", name, status)
		}
		if r.upstream.Requests() != reached {
			t.Errorf("%s: the upstream was reached", name)
		}
		if n := r.stat(t, invalid) - before; n != 1 {
			t.Errorf("%s: the invalid counter moved by %d, want 1", name, n)
		}
	}
}

func TestWhatIngressRefusesAndMends(t *testing.T) {
	strict := newRig(t, Options{Permissive: "127.0.0.1:0"})
	optedIn := newRig(t, Options{OptIns: policy.FlagEncodedSlash | policy.FlagDoubleSlash})
	for _, c := range []struct {
		rig    *rig
		line   string
		status int
		path   string // as the gate is asked, "" if it is not
	}{
		{strict, "GET //a///b HTTP/1.1", 200, "/a/b"},
		{strict, "GET /a/../b/./c HTTP/1.1", 200, "/b/c"},
		{strict, "GET /a/%2e%2E/b HTTP/1.1", 200, "/b"},
		{strict, "GET /a%2fb HTTP/1.1", 400, ""},
		{strict, "GET /a%5Cb HTTP/1.1", 400, ""},
		{strict, "GET /a;b HTTP/1.1", 200, "/a;b"},
		{strict, "GET /a HTTP/1.1\r\nx_y: 1", 400, ""},
		{strict, "GET /a#b HTTP/1.1", 400, ""},
		{strict, "GET /a\\..\\b HTTP/1.1", 200, "/b"},
		{strict, "CONNECT a:443 HTTP/1.1", 404, ""},
		{optedIn, "GET //a///b HTTP/1.1", 200, "//a///b"},
		{optedIn, "GET /a%2fb%5Cc HTTP/1.1", 200, "/a%2fb%5Cc"},
		{optedIn, "GET /a/../b HTTP/1.1", 200, "/b"},
	} {
		ok := c.rig.stat(t, AuthzStat(ListenerIngress, "ok"))
		status, _ := c.rig.send(t, ListenerIngress, c.line, "host: a")
		asked := c.rig.asked()
		if status != c.status || asked.GetPath() != c.path {
			t.Errorf("%s: status %d, the gate was asked about %q; want %d, %q", c.line, status, asked.GetPath(), c.status, c.path)
		}
		if moved := c.rig.stat(t, AuthzStat(ListenerIngress, "ok")) != ok; moved != (c.path != "") {
			t.Errorf("%s: the counter moved: %v", c.line, moved)
		}
	}
	for line, path := range map[string]string{
		"GET //a/%2e%2e/b%2Fc;d HTTP/1.1\r\nx_y: 1": "//a/%2e%2e/b%2Fc;d",
		"GET /../a/./b HTTP/1.1":                    "/../a/./b",
		"GET /a\\..\\b HTTP/1.1":                    "/a\\..\\b",
	} {
		strict.send(t, ListenerPermissive, line, "host: A.example.com.:80")
		if got := strict.asked(); got == nil || got.GetPath() != path || got.GetHost() != "A.example.com.:80" {
			t.Errorf("permissive %q: the gate was asked about %q at %q", line, got.GetPath(), got.GetHost())
		}
	}
	strict.will(&authv3.CheckResponse{Status: &status.Status{Code: 7}})
	if status, _ := strict.send(t, ListenerPermissive, "CONNECT a:443 HTTP/1.1", "host: a:443"); status != 403 {
		t.Errorf("permissive CONNECT that the gate denies: status %d, want 403", status)
	}
	if got := strict.asked(); got.GetMethod() != "CONNECT" || got.GetPath() != "" || got.GetHost() != "a:443" {
		t.Errorf("permissive CONNECT: the gate was asked about %v", got)
	}
	strict.send(t, ListenerIngress, "GET / HTTP/1.1", "host: A.example.com.:80")
	if got := strict.asked().GetHost(); got != "A.example.com" {
		t.Errorf("ingress: the gate was asked about host %q", got)
	}
}

func TestGateThatIsAway(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		t.Run(fmt.Sprintf("failure_mode_allow=%v", failOpen), func(t *testing.T) {
			bin := testkit.RequireEnvoy(t)
			upstream := testkit.RunUpstream(t)
			envoy := testkit.RunEnvoy(t, testkit.EnvoyConfig{Binary: bin, Bootstrap: bootstrapYAML(t, Options{
				Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: upstream.Addr(),
				Gate: "unix://" + filepath.Join(t.TempDir(), "nobody.sock"), FailureModeAllow: failOpen,
			})})
			r := &rig{envoy: envoy, upstream: upstream}
			status, echo := r.send(t, ListenerIngress, "GET / HTTP/1.1", "host: a", "x-auth-subject: root")
			want := 503
			if failOpen {
				want = 200
			}
			if status != want || (upstream.Requests() == 1) != failOpen {
				t.Errorf("status %d, %d requests reached the upstream", status, upstream.Requests())
			}
			if spoof := echo.Headers.Values("X-Auth-Subject"); len(spoof) != 0 {
				t.Errorf("a spoofed identity passed unchecked: %q", spoof)
			}
		})
	}
}

func TestGateIsVerifiedAndEnvoyProvesItself(t *testing.T) {
	dir := t.TempDir()
	ca, other := newAuthority(t), newAuthority(t)
	ca.write(t, dir)
	ca.issue(t, dir, "gate", "gate.internal")
	ca.issue(t, dir, "gate-ip", "127.0.0.1")
	ca.issue(t, dir, "envoy", "envoy.internal")
	other.issue(t, dir, "stranger", "gate.internal")
	in := func(name string) string { return filepath.Join(dir, name) }
	envoyCert := ClientTLS{CAFile: in("ca.pem"), CertFile: in("envoy.pem"), KeyFile: in("envoy-key.pem")}
	named := envoyCert
	named.ServerName = "gate.internal"
	unproved := named
	unproved.CertFile, unproved.KeyFile = "", ""
	for _, c := range []struct {
		name   string
		gate   string // certificate
		tls    ClientTLS
		status int
	}{
		{"right name", "gate", named, 200},
		{"right address", "gate-ip", envoyCert, 200},
		{"wrong name", "gate", envoyCert, 503},
		{"wrong authority", "stranger", named, 503},
		{"envoy without a certificate", "gate", unproved, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert, err := tls.LoadX509KeyPair(in(c.gate+".pem"), in(c.gate+"-key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			pem, err := os.ReadFile(in("ca.pem"))
			if err != nil || !pool.AppendCertsFromPEM(pem) {
				t.Fatal(err)
			}
			r := newRig(t, Options{Gate: "127.0.0.1:0", GateTLS: &c.tls}, grpc.Creds(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
				MinVersion: tls.VersionTLS13,
			})))
			if status, _ := r.send(t, ListenerIngress, "GET / HTTP/1.1", "host: a"); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
		})
	}
}
