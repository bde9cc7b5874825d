package store

// Action is the word of an audit row.
type Action string

// The actions that this version writes.
const (
	ActionCreateRole       Action = "CREATE_ROLE"
	ActionDeleteRole       Action = "DELETE_ROLE"
	ActionAddParent        Action = "ADD_PARENT"
	ActionRemoveParent     Action = "REMOVE_PARENT"
	ActionAddPermission    Action = "ADD_PERMISSION"
	ActionRemovePermission Action = "REMOVE_PERMISSION"
	ActionAddMembership    Action = "ADD_MEMBERSHIP"
	ActionRemoveMembership Action = "REMOVE_MEMBERSHIP"
	ActionCreateTenant     Action = "CREATE_TENANT"
	ActionAdmitTenant      Action = "ADMIT_TENANT"
	ActionCreateClientKey  Action = "CREATE_CLIENT_KEY"
	ActionRevokeClientKey  Action = "REVOKE_CLIENT_KEY"
	ActionCreateUserKey    Action = "CREATE_API_KEY"
	ActionRevokeUserKey    Action = "REVOKE_API_KEY"
	ActionUpdateSettings   Action = "UPDATE_SETTINGS"
	ActionCheckPermission  Action = "CHECK_PERMISSION"
	ActionCheckMembership  Action = "CHECK_MEMBERSHIP"
	ActionGetAudit         Action = "GET_AUDIT"
	ActionListRoles        Action = "LIST_ROLES"
	ActionListPermissions  Action = "LIST_PERMISSIONS"
	ActionAuthFailed       Action = "AUTHENTICATION_FAILED"
	ActionAuditOff         Action = "AUDIT_DISABLED"
	ActionAuditOn          Action = "AUDIT_ENABLED"
	ActionRenameTenant     Action = "RENAME_TENANT"
	ActionRotateKey        Action = "ROTATE_KEY"
	ActionDeny             Action = "DENY_TOKEN"
	ActionAllow            Action = "ALLOW_TOKEN"
	ActionPublishSigning   Action = "PUBLISH_SIGNING_KEY"
	ActionSignWith         Action = "SIGN_WITH_KEY"
	ActionWithdrawSigning  Action = "WITHDRAW_SIGNING_KEY"
	ActionIssueToken       Action = "ISSUE_TOKEN"
	ActionRefreshToken     Action = "REFRESH_TOKEN"
	ActionRevokeToken      Action = "REVOKE_TOKEN"
	ActionImport           Action = "IMPORT"
	ActionStartChain       Action = "AUDIT_CHAIN_STARTED"
	ActionRewrapChain      Action = "REWRAP_AUDIT_KEY"
	ActionPruneAudit       Action = "AUDIT_PRUNED"
	ActionRewrapKeys       Action = "REWRAP_ENCRYPTION_KEYS"
	ActionRotateEncryption Action = "ROTATE_ENCRYPTION"
)

// The actions of the API's other reads and checks. Like theirs, their rows are there
// where AUTH_AUDIT_CHECKS asks for them.
const (
	ActionListMemberships Action = "LIST_MEMBERSHIPS"
	ActionUserPermissions Action = "USER_PERMISSIONS"
	ActionListUserKeys    Action = "LIST_API_KEY"
	ActionValidateUserKey Action = "VALIDATE_API_KEY"
	ActionCheckUserKey    Action = "CHECK_API_KEY_PERMISSION"
	ActionGetSettings     Action = "GET_SETTINGS"
	ActionIntrospect      Action = "INTROSPECT_TOKEN"
	ActionListDenials     Action = "LIST_DENIALS"
)

// Actions are all that this version writes, for who selects among them.
func Actions() []Action {
	return []Action{
		ActionCreateRole,
		ActionDeleteRole,
		ActionAddParent,
		ActionRemoveParent,
		ActionAddPermission,
		ActionRemovePermission,
		ActionAddMembership,
		ActionRemoveMembership,
		ActionCreateTenant,
		ActionAdmitTenant,
		ActionCreateClientKey,
		ActionRevokeClientKey,
		ActionCreateUserKey,
		ActionRevokeUserKey,
		ActionUpdateSettings,
		ActionCheckPermission,
		ActionCheckMembership,
		ActionGetAudit,
		ActionListRoles,
		ActionListPermissions,
		ActionAuthFailed,
		ActionAuditOff,
		ActionAuditOn,
		ActionRenameTenant,
		ActionRotateKey,
		ActionDeny,
		ActionAllow,
		ActionPublishSigning,
		ActionSignWith,
		ActionWithdrawSigning,
		ActionIssueToken,
		ActionRefreshToken,
		ActionRevokeToken,
		ActionImport,
		ActionStartChain,
		ActionRewrapChain,
		ActionPruneAudit,
		ActionRewrapKeys,
		ActionRotateEncryption,
		ActionListMemberships,
		ActionUserPermissions,
		ActionListUserKeys,
		ActionValidateUserKey,
		ActionCheckUserKey,
		ActionGetSettings,
		ActionIntrospect,
		ActionListDenials,
	}
}
