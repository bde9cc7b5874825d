package e2e

import (
	"fmt"
	"strings"
	"testing"

	"portcullis/envoy"
)

// TestNoRequestProvokesFailureModeAllow sends what might break the gate, while
// Envoy would let a request through that the gate failed on: all are denied.
func TestNoRequestProvokesFailureModeAllow(t *testing.T) {
	w := newWorld(t, worldConfig{binary: panicking, failureModeAllow: true})
	p := w.seed(t)
	long := func(name string, size int) string { return name + ": " + strings.Repeat("x", size) }
	denied := func(name string, status int, reason string, r request) scenario {
		return scenario{name: name, listener: permissive, request: r, answers: gate, status: status, reason: reason}
	}
	many := make([]string, 90)
	for i := range many {
		many[i] = fmt.Sprintf("X-Many-%d: %d", i, i)
	}
	w.run(t, []scenario{
		denied("a panic", 500, "internal", request{line: "GET /posts/1", headers: []string{bearer(p.root), "X-Plant-Panic: 1"}}),
		denied("a panic on a public page", 500, "internal", request{line: "GET /healthz", headers: []string{"X-Plant-Panic: 1"}}),
		denied("an oversized request", 413, "too_large", request{line: "GET /posts/1", headers: []string{bearer(p.root), long("X-Long", 1400<<10)}}),
		denied("an oversized path", 413, "too_large", request{line: "GET /posts/" + strings.Repeat("x", 1400<<10), headers: []string{bearer(p.root)}}),
		denied("an oversized token", 401, "invalid_token", request{line: "GET /posts/1", headers: []string{long("Authorization: Bearer x", 500<<10)}}),
		denied("an oversized client key", 401, "bad_key", request{line: "GET /posts/1", headers: []string{long("X-Client-Key", 500<<10)}}),
		denied("many headers and no credential", 401, "missing_credential", request{line: "GET /posts/1", headers: many}),
		denied("bytes that are no text", 401, "invalid_token", request{line: "GET /posts/1", headers: []string{"Authorization: Bearer \xff\xfe\x80"}}),
		{name: "the gate goes on", request: request{line: "GET /posts/1", headers: []string{bearer(p.bob)}}, identity: user("bob", "viewer")},
	})
	if n, err := w.envoy.Stat(t.Context(), envoy.AuthzStat(permissive, "failure_mode_allowed")); err != nil || n != 0 {
		t.Errorf("failure_mode_allowed is %d, %v", n, err)
	}
}
