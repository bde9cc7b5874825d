package store

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"portcullis/policy"
)

// String returns the outcome's word in the audit: "done", "unchanged" or
// "missing"; "" for a number outside the list.
func (o Outcome) String() string {
	switch o {
	case OutcomeDone:
		return "done"
	case OutcomeUnchanged:
		return "unchanged"
	case OutcomeMissing:
		return "missing"
	}
	return ""
}

// Written is what one write did: the part of its audit row that does not depend
// on who made it, and the changes that readers must hear of. Both stores build
// their audit rows from it, so that a trail reads the same in either.
type Written struct {
	Outcome  Outcome
	Tenant   TenantID
	Action   Action
	Resource string
	User     string         // see AuditUser; "" where it is about no principal
	Before   any            // encoded as JSON; nil where there was nothing
	After    any            // encoded as JSON; nil where there is nothing
	Details  map[string]any // nil for none
	Changes  ChangeSet
}

// Entry is the audit row of a write at revision. Removing a link from a role
// that is absent counts as a success, as the API answers it.
func (w *Written) Entry(by Actor, at time.Time, revision int64) (AuditEntry, error) {
	details := w.Details
	if by.Tenant != 0 && by.Tenant != w.Tenant {
		// An operator's hand in another tenant: "client:ci" alone would name the
		// wrong client.
		details = make(map[string]any, len(w.Details)+1)
		for k, v := range w.Details {
			details[k] = v
		}
		details["actor_tenant"] = int64(by.Tenant)
	}
	before, err := auditJSON(w.Before)
	if err != nil {
		return AuditEntry{}, fmt.Errorf("encode what was before: %w", err)
	}
	after, err := auditJSON(w.After)
	if err != nil {
		return AuditEntry{}, fmt.Errorf("encode what is after: %w", err)
	}
	var text string
	if len(details) > 0 {
		if text, err = auditJSON(details); err != nil {
			return AuditEntry{}, fmt.Errorf("encode the details: %w", err)
		}
	}
	success := w.Outcome != OutcomeMissing
	switch w.Action {
	case ActionRemoveParent, ActionRemovePermission, ActionRemoveMembership:
		success = true
	}
	return AuditEntry{
		Time:      at,
		Tenant:    w.Tenant,
		Actor:     by.Name,
		User:      w.User,
		Action:    w.Action,
		Resource:  w.Resource,
		Before:    before,
		After:     after,
		Details:   text,
		Outcome:   w.Outcome.String(),
		Success:   success,
		Address:   by.Address,
		UserAgent: by.UserAgent,
		RequestID: by.RequestID,
		Revision:  revision,
	}, nil
}

