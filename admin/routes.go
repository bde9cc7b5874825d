package admin

import (
	"net/http"

	"portcullis/internal/store"
)

// route is one row of the API. The row alone decides who may call it, which
// names are admitted and what the body looks like; handlers see only requests
// that passed.
type route struct {
	method   string
	pattern  string      // {parameter} is one segment
	names    []nameRule  // one for each parameter, in order
	scope    store.Scope // what the client key must hold; "" is public
	writes   bool        // it returns a revision and honours wait=all
	envelope envelope    // of the 200; every error is J
	action   store.Action
	handle   func(*call) (reply, error)
}

// routeTable is the whole API.
func (a *API) routeTable() []route {
	const (
		get, post     = http.MethodGet, http.MethodPost
		put, del      = http.MethodPut, http.MethodDelete
		check, manage = store.ScopeCheck, store.ScopeManage
		keys, audit   = store.ScopeKeys, store.ScopeAudit
		bare, wrapped = envelopeBare, envelopeWrapped
		raw           = envelopeRaw
	)
	role := []nameRule{ruleRole}
	permission := []nameRule{ruleGroup, rulePermission}
	membership := []nameRule{ruleMemberUser, ruleMemberRole}
	userPermission := []nameRule{ruleUser, rulePermission}
	user := []nameRule{ruleUser}
	permissionName := []nameRule{rulePermission}
	workflow := []nameRule{ruleWorkflow}
	canRun := []nameRule{ruleMemberUser, ruleWorkflow}
	userKey := []nameRule{ruleUser, ruleKeyID}

	return []route{
		{get, "/ping", nil, "", false, raw, "", a.ping},
		{get, "/health", nil, "", false, raw, "", a.healthy},

		{post, "/api/role/{role}", role, manage, true, bare, store.ActionCreateRole, a.createRole},
		{del, "/api/role/{role}", role, manage, true, wrapped, store.ActionDeleteRole, a.deleteRole},
		{get, "/api/roles", nil, manage, false, bare, store.ActionListRoles, a.listRoles},

		{post, "/api/permission/{group}/{name}", permission, manage, true, bare, store.ActionAddPermission, a.addPermission},
		{del, "/api/permission/{group}/{name}", permission, manage, true, bare, store.ActionRemovePermission, a.removePermission},
		{get, "/api/permission/{group}/{name}", permission, check, false, bare, store.ActionCheckPermission, a.checkRolePermission},

		{post, "/api/membership/{user}/{group}", membership, manage, true, bare, store.ActionAddMembership, a.addMembership},
		{del, "/api/membership/{user}/{group}", membership, manage, true, bare, store.ActionRemoveMembership, a.removeMembership},
		{get, "/api/membership/{user}/{group}", membership, check, false, wrapped, store.ActionCheckMembership, a.checkMembership},

		{get, "/api/has_permission/{user}/{name}", userPermission, check, false, wrapped, store.ActionCheckPermission, a.checkUserPermission},
		{get, "/api/user_permissions/{user}", user, check, false, wrapped, store.ActionUserPermissions, a.userPermissions},
		{get, "/api/role_permissions/{role}", role, manage, false, wrapped, store.ActionListPermissions, a.rolePermissions},
		{get, "/api/user_roles/{user}", user, manage, false, bare, store.ActionListMemberships, a.userRoles},
		{get, "/api/members/{role}", role, manage, false, bare, store.ActionListMemberships, a.roleMembers},
		{get, "/api/which_roles_can/{name}", permissionName, manage, false, bare, store.ActionListRoles, a.rolesThatCan},
		{get, "/api/which_users_can/{name}", permissionName, manage, false, bare, store.ActionListMemberships, a.usersThatCan},

		{get, "/api/workflow/users/{workflow}", workflow, manage, false, wrapped, store.ActionListMemberships, a.workflowUsers},
		{get, "/api/workflow/user/{user}/can_run/{workflow}", canRun, check, false, wrapped, store.ActionCheckPermission, a.checkWorkflow},

		{post, "/api/apikeys/user/{user}", user, keys, true, wrapped, store.ActionCreateUserKey, a.createUserKey},
		{get, "/api/apikeys/user/{user}", user, keys, false, wrapped, store.ActionListUserKeys, a.listUserKeys},
		{del, "/api/apikeys/user/{user}/{key_id}", userKey, keys, true, wrapped, store.ActionRevokeUserKey, a.revokeUserKey},
		{post, "/api/apikeys/validate", nil, keys, false, wrapped, store.ActionValidateUserKey, a.validateKey},
		{post, "/api/apikeys/check_permission", nil, check, false, wrapped, store.ActionCheckUserKey, a.checkKeyPermission},

		{get, "/api/settings", nil, manage, false, wrapped, store.ActionGetSettings, a.readSettings},
		{put, "/api/settings", nil, manage, true, wrapped, store.ActionUpdateSettings, a.writeSettings},

		{get, "/api/audit", nil, audit, false, wrapped, store.ActionGetAudit, a.readAudit},
		{get, "/api/audit/export", nil, audit, false, raw, store.ActionGetAudit, a.exportAudit},
	}
}
