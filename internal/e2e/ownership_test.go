package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portcullis/internal/testkit"
)

// TestOwnership has users edit what is theirs and try what is not, through a real
// Envoy.
func TestOwnership(t *testing.T) {
	w := newWorld(t, worldConfig{policy: "ownership.yaml"})
	for _, line := range []string{
		"role add editor",
		"permission add editor edit_content",
		"permission add editor view_content",
		"role add viewer",
		"permission add viewer view_content",
		"member add auth0|65f editor",
		"member add amy editor",
		"member add bob viewer",
	} {
		w.cli(t, strings.Fields(line)...)
	}
	// A client key that is named like the user, and has the role.
	impostor := w.cli(t, "key", "new", "--name", "amy")
	w.cli(t, "member", "add", "--kind", "client", "--id", "amy", "--role", "editor", "--wait")
	amy, bob, outside := bearer(signed(t, claims{Subject: "amy"})), bearer(signed(t, claims{Subject: "bob"})), bearer(signed(t, claims{Subject: "auth0|65f"}))

	put := func(path string, headers ...string) request { return request{line: "PUT " + path, headers: headers} }
	denied := func(name string, status int, reason string, r request) scenario {
		return scenario{name: name, request: r, answers: gate, status: status, reason: reason}
	}
	raw := func(s scenario) scenario { s.listener = permissive; return s }
	own := user("amy", "editor")
	w.run(t, []scenario{
		{name: "their own", request: put("/users/amy/posts/1", amy), identity: own},
		{name: "their own, spelled with %61", request: put("/users/%61my/posts/1", amy), identity: own, path: "/users/amy/posts/1"},
		{name: "their own, a name with a bar", request: put("/users/auth0%7C65f/posts/1", outside), identity: user("auth0|65f", "editor")},
		raw(scenario{name: "their own, %61 as it came", request: put("/users/%61my/posts/1", amy), identity: own}),
		raw(scenario{name: "their own, %7c in small letters", request: put("/users/auth0%7c65f/posts/1", outside), identity: user("auth0|65f", "editor")}),

		denied("another's", 403, "condition_false", put("/users/bob/posts/1", amy)),
		denied("in another case", 403, "condition_false", put("/users/Amy/posts/1", amy)),
		raw(denied("encoded twice", 400, "ambiguous_request", put("/users/%2561my/posts/1", amy))),
		raw(denied("encoded twice, a bar", 400, "ambiguous_request", put("/users/auth0%257C65f/posts/1", outside))),
		raw(denied("a slash twice", 403, "no_rule", put("/users//amy/posts/1", amy))),
		raw(denied("by way of another", 400, "ambiguous_request", put("/users/bob/../amy/posts/1", amy))),
		raw(denied("an encoded slash in the name", 400, "ambiguous_request", put("/users/amy%2F/posts/1", amy))),
		denied("a client key named like the user", 403, "condition_false", put("/users/amy/posts/1", clientKey(impostor))),
		denied("without the role", 403, "missing_permission", put("/users/bob/posts/1", bob)),
		denied("nobody", 401, "missing_credential", put("/users/amy/posts/1")),

		// Envoy's generated configuration hands over the headers that conditions read.
		{name: "a header that a condition reads", request: request{line: "GET /desk", headers: []string{bob, "X-Desk: news"}}, identity: user("bob", "viewer")},
		denied("another value", 403, "condition_false", request{line: "GET /desk", headers: []string{bob, "X-Desk: sport"}}),
		denied("the header twice", 403, "condition_error", request{line: "GET /desk", headers: []string{bob, "X-Desk: news", "X-Desk: sport"}}),
		denied("the header twice, in another case", 403, "condition_error", request{line: "GET /desk", headers: []string{bob, "X-Desk: news", "x-DESK: news"}}),
		denied("without the header", 403, "condition_error", request{line: "GET /desk", headers: []string{bob}}),

		// A shadow rule asks for more, and changes nothing.
		{name: "under a shadow rule that would deny", request: request{line: "GET /posts/1", headers: []string{bob}}, identity: user("bob", "viewer")},
	})
	resp, err := http.Get("http://" + w.Metrics() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `portcullis_shadow_decisions_total{effect="deny",reason="missing_permission",rule="try-editors"} 1`; !strings.Contains(string(metrics), want) {
		t.Errorf("the shadow's verdict was not counted")
	}
	w.diffDraft(t)
}

// diffDraft replays the gate's own decision log against a draft of its policy, with
// the roles of its store.
func (w *world) diffDraft(t *testing.T) {
	// The log is written behind the answers; the last request's line is the last.
	for end := time.Now().Add(10 * time.Second); !strings.Contains(w.Decisions(), `"path":"/posts/1"`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the last decision was not logged")
		}
	}
	decisions := filepath.Join(t.TempDir(), "decisions.jsonl")
	if err := os.WriteFile(decisions, []byte(w.Decisions()), 0o600); err != nil {
		t.Fatal(err)
	}
	running, err := filepath.Abs(filepath.Join("testdata", "ownership.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), w.binary, "policy", "diff", running, strings.Replace(running, ".yaml", "-draft.yaml", 1), "--decisions", decisions, "--json")
	cmd.Dir, cmd.Env = w.config.Dir, testkit.PortcullisEnv(w.config.Env...)
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("policy diff: %v", err)
	}
	var report struct {
		NewlyDenied  int            `json:"newly_denied"`
		NewlyAllowed int            `json:"newly_allowed"`
		Undecidable  map[string]int `json:"undecidable"`
		Drifted      int            `json:"drifted"`
		Changes      []struct {
			Change    string `json:"change"`
			OldReason string `json:"old_reason"`
			NewReason string `json:"new_reason"`
			Count     int    `json:"count"`
		} `json:"changes"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	// Bob may no longer read; amy may write to bob's page and to Amy's, and so may the
	// client key that is named like her. What the desk's header decided stays so.
	if report.NewlyDenied != 1 || report.NewlyAllowed != 3 || len(report.Undecidable) != 0 || report.Drifted != 0 || len(report.Changes) != 2 {
		t.Errorf("got %s", out)
	}
}
