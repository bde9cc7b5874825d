package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"portcullis/policy"
)

// TokenSkew is how long after its expiry a token may still be taken for valid by a
// clock that is behind: a denial stands for so long after the token's.
const TokenSkew = time.Minute

// OwnTokenReach is how long a denial of all our own access tokens must stand: the
// longest life that one may have, and the skew.
const OwnTokenReach = 24*time.Hour + TokenSkew

// Check refuses an entry that is not whole, or would refuse what it does not name.
func (d *NewDenial) Check() error {
	switch {
	case d.Kind.String() == "":
		return fmt.Errorf("kind: %d is no kind of denial: use token, subject or key", d.Kind)
	case d.Value == "":
		return errors.New("value: is empty: name the token (jti), the principal or the signing key (kid)")
	case d.Kind == DenyKey && d.Tenant != 0:
		return errors.New("tenant: a signing key is of no tenant: leave it out")
	case d.Expires.IsZero():
		return errors.New("expires: is missing: say when the last token that it refuses has expired")
	case d.Kind != DenySubject && !d.Before.IsZero():
		return errors.New("before: is for a subject alone: leave it out")
	case d.Kind != DenySubject:
		return nil
	case d.Principal.String() == "":
		return fmt.Errorf("principal: %d is no kind of principal: use user, client or workload", d.Principal)
	case d.Before.IsZero():
		return errors.New("before: is missing: say up to when tokens are refused")
	case d.Principal != policy.KindUser && d.Issuer != "":
		return fmt.Errorf("issuer: a %s's tokens are ours: leave it out", d.Principal)
	}
	return nil
}

// Digest is what a sidecar looks the entry up by. index is the principal's under the
// tenant's current key; it is read for a subject alone.
func (d *NewDenial) Digest(index Index) Digest {
	switch d.Kind {
	case DenyToken:
		return DenyTokenDigest(d.Tenant, d.Issuer, d.Value)
	case DenySubject:
		return DenySubjectDigest(d.Tenant, index, d.Issuer)
	}
	return DenyKeyDigest(d.Issuer, d.Value)
}

// DenyAccess is the entry for an access token of a tenant.
func (a *AccessToken) DenyAccess(tenant TenantID) NewDenial {
	return NewDenial{Kind: DenyToken, Tenant: tenant, Issuer: a.Issuer, Value: a.ID, Expires: a.Expires.Add(TokenSkew)}
}

// DenyAccessTokens are the entries for access tokens of a tenant, one for each issuer
// and id, by issuer and id.
func DenyAccessTokens(tenant TenantID, tokens []AccessToken) []NewDenial {
	slices.SortFunc(tokens, func(a, b AccessToken) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.ID, b.ID), b.Expires.Compare(a.Expires))
	})
	var list []NewDenial
	for i := range tokens {
		if i == 0 || tokens[i].Issuer != tokens[i-1].Issuer || tokens[i].ID != tokens[i-1].ID {
			list = append(list, tokens[i].DenyAccess(tenant))
		}
	}
	return list
}

// EndsRefresh reports whether the entry revokes refresh tokens: a user's families that
// were begun up to the time that it returns, in Unix nanoseconds. A gate reads whole
// seconds of a token, so the whole second of Before counts.
func (d *NewDenial) EndsRefresh() (begun int64, ends bool) {
	if d.Kind != DenySubject || d.Principal != policy.KindUser {
		return 0, false
	}
	second := int64(time.Second)
	nanos := d.Before.UnixNano()
	return nanos + min(second-1-nanos%second, math.MaxInt64-nanos), true
}

// DenyClient is the entry for all tokens that a client was issued up to now.
func DenyClient(tenant TenantID, name string, now time.Time) NewDenial {
	return NewDenial{Kind: DenySubject, Tenant: tenant, Value: name, Principal: policy.KindClient, Before: now, Expires: now.Add(OwnTokenReach)}
}

// DenialState is an entry of the deny-list in the audit. A subject stands in the
// User column alone, where sealing reaches it.
type DenialState struct {
	Issuer  string     `json:"issuer"`
	Value   string     `json:"value,omitempty"`
	Before  *time.Time `json:"before,omitempty"` // of a subject
	Expires *time.Time `json:"expires"`
}

// State is the entry in the audit.
func (d *Denial) State() DenialState {
	state := DenialState{Issuer: d.Issuer, Value: d.Value, Before: AuditTime(d.Before), Expires: AuditTime(d.Expires)}
	if d.Kind == DenySubject {
		state.Value = ""
	}
	return state
}

// DenialWritten is what adding (ActionDeny) or taking away (ActionAllow) an entry
// leaves in the trail, but for Before, After and the changes.
func DenialWritten(action Action, outcome Outcome, d *Denial) *Written {
	w := &Written{Outcome: outcome, Tenant: d.Tenant, Action: action, Resource: DenialResource(d.Kind)}
	if d.Kind == DenySubject {
		w.User = AuditUser(d.Principal, d.Value)
		w.Details = map[string]any{"kind": d.Principal.String()}
	}
	return w
}

// EndedRefresh says in the trail what an entry ended with it: families of refresh
// tokens, and access tokens of theirs that were denied.
func (w *Written) EndedRefresh(families int64, denied int) {
	if families == 0 {
		return
	}
	w.Outcome = OutcomeDone
	w.Details["refresh_families"] = families
	if denied > 0 {
		w.Details["denied"] = denied
	}
}
