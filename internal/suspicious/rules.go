package suspicious

import (
	"slices"
	"time"

	"portcullis/internal/store"
)

// Rule is one thing that is looked for.
type Rule struct {
	ID       string // stable, in kebab-case
	Severity Severity
	// Short is what it finds, in one line.
	Short string
	// Actions are those of the rows that it reads; nil is any.
	Actions []store.Action
	// Threshold is the default one of a burst, such as "20 within 10m"; "" where one row
	// is enough.
	Threshold string
}

// The ids of the rules.
const (
	WidePermission  = "wide-permission"
	WideRole        = "wide-role"
	RoleDeleted     = "role-deleted"
	MassRemoval     = "mass-removal"
	PowerfulKey     = "powerful-client-key"
	EndlessKey      = "endless-user-key"
	AddressFailures = "auth-failures-address"
	AllFailures     = "auth-failures-total"
	Refusals        = "refused-operations"
	AuditOff        = "audit-off"
	AuditPruned     = "audit-pruned"
	AuditChain      = "audit-chain"
	EncryptionOff   = "encryption-off"
	SigningKey      = "signing-key"
	UnreadableRow   = "unreadable-row"
)

type rule struct {
	Rule
	// see reads a row. It is false where the row does not say in our form what the rule
	// wants to know.
	see   func(*Detector, *rule, *store.AuditEntry) bool
	burst func(*Config) burstRule // nil where one row is enough
}

// burstRule is what a rule about bursts counts, and how.
type burstRule struct {
	Threshold
	unit time.Duration
	what func(who) string
}

func (r *rule) looksAt(action store.Action) bool {
	return r.Actions == nil || slices.Contains(r.Actions, action)
}

// Rules are all rules, in the order in which they are shown.
func Rules() []Rule {
	defaults, _ := Config{}.withDefaults()
	list := make([]Rule, 0, len(rules))
	for _, r := range rules {
		out := r.Rule
		out.Actions = slices.Clone(r.Actions)
		if r.burst != nil {
			out.Threshold = r.burst(&defaults).Threshold.String()
		}
		list = append(list, out)
	}
	return list
}

var rules = []rule{
	{Rule: Rule{WidePermission, High, "a permission was granted whose name says that it permits much",
		[]store.Action{store.ActionAddPermission}, ""}, see: seeWidePermission},
	{Rule: Rule{WideRole, Medium, "a role with a wide name got a member or an heir",
		[]store.Action{store.ActionAddMembership, store.ActionAddParent}, ""}, see: seeWideRole},
	{Rule: Rule{RoleDeleted, Medium, "a role was deleted, and with it what its members could do",
		[]store.Action{store.ActionDeleteRole}, ""}, see: seeRoleDeleted},
	{Rule: Rule{MassRemoval, High, "one actor took away many roles, permissions, members or keys", removals, ""},
		see: seeRemoval, burst: func(c *Config) burstRule {
			return burstRule{c.Removals, time.Second, func(who) string { return "removals by one actor" }}
		}},
	{Rule: Rule{PowerfulKey, High, "a client key was made with scope operator or tokens",
		[]store.Action{store.ActionCreateClientKey}, ""}, see: seePowerfulKey},
	{Rule: Rule{EndlessKey, Low, "a user's API key was made that never expires",
		[]store.Action{store.ActionCreateUserKey}, ""}, see: seeEndlessKey},
	{Rule: Rule{AddressFailures, Medium, "authentications failed in a burst from one address",
		[]store.Action{store.ActionAuthFailed}, ""}, see: seeAddressFailure, burst: func(c *Config) burstRule {
		return burstRule{c.AddressFailures, time.Minute, func(by who) string { return "failed authentications from " + by.address }}
	}},
	{Rule: Rule{AllFailures, High, "authentications failed in a burst from all addresses together",
		[]store.Action{store.ActionAuthFailed}, ""}, see: seeFailure, burst: func(c *Config) burstRule {
		return burstRule{c.AllFailures, time.Minute, func(who) string { return "failed authentications from all addresses" }}
	}},
	{Rule: Rule{Refusals, Medium, "one actor asked repeatedly for what its key does not permit", nil, ""},
		see: seeRefusal, burst: func(c *Config) burstRule {
			return burstRule{c.Refusals, time.Second, func(who) string { return "operations that the actor's key does not permit" }}
		}},
	{Rule: Rule{AuditOff, High, "the audit was turned off, or had been until then",
		[]store.Action{store.ActionAuditOff, store.ActionAuditOn}, ""}, see: seeAuditOff},
	{Rule: Rule{AuditPruned, Medium, "rows of the audit were deleted",
		[]store.Action{store.ActionPruneAudit}, ""}, see: seeAuditPruned},
	{Rule: Rule{AuditChain, Medium, "the audit's chain was begun, or its secret wrapped anew",
		[]store.Action{store.ActionStartChain, store.ActionRewrapChain}, ""}, see: seeAuditChain},
	{Rule: Rule{EncryptionOff, High, "the encryption of fields was turned off",
		[]store.Action{store.ActionRotateEncryption}, ""}, see: seeEncryptionOff},
	{Rule: Rule{SigningKey, Medium, "a key that signs tokens was published, used or withdrawn",
		[]store.Action{store.ActionPublishSigning, store.ActionSignWith, store.ActionWithdrawSigning}, ""}, see: seeSigningKey},
	{Rule: Rule{UnreadableRow, High, "a sealed row of the audit does not open", nil, ""},
		see: func(*Detector, *rule, *store.AuditEntry) bool { return true }}, // see AddUnreadable
}

// removals are the actions that take something away from people or programs. What
// ends tokens is none: it is meant to be done in bulk.
var removals = []store.Action{
	store.ActionDeleteRole, store.ActionRemoveParent, store.ActionRemovePermission, store.ActionRemoveMembership,
	store.ActionRevokeClientKey, store.ActionRevokeUserKey,
}
