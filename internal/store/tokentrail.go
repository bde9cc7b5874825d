package store

import (
	"errors"
	"fmt"
	"time"
)

// What Before and After hold of the things that tokens need.
type (
	// NameState is a tenant's name in the audit.
	NameState struct {
		Name string `json:"name"`
	}
	// SigningState is a public signing key in the audit.
	SigningState struct {
		Algorithm string     `json:"algorithm"`
		Signs     *time.Time `json:"signs"`   // nil: it signs nothing yet
		Expires   *time.Time `json:"expires"` // nil: not retired
	}
	// RefreshState is a family of refresh tokens in the audit. Its user stands in the
	// User column alone.
	RefreshState struct {
		Client  string     `json:"client"`
		Scope   string     `json:"scope"`
		Expires *time.Time `json:"expires"`
		Denied  int        `json:"denied,omitempty"` // access tokens that a revocation denied
	}
	// ImportState is a batch of an import in the audit: how many rows were new.
	ImportState struct {
		Tenants     int  `json:"tenants"`
		Roles       int  `json:"roles"`
		Permissions int  `json:"permissions"`
		Members     int  `json:"memberships"`
		UserKeys    int  `json:"api_keys"`
		Audit       int  `json:"audit"`
		Done        bool `json:"done"`
	}
)

// State is the key in the audit.
func (k *SigningKey) State() SigningState {
	return SigningState{Algorithm: k.Algorithm, Signs: AuditTime(k.Signs), Expires: AuditTime(k.Expires)}
}

// Check refuses a key that is not whole.
func (k *SigningKey) Check() error {
	switch {
	case k.KeyID == "":
		return errors.New("key id: is empty: give the key's thumbprint")
	case k.JWK == "":
		return errors.New("jwk: is empty: give the public key")
	}
	switch k.Algorithm {
	case "RS256", "ES256", "EdDSA":
		return nil
	}
	return fmt.Errorf("algorithm: %q is none that we sign with: use RS256, ES256 or EdDSA", k.Algorithm)
}

// RefreshWritten is what a write to the family leaves in the trail, but for Before,
// After and the changes.
func RefreshWritten(action Action, outcome Outcome, f *RefreshFamily) *Written {
	return &Written{Outcome: outcome, Tenant: f.Tenant, Action: action, Resource: RefreshResource(f.Family), User: f.User}
}

// State is the family in the audit.
func (f *RefreshFamily) State() RefreshState {
	return RefreshState{Client: f.Client, Scope: f.Scope, Expires: AuditTime(f.Expires)}
}

// Check refuses a family that is not whole.
func (f *RefreshFamily) Check() error {
	switch {
	case f.User == "":
		return errors.New("user: is empty: name the user")
	case f.Client == "":
		return errors.New("client: is empty: name the client")
	case f.Expires.IsZero():
		return errors.New("expires: is missing: refresh tokens end")
	}
	return nil
}

// Check refuses an access token that could not be denied.
func (a *AccessToken) Check() error {
	switch {
	case a.ID == "":
		return errors.New("access token: its id (jti) is empty")
	case a.Expires.IsZero():
		return errors.New("access token: its expiry is missing")
	}
	return nil
}

// ImportWritten is what a batch of an import leaves in the trail.
func ImportWritten(source string, n ImportCounts, done bool) *Written {
	return &Written{
		Outcome:  OutcomeUnchanged,
		Action:   ActionImport,
		Resource: ImportResource(source),
		After: ImportState{Tenants: n.Tenants, Roles: n.Roles, Permissions: n.Permissions, Members: n.Members,
			UserKeys: n.UserKeys, Audit: n.Audit, Done: done},
	}
}
