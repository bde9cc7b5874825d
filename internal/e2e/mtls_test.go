package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"portcullis/envoy"
)

const (
	cartID    = "spiffe://example.org/ns/shop/sa/cart"
	idleID    = "spiffe://example.org/ns/shop/sa/idle"
	partnerID = "spiffe://example.org/ns/partner/sa/cart"
	unknownID = "spiffe://example.org/ns/shop/sa/unknown"
)

// mtlsWorld is a world whose Envoy asks clients for certificates.
type mtlsWorld struct {
	*world
	people
	ca, other *authority
	roots     *x509.CertPool
	accessLog string
}

func newMTLSWorld(t *testing.T) *mtlsWorld {
	t.Helper()
	dir := t.TempDir()
	m := &mtlsWorld{ca: newAuthority(t), other: newAuthority(t), roots: x509.NewCertPool(), accessLog: filepath.Join(dir, "access.jsonl")}
	caFile := filepath.Join(dir, "ca.pem")
	m.ca.write(t, caFile)
	m.roots.AddCert(m.ca.cert)
	certFile, keyFile := writePair(t, dir, "ingress", m.ca.issue(t, names{dns: []string{blog}}))
	m.world = newWorld(t, worldConfig{
		policy:    "mtls.yaml",
		listenTLS: &envoy.ServerTLS{CertFile: certFile, KeyFile: keyFile, ClientCAFile: caFile},
		edit:      func(b *bootstrapv3.Bootstrap) { logMetadata(t, b, m.accessLog) },
	})
	m.people = m.seed(t)
	m.cli(t, "member", "add", "--kind", "workload", "--id", "cart", "--role", "viewer")
	// A user and a client of the workload's name, who hold more than it.
	m.cli(t, "member", "add", "cart", "admin")
	m.cli(t, "member", "add", "--kind", "client", "--id", "cart", "--role", "admin", "--wait")
	return m
}