func auditJSON(v any) (string, error) {
	if v == nil {
		return "", nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// AuditUser is a principal in the audit's User column: a user's id as it is,
// any other principal with its kind before it. The kind is in Details too,
// since a user may be named "client:ci".
func AuditUser(kind policy.Kind, id string) string {
	if kind == policy.KindUser {
		return id
	}
	return kind.String() + ":" + id
}

// The audit's Resource of each kind of thing.

// TenantResource is "tenant/NAME".
func TenantResource(name string) string { return "tenant/" + name }

// RoleResource is "role/ROLE".
func RoleResource(role string) string { return "role/" + role }

// ParentResource is "parent/ROLE/PARENT".
func ParentResource(role, parent string) string { return "parent/" + role + "/" + parent }

// PermissionResource is "permission/ROLE/PERMISSION".
func PermissionResource(role, permission string) string {
	return "permission/" + role + "/" + permission
}

// MembershipResource is "membership/ROLE": the principal stands in the User
// column alone, where sealing reaches it.
func MembershipResource(role string) string { return "membership/" + role }

// ClientKeyResource is "client_key/NAME".
func ClientKeyResource(name string) string { return "client_key/" + name }

// UserKeyResource is "api_key/ID": the user stands in the User column alone.
func UserKeyResource(id string) string { return "api_key/" + id }

// EncryptionResource is the Resource of what is done to the encryption keys as a
// whole. Such rows belong to no tenant.
const EncryptionResource = "encryption"

// TenantEncryptionResource is "encryption/TENANT ID".
func TenantEncryptionResource(tenant TenantID) string { return fmt.Sprintf("encryption/%d", tenant) }

// DenialResource is "denial/KIND".
func DenialResource(kind DenyKind) string { return "denial/" + kind.String() }

// SigningResource is "signing_key/ID".
func SigningResource(keyID string) string { return "signing_key/" + keyID }

// RefreshResource is "refresh/FAMILY", in hex.
func RefreshResource(family [16]byte) string { return "refresh/" + hex.EncodeToString(family[:]) }

// ImportResource is "import/SOURCE".
func ImportResource(source string) string { return "import/" + source }

// SettingsResource is the Resource of a tenant's settings.
const SettingsResource = "settings"

// What Before and After hold, by the kind of thing.
type (
	// TenantState is a tenant in the audit.
	TenantState struct {
		Admitted    bool `json:"admitted"`
		StrictUsers bool `json:"strict_users,omitempty"`
	}
	// SettingsState is a tenant's settings in the audit.
	SettingsState struct {
		StrictUsers bool `json:"strict_users"`
	}
	// RoleState is a role in the audit. The lists are filled on its deletion, when
	// they go with it.
	RoleState struct {
		Description string   `json:"description"`
		Permissions []string `json:"permissions,omitempty"`
		Parents     []string `json:"parents,omitempty"`
		Children    []string `json:"children,omitempty"`
		Members     int64    `json:"members,omitempty"` // how many
	}
	// LinkState is a role's parent or permission in the audit: it is there.
	LinkState struct {
		Present bool `json:"present"`
	}
	// MembershipState is a membership in the audit.
	MembershipState struct {
		Expires *time.Time `json:"expires"` // nil is never
	}
	// ClientKeyState is one secret of a client in the audit.
	ClientKeyState struct {
		Prefix  string     `json:"prefix"`
		Scopes  []Scope    `json:"scopes"`
		Expires *time.Time `json:"expires"` // nil is never
	}
	// UserKeyState is one API key of a user in the audit.
	UserKeyState struct {
		Prefix  string     `json:"prefix"`
		Label   string     `json:"label"`
		Expires *time.Time `json:"expires"` // nil is never
	}
	// ClientState is all of a client's unrevoked secrets in the audit.
	ClientState struct {
		Keys        []ClientKeyState `json:"keys"`
		Memberships int64            `json:"memberships"` // how many
		// Families is how many families of refresh tokens were revoked with them.
		Families int64 `json:"refresh_families,omitempty"`
		// Denied is how many access tokens of those families were denied.
		Denied int `json:"denied,omitempty"`
	}
)

// AuditTime is a time as the states above hold it: UTC, nil for zero.
func AuditTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// State is the key in the audit.
func (k *UserKey) State() UserKeyState {
	return UserKeyState{Prefix: k.Prefix, Label: k.Label, Expires: AuditTime(k.Expires)}
}

// Hide takes what may name a user, a permission, a description or a label out of
// the entry, and returns it as one text to be sealed: User, Resource, Before, After
// and Details, each with its length before it. Of Resource the kind stays, such as
// "role".
func (e *AuditEntry) Hide() string {
	var text strings.Builder
	kind, _, _ := strings.Cut(e.Resource, "/")
	for _, field := range e.hidden() {
		fmt.Fprintf(&text, "%d:%s", len(*field), *field)
		*field = ""
	}
	e.Resource = kind
	return text.String()
}

// Reveal puts back what Hide took out.
func (e *AuditEntry) Reveal(text string) error {
	for _, field := range e.hidden() {
		length, rest, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > len(rest) {
			return errors.New("what is hidden of an audit row is cut off")
		}
		*field, text = rest[:n], rest[n:]
	}
	if text != "" {
		return errors.New("what is hidden of an audit row has more behind it than a row hides")
	}
	return nil
}

func (e *AuditEntry) hidden() []*string {
	return []*string{&e.User, &e.Resource, &e.Before, &e.After, &e.Details}
}

// Unreadable stands in the audit for a value that did not open when what it
// belonged to was taken away: that must be possible all the same.
const Unreadable = "(unreadable)"
