package auditfilter

import (
	"slices"
	"strings"

	"portcullis/internal/store"
)

// verbs say which actions a word stands for: those that begin with one of its
// beginnings, or are called so.
func verbs() map[string][]string {
	making, removing := []string{"CREATE_", "ADD_"}, []string{"DELETE_", "REMOVE_"}
	return map[string][]string{
		"create":     making,
		"add":        making,
		"delete":     removing,
		"remove":     removing,
		"update":     {"UPDATE_", "RENAME_", "ADMIT_", "AUDIT_ENABLED", "AUDIT_DISABLED"},
		"rename":     {"RENAME_"},
		"admit":      {"ADMIT_"},
		"revoke":     {"REVOKE_"},
		"rotate":     {"ROTATE_", "REWRAP_"},
		"rewrap":     {"REWRAP_"},
		"deny":       {"DENY_"},
		"allow":      {"ALLOW_"},
		"publish":    {"PUBLISH_"},
		"sign":       {"SIGN_"},
		"withdraw":   {"WITHDRAW_"},
		"issue":      {"ISSUE_"},
		"refresh":    {"REFRESH_"},
		"import":     {"IMPORT"},
		"check":      {"CHECK_"},
		"validate":   {"VALIDATE_"},
		"introspect": {"INTROSPECT_"},
		"get":        {"GET_"},
		"list":       {"LIST_", "USER_PERMISSIONS"},
		"fail":       {"AUTHENTICATION_FAILED"},
		"enable":     {"AUDIT_ENABLED"},
		"disable":    {"AUDIT_DISABLED"},
		"start":      {"AUDIT_CHAIN_STARTED"},
		"prune":      {"AUDIT_PRUNED"},
	}
}

// Verbs are the words that stand for several actions, sorted.
func Verbs() []string {
	var out []string
	for verb := range verbs() {
		out = append(out, verb)
	}
	slices.Sort(out)
	return out
}

// selected are the actions that a word selects: those of a verb, and always the one
// of that name, which an import may have brought.
func selected(word string) []store.Action {
	out := []store.Action{store.Action(word)}
	beginnings := verbs()[strings.ToLower(word)]
	for _, action := range store.Actions() {
		if slices.ContainsFunc(beginnings, func(b string) bool { return begins(string(action), b) }) {
			out = append(out, action)
		}
	}
	return out
}

func begins(action, beginning string) bool {
	return action == beginning || strings.HasSuffix(beginning, "_") && strings.HasPrefix(action, beginning)
}
