package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portcullis/internal/testkit"
)

// A real OpenID provider logs a user in, and its access token passes through a real
// Envoy. The rotation of its keys is followed without a refused request, and while
// the provider is away, nothing changes for the keys that are known.
func TestOpenIDProvider(t *testing.T) {
	provider := testkit.RunOIDC(t)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(more string) {
		t.Helper()
		text := fmt.Sprintf(`version: 1
issuers:
  - issuer: %s
    discovery: true
    audiences: [%q]
    algorithms: [RS256]
    tenant: default
    subject_prefix: "op|"
    roles_claim: scope
    roles_map: {read: viewer}
%s
rules:
  - {name: me, path: /me, allow: authenticated}
  - {name: read, path: "/posts/{id}", require: view_content}
  - {name: admin, path: /admin, require: administer}
`, provider.Issuer, testkit.OIDCAudience, more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	w := newWorld(t, worldConfig{policy: file})
	for _, line := range []string{"role add viewer", "permission add viewer view_content", "role add admin", "permission add admin administer --wait"} {
		w.cli(t, strings.Fields(line)...)
	}
	login := func() string {
		t.Helper()
		token, err := provider.Login("amy")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	expect := func(what, token, path string, status int) response {
		t.Helper()
		got := w.send(t, "ingress", request{line: "GET " + path, headers: []string{bearer(token)}})
		if got.status != status {
			t.Fatalf("%s: %s: status %d, want %d: %s", what, path, got.status, status, got.body)
		}
		return got
	}

	first := login()
	expect("logged in", first, "/me", http.StatusOK)
	// The role comes with the token, what it may do from the store.
	expect("a role of the token", first, "/posts/1", http.StatusOK)
	expect("no such role", first, "/admin", http.StatusForbidden)
	w.cli(t, "member", "add", "op|amy", "admin", "--wait")
	expect("a role of the store", first, "/admin", http.StatusOK)
	expect("another signature", first[:len(first)-8]+"AAAAAAAA", "/me", http.StatusUnauthorized)

	// The provider signs with a new key, and every request passes: of the former
	// token and of the new one, the very first included.
	provider.Rotate()
	second := login()
	for range 20 {
		expect("after the rotation", second, "/posts/1", http.StatusOK)
		expect("of the former key", first, "/posts/1", http.StatusOK)
	}

	// The provider is gone. A reload of the policy in between loses no key.
	provider.Stop()
	write("    # a comment")
	digest := strings.Count(w.Log(), "policy reloaded")
	for end := time.Now().Add(20 * time.Second); strings.Count(w.Log(), "policy reloaded") == digest; {
		if time.Now().After(end) {
			t.Fatal("the policy was not reloaded")
		}
		time.Sleep(20 * time.Millisecond)
	}
	expect("without the provider", second, "/me", http.StatusOK)
	expect("without the provider, of the former key", first, "/posts/1", http.StatusOK)

	// `token inspect` has no keys of its own to go on, and says so.
	inspected := w.cliFails(t, "token", "inspect", second)
	if !strings.Contains(inspected, "no key of the issuer could be had") {
		t.Errorf("token inspect said\n%s", inspected)
	}
}
