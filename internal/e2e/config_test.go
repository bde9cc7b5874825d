package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/testkit"
)

// TestRulesThatOptIn runs Envoy on the configuration of a policy whose rules opt
// in to encoded and double slashes.
func TestRulesThatOptIn(t *testing.T) {
	w := newWorld(t, worldConfig{policy: "opt-ins.yaml"})
	p := w.seed(t)
	w.useOwnConfig(t, false)
	headers := []string{bearer(p.bob)}
	ambiguous := func(line string) scenario {
		return scenario{name: line, request: request{line: line, headers: headers}, answers: gate, status: 400, reason: "ambiguous_request"}
	}
	allowed := func(line string) scenario {
		return scenario{name: line, request: request{line: line, headers: headers}, identity: user("bob", "viewer")}
	}
	w.run(t, []scenario{
		allowed("GET /files/a%2Fb"), allowed("GET /files/a%2fb"),
		allowed("GET /mirror/https://example.com//x"),
		ambiguous("GET /files//b"), ambiguous("GET /mirror/a%2fb"), ambiguous("GET /posts//1"), ambiguous("GET /files/a%5cb"),
		{name: "dot segments are mended all the same", request: request{line: "GET /files/../posts/1", headers: headers}, path: "/posts/1", identity: user("bob", "viewer")},
	})
}

// TestEnvoyAcceptsWhatTheCommandPrints asks Envoy about both forms.
func TestEnvoyAcceptsWhatTheCommandPrints(t *testing.T) {
	bin := testkit.RequireEnvoy(t)
	binary, err := portcullis()
	if err != nil {
		t.Fatal(err)
	}
	policyFile, err := filepath.Abs("testdata/opt-ins.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{binary: binary, config: testkit.GateConfig{Dir: t.TempDir(), Env: []string{"AUTH_POLICY_FILE=" + policyFile}}}
	for _, format := range []string{"yaml", "json"} {
		out := w.cli(t, "envoy", "config", "--upstream", "127.0.0.1:8080", "--format", format)
		if !strings.Contains(out, "KEEP_UNCHANGED") {
			t.Errorf("%s: the policy's opt-ins are not in the configuration", format)
		}
		if err := testkit.ValidateEnvoy(t.Context(), bin, []byte(out)); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}
