package suspicious

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"portcullis/internal/store"
)

// done reports whether the row's write changed something.
func done(e *store.AuditEntry) bool { return e.Outcome == store.OutcomeDone.String() }

func seeWidePermission(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) {
		return true
	}
	role, permission, ok := link(e.Resource, "permission/")
	if ok && d.isWide(permission) {
		d.found(r, e, "permission %s was granted to role %s", quote(permission), quote(role))
	}
	return ok
}

func seeWideRole(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) {
		return true
	}
	if e.Action == store.ActionAddParent {
		role, parent, ok := link(e.Resource, "parent/")
		if ok && d.isWide(parent) {
			d.found(r, e, "role %s came to inherit role %s", quote(role), quote(parent))
		}
		return ok
	}
	role, ok := strings.CutPrefix(e.Resource, "membership/")
	if ok && d.isWide(role) {
		d.found(r, e, "%s was made a member of role %s", quote(e.User), quote(role))
	}
	return ok
}

func seeRoleDeleted(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) {
		return true
	}
	role, ok := strings.CutPrefix(e.Resource, "role/")
	if !ok {
		d.found(r, e, "a role was deleted")
		return false
	}
	if before, told := decode[store.RoleState](e.Before); told {
		d.found(r, e, "role %s was deleted, with %s and %s", quote(role), several(int64(len(before.Permissions)), "permission"), several(before.Members, "member"))
		return true
	}
	d.found(r, e, "role %s was deleted", quote(role))
	return e.Before == ""
}

func seeRemoval(d *Detector, r *rule, e *store.AuditEntry) bool {
	if done(e) {
		d.count(r, e, who{actor: e.Actor, tenant: actorTenant(e)}, 1, e.Time)
	}
	return true
}

func seePowerfulKey(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) {
		return true
	}
	after, ok := decode[store.ClientKeyState](e.After)
	if !ok {
		return false
	}
	var has []string
	for _, scope := range []store.Scope{store.ScopeOperator, store.ScopeTokens} {
		if slices.Contains(after.Scopes, scope) {
			has = append(has, string(scope))
		}
	}
	if len(has) > 0 {
		d.found(r, e, "client key %s was made with scope %s", quote(strings.TrimPrefix(e.Resource, "client_key/")), strings.Join(has, " and "))
	}
	return true
}

func seeEndlessKey(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) {
		return true
	}
	// What says nothing of an expiry does not say that there is none.
	after, ok := decode[struct {
		Expires presence `json:"expires"`
	}](e.After)
	if !ok || !after.Expires.there {
		return false
	}
	if after.Expires.null {
		d.found(r, e, "an API key of user %s was made that never expires", quote(e.User))
	}
	return true
}

// nobody is the actor of failed authentications.
const nobody = "unauthenticated"

func seeAddressFailure(d *Detector, r *rule, e *store.AuditEntry) bool {
	if e.Address == "" { // the row is about many, or nobody knows whom
		return true
	}
	return seeFailures(d, r, e, who{actor: nobody, address: e.Address})
}

func seeFailure(d *Detector, r *rule, e *store.AuditEntry) bool {
	return seeFailures(d, r, e, who{actor: nobody})
}

func seeFailures(d *Detector, r *rule, e *store.AuditEntry, by who) bool {
	n, first, ok := failures(e)
	if ok {
		d.count(r, e, by, n, first)
	}
	return ok
}

func seeRefusal(d *Detector, r *rule, e *store.AuditEntry) bool {
	// A check that came out negative is denied too, and is no refusal: it has no status.
	// What could not be read or was not there is a mistake.
	if e.Outcome != outcomeDenied {
		return true
	}
	if details, ok := decode[refusal](e.Details); ok && details.Status == http.StatusForbidden {
		d.count(r, e, who{actor: e.Actor, tenant: actorTenant(e)}, 1, e.Time)
	}
	return true
}

func seeAuditOff(d *Detector, r *rule, e *store.AuditEntry) bool {
	switch {
	case !done(e):
	case e.Action == store.ActionAuditOff:
		d.found(r, e, "the recording of the audit was turned off")
	default:
		d.found(r, e, "the recording of the audit was turned on: it had been off, and what was done then is not in the audit")
	}
	return true
}

func seeAuditPruned(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) {
		return true
	}
	gone, ok := decode[store.PruneState](e.Details)
	if !ok {
		d.found(r, e, "rows of the audit were deleted")
		return false
	}
	d.found(r, e, "the audit lost %s from before %s", several(gone.Rows, "row"), gone.Before.UTC().Format(time.RFC3339))
	return true
}

func seeAuditChain(d *Detector, r *rule, e *store.AuditEntry) bool {
	switch {
	case !done(e):
		return true
	case e.Action == store.ActionStartChain:
		d.found(r, e, "a chain of the audit was begun")
		return true
	}
	after, ok := decode[store.ChainState](e.After)
	if !ok {
		d.found(r, e, "the secret of the audit's chain was wrapped under another key")
		return false
	}
	d.found(r, e, "the secret of the audit's chain was wrapped under key %s of %s", quote(after.Key), quote(after.Holder))
	return true
}

func seeEncryptionOff(d *Detector, r *rule, e *store.AuditEntry) bool {
	// Each tenant's steps have rows of their own, between these.
	if !done(e) || e.Resource != store.EncryptionResource {
		return true
	}
	step, ok := decode[rotationStep](e.Details)
	switch {
	case !ok || step.Kind == "":
		return false
	case step.Kind != store.RotateDisable.String():
	case step.Step == "finish":
		d.found(r, e, "the encryption of fields is off: all of them are in clear")
	default:
		d.found(r, e, "turning off the encryption of fields was begun")
	}
	return true
}

func seeSigningKey(d *Detector, r *rule, e *store.AuditEntry) bool {
	if !done(e) || isSigningUpkeep(e) {
		return true
	}
	what := "was published"
	switch e.Action {
	case store.ActionSignWith:
		what = "signs from now on"
	case store.ActionWithdrawSigning:
		what = "was withdrawn"
	}
	key, ok := strings.CutPrefix(e.Resource, "signing_key/")
	if !ok {
		d.found(r, e, "a signing key %s", what)
		return false
	}
	d.found(r, e, "signing key %s %s", quote(key), what)
	return true
}

// isSigningUpkeep reports whether the row is about keys that had expired by
// themselves before they were taken away.
func isSigningUpkeep(e *store.AuditEntry) bool {
	if e.Action != store.ActionWithdrawSigning || e.Resource != store.SigningResource("expired") {
		return false
	}
	gone, ok := decode[map[string]store.SigningState](e.Before)
	for _, key := range gone {
		if key.Expires == nil || key.Expires.After(e.Time) {
			return false
		}
	}
	return ok && len(gone) > 0
}

// link takes a resource of a role and something of it apart.
func link(resource, kind string) (role, of string, ok bool) {
	rest, ok := strings.CutPrefix(resource, kind)
	role, of, found := strings.Cut(rest, "/")
	return role, of, ok && found && role != "" && of != ""
}

// several writes a number with its noun.
func several(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// maxQuoted is how much of a name stands in a sentence, in bytes: the names of this
// program are shorter.
const maxQuoted = 256

// quote writes a name for a sentence, so that it can pass for nothing else.
func quote(name string) string {
	if len(name) > maxQuoted {
		return fmt.Sprintf("%q...", name[:maxQuoted])
	}
	return fmt.Sprintf("%q", name)
}
