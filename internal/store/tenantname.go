package store

import (
	"errors"
	"fmt"
)

// NameState is a tenant's name in the audit.
type NameState struct {
	Name string `json:"name"`
}

// TenantRenamed is what a renaming leaves in the log and the trail. taken says
// whether another tenant has the name.
func TenantRenamed(t Tenant, name string, taken bool) (*Written, error) {
	w := &Written{
		Outcome:  OutcomeUnchanged,
		Tenant:   t.ID,
		Action:   ActionRenameTenant,
		Resource: TenantResource(t.Name),
		Before:   NameState{t.Name},
		After:    NameState{name},
	}
	switch {
	case name == "":
		return nil, errors.New("name: is empty: give the tenant a name")
	case name == t.Name:
		return w, nil
	case t.Name == DefaultTenant:
		return nil, fmt.Errorf("tenant %q keeps its name: AUTH_CLIENT_KEY and tokens without a tenant belong to it", DefaultTenant)
	case taken:
		return nil, fmt.Errorf("tenant %q: %w", name, ErrExists)
	}
	w.Outcome = OutcomeDone
	w.Changes.Tenant(t.ID)
	return w, nil
}
