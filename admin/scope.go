package admin

import (
	"net/http"
	"slices"

	"portcullis/internal/store"
)

// permits is the one place that says whether a key's scopes open a route. Only
// one scope holds another: manage may do every check.
func permits(held []store.Scope, need store.Scope) bool {
	if slices.Contains(held, need) {
		return true
	}
	return need == store.ScopeCheck && slices.Contains(held, store.ScopeManage)
}

func missingScope(need store.Scope) *failure {
	return &failure{
		status:  http.StatusForbidden,
		message: "This client key lacks the scope " + string(need) + ".",
	}
}