// logMetadata makes Envoy write, per request of the ingress, the names that the
// gate's dynamic metadata has for the caller.
func logMetadata(t *testing.T, b *bootstrapv3.Bootstrap, file string) {
	t.Helper()
	field := func(key string) *structpb.Value {
		return structpb.NewStringValue("%DYNAMIC_METADATA(envoy.filters.http.ext_authz:" + key + ")%")
	}
	format := &structpb.Struct{Fields: map[string]*structpb.Value{
		"path": structpb.NewStringValue("%REQ(:PATH)%"), "actor": field("actor"), "subject": field("subject"), "kind": field("kind"),
	}}
	log, err := anypb.New(&filelogv3.FileAccessLog{Path: file, AccessLogFormat: &filelogv3.FileAccessLog_LogFormat{
		LogFormat: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: format}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range b.GetStaticResources().GetListeners() {
		if l.Name != envoy.ListenerIngress {
			continue
		}
		config := l.FilterChains[0].Filters[0].GetTypedConfig()
		var manager hcmv3.HttpConnectionManager
		if err := config.UnmarshalTo(&manager); err != nil {
			t.Fatal(err)
		}
		manager.AccessLog = []*accesslogv3.AccessLog{{Name: "envoy.access_loggers.file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: log}}}
		if err := config.MarshalFrom(&manager); err != nil {
			t.Fatal(err)
		}
	}
}

// with is the TLS of a client that presents a certificate, whichever authorities
// Envoy asks for. An empty one is none.
func (m *mtlsWorld) with(pair tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: m.roots, ServerName: blog, MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
}

// as is with a certificate of the authority that Envoy trusts.
func (m *mtlsWorld) as(t *testing.T, n names) *tls.Config { return m.with(m.ca.issue(t, n)) }

func TestWorkloadsThroughEnvoy(t *testing.T) {
	m := newMTLSWorld(t)
	cart := m.as(t, names{uris: []string{cartID}, common: "cart"})
	idle := m.as(t, names{uris: []string{idleID}})
	unknown := m.as(t, names{uris: []string{unknownID}})
	dnsOnly := m.as(t, names{dns: []string{"cart.shop.example.org"}, common: cartID})
	subjectOnly := m.as(t, names{common: cartID})
	workload := func(id, roles string) map[string]string { return principal("default", "workload", id, roles) }
	allowed := func(name string, tls *tls.Config, line string, identity map[string]string, headers ...string) scenario {
		return scenario{name: name, request: request{tls: tls, line: line, headers: headers}, identity: identity}
	}
	denied := func(name string, tls *tls.Config, line string, status int, reason string, headers ...string) scenario {
		return scenario{name: name, request: request{tls: tls, line: line, headers: headers}, answers: gate, status: status, reason: reason}
	}
	nobody := func(name string, tls *tls.Config, line string, headers ...string) scenario {
		return denied(name, tls, line, 401, "missing_credential", headers...)
	}
	forged := "X-Forwarded-Client-Cert: By=spiffe://example.org/envoy;URI=" + cartID
	m.run(t, []scenario{
		allowed("a workload under mtls: true", cart, "GET /stock/1", workload("cart", "viewer")),
		allowed("a workload without a role, where none is needed", idle, "GET /who", workload("idle", "")),
		denied("a workload without the role", idle, "GET /stock/1", 403, "missing_permission"),
		denied("a workload has not the roles of the user and the client of its name", cart, "PUT /stock/1", 403, "missing_permission"),
		denied("a workload of another tenant", m.as(t, names{uris: []string{partnerID}}), "GET /stock/1", 403, "wrong_tenant"),
		nobody("a workload elsewhere", cart, "GET /posts/1"),
		nobody("a workload where any caller of the tenant is enough", cart, "GET /me"),
		allowed("a workload where nobody is asked", cart, "GET /healthz", nil),
		denied("a workload without a rule", cart, "GET /nowhere", 403, "no_rule"),

		nobody("a SPIFFE id that the policy does not have", unknown, "GET /stock/1"),
		nobody("a certificate with a DNS name", dnsOnly, "GET /stock/1"),
		nobody("a certificate with a subject alone", subjectOnly, "GET /stock/1"),
		nobody("the id's case", m.as(t, names{uris: []string{"spiffe://example.org/ns/shop/sa/Cart"}}), "GET /stock/1"),
		nobody("a slash at the id's end", m.as(t, names{uris: []string{cartID + "/"}}), "GET /stock/1"),
		nobody("another trust domain", m.as(t, names{uris: []string{"spiffe://example.com/ns/shop/sa/cart"}}), "GET /stock/1"),
		nobody("an id that is the second one of its certificate", m.as(t, names{uris: []string{unknownID, cartID}}), "GET /stock/1"),
		nobody("an id that is beside another one in a URI", m.as(t, names{uris: []string{unknownID + "," + cartID}}), "GET /stock/1"),

		allowed("a token beside the certificate", cart, "GET /stock/1", user("bob", "viewer"), bearer(m.bob)),
		allowed("a token beside the certificate, elsewhere", cart, "GET /posts/1", user("bob", "viewer"), bearer(m.bob)),
		allowed("a token beside a certificate that nobody knows", unknown, "GET /posts/1", user("bob", "viewer"), bearer(m.bob)),
		denied("a token that may less than the certificate", cart, "GET /stock/1", 403, "missing_permission", bearer(m.eve)),
		denied("a bad token beside the certificate", cart, "GET /stock/1", 401, "invalid_token", bearer("a.b.c")),
		denied("a client key that may less than the certificate", cart, "GET /stock/1", 403, "missing_permission", clientKey(m.idle)),
		denied("an unknown client key beside the certificate", cart, "GET /stock/1", 401, "bad_key", clientKey("12345678-1234-4123-8123-123456789abc")),

		nobody("a forged X-Forwarded-Client-Cert beside a DNS name", dnsOnly, "GET /stock/1", forged),
		nobody("a forged X-Forwarded-Client-Cert beside an unknown id", unknown, "GET /stock/1", forged),
		denied("a forged X-Forwarded-Client-Cert beside another id", idle, "GET /stock/1", 403, "missing_permission", forged),
		allowed("a forged X-Forwarded-Client-Cert beside one's own id", idle, "GET /who", workload("idle", ""), forged, "X-Auth-Subject: cart", "X-Auth-Kind: user"),
		// The raw form of it, where Envoy hides no header from the gate.
		{name: "a forged X-Forwarded-Client-Cert without TLS", listener: envoy.ListenerPermissive,
			request: request{line: "GET /stock/1", headers: []string{forged}}, answers: gate, status: 401, reason: "missing_credential"},
	})
}

// Envoy refuses who cannot prove a certificate before anybody is asked.
func TestCertificatesThatEnvoyRefuses(t *testing.T) {
	m := newMTLSWorld(t)
	stolen := m.ca.issue(t, names{uris: []string{cartID}})
	stolen.PrivateKey = newPrivateKey(t)
	for name, config := range map[string]*tls.Config{
		"of another authority": m.with(m.other.issue(t, names{uris: []string{cartID}})),
		"expired":              m.as(t, names{uris: []string{cartID}, expired: time.Hour}),
		"without its key":      m.with(stolen),
		"none":                 m.with(tls.Certificate{}),
	} {
		asked, reached := m.counters(t, envoy.ListenerIngress), m.upstream.Requests()
		resp, err := m.trySend(envoy.ListenerIngress, request{tls: config, line: "GET /stock/1", headers: []string{bearer(m.bob)}})
		if err == nil {
			t.Errorf("%s: status %d", name, resp.status)
		}
		if moved := m.counters(t, envoy.ListenerIngress).minus(asked); moved != (counters{}) || m.upstream.Requests() != reached {
			t.Errorf("%s: counters moved by %v, %d requests reached the upstream", name, moved, m.upstream.Requests()-reached)
		}
	}
	if resp := m.send(t, envoy.ListenerIngress, request{tls: m.as(t, names{uris: []string{cartID}}), line: "GET /stock/1"}); resp.status != 200 {
		t.Errorf("a good one: status %d", resp.status)
	}
}

// A resumed session has the certificate of the one it resumes, and no other.
func TestResumedSessionsKeepTheirCertificate(t *testing.T) {
	m := newMTLSWorld(t)
	for id, want := range map[string]int{cartID: 200, idleID: 403, unknownID: 401} {
		config := m.as(t, names{uris: []string{id}})
		config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		resumed := false
		config.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
		for range 3 {
			if resp := m.send(t, envoy.ListenerIngress, request{tls: config, line: "GET /stock/1"}); resp.status != want {
				t.Errorf("%s: status %d, want %d (resumed: %v)", id, resp.status, want, resumed)
			}
		}
		if !resumed {
			t.Errorf("%s: no session was resumed", id)
		}
	}
}

// The certificate beside another credential is the actor: in the decision log and in
// the metadata that Envoy's access log reads.
func TestActorIsRecorded(t *testing.T) {
	m := newMTLSWorld(t)
	cart := m.as(t, names{uris: []string{cartID}})
	type record struct {
		Effect, Actor string
		Principal     struct{ Kind, ID string }
		Proof         struct{ By, SPIFFE string }
	}
	cases := []struct {
		request request // each for a path of its own
		logged  string  // effect, actor, principal, proof and its SPIFFE id
		access  string  // actor, kind and subject
	}{
		{request{tls: cart, line: "GET /stock/token", headers: []string{bearer(m.bob)}},
			"allow " + cartID + " user:bob jwt ", cartID + " user bob"},
		{request{tls: cart, line: "GET /who", headers: []string{clientKey(m.ci)}},
			"allow " + cartID + " client:ci client_key ", cartID + " client ci"},
		{request{tls: cart, line: "GET /stock/alone"},
			"allow  workload:cart mtls " + cartID, "null workload cart"},
		{request{tls: cart, line: "GET /posts/alone"},
			"deny " + cartID + " : none ", cartID + " null null"},
		{request{tls: m.as(t, names{dns: []string{"cart.shop.example.org"}}), line: "GET /stock/dns"},
			"deny cart.shop.example.org : none ", "cart.shop.example.org null null"},
		{request{tls: cart, line: "GET /healthz"},
			"allow " + cartID + " : none ", "null null null"},
	}
	for _, c := range cases {
		m.send(t, envoy.ListenerIngress, c.request)
	}
	for _, c := range cases {
		var r record
		about(t, c.request, &r, m.Decisions)
		if got := r.Effect + " " + r.Actor + " " + r.Principal.Kind + ":" + r.Principal.ID + " " + r.Proof.By + " " + r.Proof.SPIFFE; got != c.logged {
			t.Errorf("%s: logged as %q, want %q", c.request.line, got, c.logged)
		}
		var fields map[string]*string
		about(t, c.request, &fields, func() string { b, _ := os.ReadFile(m.accessLog); return string(b) })
		text := func(key string) string {
			if fields[key] == nil {
				return "null"
			}
			return *fields[key]
		}
		if got := text("actor") + " " + text("kind") + " " + text("subject"); got != c.access {
			t.Errorf("%s: Envoy's metadata has %q, want %q", c.request.line, got, c.access)
		}
	}
}

// about reads the line of a log that is about the path of a request, which both logs
// write a while after the answer: Envoy every ten seconds.
func about(t *testing.T, r request, into any, log func() string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(log()) {
			if !strings.HasSuffix(line, "\n") || !strings.Contains(line, `"path":"`+r.path()+`"`) {
				continue
			}
			if err := json.Unmarshal([]byte(line), into); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			return
		}
	}
	t.Fatalf("no line is about %s:\n%s", r.path(), log())
}
