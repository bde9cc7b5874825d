package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portcullis/internal/sealing"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

// What is sealed in the database must not be readable beside it: neither the
// service's log, at its most talkative, nor a metric names a user, a permission, a
// description or a label, whatever goes wrong.
func TestLogsAndMetricsNameNobody(t *testing.T) {
	p := newPlace(t, "AUTH_LOG_LEVEL=debug", "AUTH_ENABLE_ENCRYPTION=true", "AUTH_ENCRYPTION_KEY="+sealing.NewMaster(),
		"AUTH_AUDIT_CHECKS=true", "AUTH_DECISION_LOG=off", "AUTH_CACHE_MEMORY=1MiB", "AUTH_CLIENT_KEY=11111111-1111-4111-8111-111111111111")
	const rules = `version: 1
rules:
  - {name: edit, methods: [PUT], path: "/posts/{id}", require: nameless_edit}
  - {name: me, path: /me, allow: authenticated}
`
	policyFile := p.write("policy.yaml", rules)
	s := p.start("serve", "--policy-file", policyFile)
	const user, other, permission = "nameless-ulrike@example.com", "nameless-victor", "nameless_edit"
	conn := s.dial()
	check := func(token string, want string, more ...[2]string) {
		t.Helper()
		v, err := ask(t.Context(), conn, question{method: "PUT", path: "/posts/1", host: "localhost", scheme: "http",
			headers: append([][2]string{{policy.HeaderAuthorization, "Bearer " + token}}, more...)})
		if err != nil || v.Reason != want {
			t.Errorf("a check: %+v, %v, want %s", v, err, want)
		}
	}
	call := func(method, path string, want int) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr("admin")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer 11111111-1111-4111-8111-111111111111")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != want {
			t.Errorf("%s %s: %d %s, %v, want %d", method, path, response.StatusCode, body, err, want)
		}
	}

	p.run("role", "add", "editor", "--description", "nameless description")
	p.run("permission", "add", "editor", permission)
	p.run("member", "add", user, "editor", "--wait")
	apiKey := strings.TrimSpace(p.run("user-key", "new", user, "--label", "nameless label"))
	token := strings.TrimSpace(p.run("token", "issue", user))
	stranger := strings.TrimSpace(p.run("token", "issue", other))
	check(token, "ok")
	check(apiKey, "ok")
	check(stranger, "missing_permission")
	check(stranger[:len(stranger)-4]+"AAAA", "invalid_token")
	check(token, "conflicting_credentials", [2]string{policy.HeaderAuthorization, "Bearer " + stranger})
	call("POST", "/api/membership/"+other+"/editor?wait=all", 200)
	check(stranger, "ok")
	for path, want := range map[string]int{
		"/api/has_permission/" + user + "/" + permission: 200, "/api/membership/" + user + "/editor": 200,
		"/api/permission/editor/" + permission: 200, "/api/has_permission/" + user + "/nameless%20name": 400,
		"/api/" + user + "/" + permission: 404, "/api/audit": 200, "/api/roles": 200,
	} {
		call("GET", path, want)
	}
	call("PATCH", "/api/membership/"+user+"/editor", 405)
	call("DELETE", "/api/membership/"+other+"/editor?wait=all&timeout=nameless", 400)
	call("DELETE", "/api/membership/"+other+"/editor?wait=all", 200)

	// The rotation of all keys, and what comes of rows that were tampered with.
	p.run("rotate", "encryption", "--deep")
	check(token, "ok")
	file := filepath.Join(p.dir, ".auth.sqlite3")
	tamper := func(statement string) {
		t.Helper()
		if _, err := testkit.SQLite(t.Context(), file, statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		"UPDATE memberships SET principal_id = principal_id || 'x'", "UPDATE permissions SET name = name || 'x'",
		"UPDATE roles SET description = description || 'x'", "UPDATE user_keys SET label = label || 'x', user_id = user_id || 'x'",
		"UPDATE audit SET sealed = sealed || 'x' WHERE sealed IS NOT NULL",
	} {
		tamper(statement)
	}
	p.run("role", "add", "viewer", "--wait") // the role table is loaded anew
	p.run("tenant", "strict", "on", "--wait")
	p.run("tenant", "strict", "off", "--wait")
	call("GET", "/api/roles", 500)
	call("GET", "/api/audit", 500)

	// The store breaks under it.
	tamper("ALTER TABLE memberships RENAME TO gone")
	call("POST", "/api/membership/"+other+"/editor", 500)
	check(strings.TrimSpace(p.run("token", "issue", "nameless-wilma")), "store_unavailable")
	tamper("ALTER TABLE gone RENAME TO memberships")
	tamper("ALTER TABLE audit RENAME TO gone")
	call("POST", "/api/membership/"+other+"/editor", 500)
	call("GET", "/api/has_permission/"+other+"/"+permission, 500)

	_, metrics := s.get("/metrics")
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	log := s.stderr.String()
	for _, want := range []string{`"level":"ERROR"`, "/api/membership/{user}/{group}", "does not open"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s, so this test provoked less than it should:\n%s", want, log)
		}
	}
	for what, text := range map[string]string{"the log": log, "a metric": metrics} {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "nameless") || strings.Contains(line, token) || strings.Contains(line, apiKey) {
				t.Errorf("%s tells who: %s", what, line)
			}
		}
	}
}
