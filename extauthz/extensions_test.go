package extauthz

import (
	"slices"
	"testing"
)

func TestContextExtensions(t *testing.T) {
	type extensions = map[string]string
	for mode, cases := range map[ContextExtensions][]struct {
		want string
		path string
		who  string
		ext  extensions
	}{
		ContextExtensionsNarrow: {
			{"ok", "/posts/1", "bob", extensions{"other": "x"}},
			{"ok", "/posts/1", "bob", extensions{"permission": "view_content"}},
			{"missing_permission", "/posts/1", "bob", extensions{"permission": "edit_content"}},
			{"missing_permission", "/posts/1", "bob", extensions{"permission": "no_such"}},
			{"missing_permission", "/posts/1", "ann", extensions{"permission": ""}},
			{"missing_permission", "/posts/1", "bob", extensions{"rule": "edit-post"}},
			{"ok", "/posts/1", "ann", extensions{"rule": "edit-post"}},
			{"ok", "/posts/1", "ann", extensions{"rule": "edit-post", "permission": "view_content"}},
			{"no_rule", "/posts/1", "ann", extensions{"rule": "no-such"}},
			{"no_rule", "/posts/1", "ann", extensions{"rule": ""}},
			{"no_rule", "/nowhere", "ann", extensions{"rule": "health"}},
			{"no_rule", "/nowhere", "ann", extensions{"permission": "view_content"}},
			{"missing_permission", "/posts/1", "eve", extensions{"rule": "health"}},
			{"missing_credential", "/healthz", "", extensions{"permission": "view_content"}},
			{"ok", "/healthz", "bob", extensions{"permission": "view_content"}},
			{"wrong_tenant", "/everyone", "globex/gil", extensions{"rule": "read-post"}},
			{"wrong_tenant", "/healthz", "globex/gil", extensions{"permission": "view_content"}},
			{"ok", "/partner/x", "globex/gil", extensions{"permission": "view_content"}},
			{"ambiguous_request", "/files/a%2fb", "ann", extensions{"rule": "root"}},
		},
		ContextExtensionsReplace: {
			{"ok", "/nowhere", "bob", extensions{"rule": "read-post"}},
			{"ok", "/nowhere", "bob", extensions{"permission": "view_content"}},
			{"ok", "/nowhere", "", extensions{"rule": "health"}},
			{"missing_credential", "/healthz", "", extensions{"permission": "view_content"}},
			{"missing_permission", "/posts/1", "bob", extensions{"rule": "edit-post"}},
			{"no_rule", "/healthz", "ann", extensions{"rule": "no-such"}},
			{"no_rule", "/healthz", "ann", extensions{"rule": ""}},
			{"missing_permission", "/healthz", "ann", extensions{"permission": ""}},
			{"wrong_tenant", "/everyone", "globex/gil", extensions{"permission": "view_content"}},
			{"no_rule", "/nowhere", "bob", extensions{"other": "x"}},
			{"ok", "/posts/1", "bob", extensions{"other": "x"}},
			{"ambiguous_request", "/a%2fb", "ann", extensions{"permission": "view_content"}},
			{"ok", "/a%2fb", "ann", extensions{"rule": "files"}},
			{"ambiguous_request", "/a/../b", "ann", extensions{"rule": "files"}},
		},
		ContextExtensionsIgnore: {
			{"ok", "/posts/1", "bob", extensions{"permission": "edit_content"}},
			{"ok", "/posts/1", "bob", extensions{"rule": ""}},
			{"no_rule", "/nowhere", "ann", extensions{"rule": "health"}},
		},
	} {
		g := newGate(t, func(cfg *Config) { cfg.ContextExtensions = mode })
		for _, c := range cases {
			var headers map[string]string
			if c.who != "" {
				headers = bearer(g.token(c.who))
			}
			if got := g.verdict(request{path: c.path, headers: headers, extensions: c.ext}); got != c.want {
				t.Errorf("%s: %s asks for %s with %v: got %s, want %s", mode, c.who, c.path, c.ext, got, c.want)
			}
		}
	}
}

func TestForwardingTakesEveryRuleOfTheDemand(t *testing.T) {
	g := newGate(t, nil)
	ok := g.ask(request{path: "/files/a", headers: bearer(g.token("ann")), extensions: map[string]string{"rule": "root"}}).GetOkResponse()
	if !slices.Contains(ok.GetHeadersToRemove(), "authorization") {
		t.Error("the named rule does not forward credentials, and they were forwarded")
	}
}
