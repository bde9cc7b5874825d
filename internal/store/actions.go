package store

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
