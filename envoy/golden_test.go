package envoy

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"portcullis/internal/testkit"
	"portcullis/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// bootstraps are the option sets whose output is kept under testdata. TLS files
// stand in a folder that the test against a real Envoy fills.
var bootstraps = map[string]Options{
	"default": {Upstream: "127.0.0.1:8080"},
	"unix-grpc": {
		Listen:           "0.0.0.0:443",
		ListenTLS:        &ServerTLS{CertFile: "tls/ingress.pem", KeyFile: "tls/ingress-key.pem"},
		Upstream:         "unix:///run/blog.sock",
		UpstreamProtocol: UpstreamHTTP2,
		Gate:             "unix:///run/portcullis/extauthz.sock",
	},
	"mtls-dns": {
		Upstream: "blog.internal:8080",
		Gate:     "gate.internal:9191",
		GateTLS:  &ClientTLS{CAFile: "tls/ca.pem", CertFile: "tls/envoy.pem", KeyFile: "tls/envoy-key.pem"},
	},
	"client-certs": {
		Listen:    "0.0.0.0:443",
		ListenTLS: &ServerTLS{CertFile: "tls/ingress.pem", KeyFile: "tls/ingress-key.pem", ClientCAFile: "tls/ca.pem"},
		Upstream:  "127.0.0.1:8080",
		Gate:      "unix:///run/portcullis/extauthz.sock",
	},
	"client-certs-optional": {
		Listen:    "0.0.0.0:443",
		ListenTLS: &ServerTLS{CertFile: "tls/ingress.pem", KeyFile: "tls/ingress-key.pem", ClientCAFile: "tls/ca.pem", ClientCertOptional: true},
		Upstream:  "127.0.0.1:8080",
		Gate:      "unix:///run/portcullis/extauthz.sock",
	},
	"opt-ins-fail-open": {
		Upstream:         "[::1]:8080",
		UpstreamProtocol: UpstreamSame,
		Gate:             "127.0.0.1:9191",
		GateTLS:          &ClientTLS{CAFile: "tls/ca.pem"},
		OptIns:           policy.FlagEncodedSlash | policy.FlagDoubleSlash | policy.FlagSemicolon,
		FailureModeAllow: true,
	},
	"permissive": {
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Permissive: "127.0.0.1:0",
		Upstream: "127.0.0.1:8080", UpstreamProtocol: UpstreamSame,
		Gate: "unix:///run/portcullis/extauthz.sock",
		GateTLS: &ClientTLS{
			CAFile: "tls/ca.pem", ServerName: "portcullis.internal",
		},
	},
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run with -update to write it", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the output has changed; run with -update and read the difference.\ngot:\n%s", file, got)
	}
}

func TestBootstrapGoldens(t *testing.T) {
	for name, options := range bootstraps {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".yaml", bootstrapYAML(t, options))
		})
	}
}

func TestFragmentGoldens(t *testing.T) {
	parts, err := Fragment(bootstraps["mtls-dns"])
	if err != nil {
		t.Fatal(err)
	}
	text, err := parts.YAML()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "fragment.yaml", text)
	if text, err = parts.JSON(); err != nil {
		t.Fatal(err)
	}
	golden(t, "fragment.json", text)
}

// TestBothFormatsReadBack holds both encodings to the message that was encoded.
func TestBothFormatsReadBack(t *testing.T) {
	for name, options := range bootstraps {
		want, err := Bootstrap(options)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := JSON(want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got bootstrapv3.Bootstrap
		if err := protojson.Unmarshal(text, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("%s: JSON reads back as something else: %v", name, err)
		}
		if text, err = json.Marshal(yamlToAny(t, bootstrapYAML(t, options))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got.Reset()
		if err := protojson.Unmarshal(text, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("%s: YAML reads back as something else: %v", name, err)
		}
	}
}

// TestEnvoyAcceptsTheGoldens asks a real Envoy.
func TestEnvoyAcceptsTheGoldens(t *testing.T) {
	bin := testkit.RequireEnvoy(t)
	dir := t.TempDir()
	ca := newAuthority(t)
	for _, name := range []string{"ingress", "envoy"} {
		ca.issue(t, dir, name, name+".internal")
	}
	ca.write(t, dir)
	for name, options := range bootstraps {
		t.Run(name, func(t *testing.T) {
			text := bytes.ReplaceAll(bootstrapYAML(t, options), []byte("tls/"), []byte(dir+"/"))
			if err := testkit.ValidateEnvoy(t.Context(), bin, text); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOptionsThatAreWrongAreNamed(t *testing.T) {
	for field, options := range map[string]Options{
		"Upstream: name where":       {},
		"Listen:":                    {Upstream: "a:1", Listen: "localhost:80"},
		"Admin:":                     {Upstream: "a:1", Admin: "9901"},
		"Gate:":                      {Upstream: "a:1", Gate: "127.0.0.1:0"},
		"Gate: \"unix://run":         {Upstream: "a:1", Gate: "unix://run/sock"},
		"Upstream: \"a:b\"":          {Upstream: "a:b"},
		"Permissive:":                {Upstream: "a:1", Permissive: ":80"},
		"UpstreamProtocol:":          {Upstream: "a:1", UpstreamProtocol: 9},
		"ListenTLS: name both":       {Upstream: "a:1", ListenTLS: &ServerTLS{CertFile: "c"}},
		"ListenTLS: name the CA":     {Upstream: "a:1", ListenTLS: &ServerTLS{CertFile: "c", KeyFile: "k", ClientCertOptional: true}},
		"GateTLS: name the CA":       {Upstream: "a:1", GateTLS: &ClientTLS{}},
		"GateTLS: name both":         {Upstream: "a:1", GateTLS: &ClientTLS{CAFile: "c", KeyFile: "k"}},
		"GateTLS: a unix socket":     {Upstream: "a:1", Gate: "unix:///s", GateTLS: &ClientTLS{CAFile: "c"}},
		"Upstream: \"unix://run/s\"": {Upstream: "unix://run/s"},
	} {
		if _, err := Bootstrap(options); err == nil || !bytes.Contains([]byte(err.Error()), []byte(field)) {
			t.Errorf("Bootstrap: %v; want an error that has %q", err, field)
		}
	}
	_, err := Bootstrap(Options{Listen: "x", Admin: "y"})
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) {
		t.Errorf("not every fault is reported: %v", err)
	}
}

func TestGateAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:9191":                         "127.0.0.1:9191",
		"0.0.0.0:9191":                           "127.0.0.1:9191",
		":9191":                                  "127.0.0.1:9191",
		"[::]:9191":                              "[::1]:9191",
		"gate.internal:9191":                     "gate.internal:9191",
		"127.0.0.1:9191, unix:///run/gate.sock":  "unix:///run/gate.sock",
		"unix:///run/gate.sock,unix:///run/b.so": "unix:///run/gate.sock",
	} {
		if got, err := GateAddress(listen); err != nil || got != want {
			t.Errorf("GateAddress(%q) = %q, %v; want %q", listen, got, err, want)
		}
	}
	for _, listen := range []string{"", "9191", "127.0.0.1:0", "unix://relative"} {
		if got, err := GateAddress(listen); err == nil {
			t.Errorf("GateAddress(%q) = %q, want an error", listen, got)
		}
	}
}

func TestOptInsComeFromThePolicy(t *testing.T) {
	p, err := policy.Compile([]byte(`
version: 1
rules:
  - {name: health, path: /healthz, allow: anonymous}
  - {name: files, path: "/files/{name...}", require: read_files, allow_encoded_slash: true}
  - {name: matrix, path: "/matrix/{cell}", require: read_matrix, allow_semicolon: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := OptIns(p), policy.FlagEncodedSlash|policy.FlagSemicolon; got != want {
		t.Errorf("OptIns = %v, want %v", got, want)
	}
	if got := OptIns(policy.Empty()); got != 0 {
		t.Errorf("an empty policy opts into %v", got)
	}
}
