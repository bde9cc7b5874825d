package cache

import (
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// Tenant is a tenant that this sidecar serves. It is immutable.
type Tenant struct {
	ID          store.TenantID
	Name        string
	Admitted    bool        // false: it matches no rule
	StrictUsers bool        // its users need an active API key
	Key         store.KeyID // what its principals' indexes are computed under
}

// Snapshot is an immutable root: the compiled rules, the tenants and the role
// tables loaded so far, all true at Revision. A check takes it once, and holds it
// to its end.
type Snapshot struct {
	Revision store.Revision
	Policy   *policy.Policy

	workloads []Holder // of Policy's workloads, by their Index; for one policy and history

	denied  denials // the deny-list
	signing int64   // the version of the signing keys

	hist   *history
	keys   *identity.Fingerprints // of every live client key and user API key; one set a history
	byName shardMap[string, *Tenant]
	byID   shardMap[store.TenantID, *Tenant]
	roles  shardMap[store.TenantID, *policy.RoleTable] // loaded on first use
	held   []store.TenantID                            // the keys of roles
}

// setPolicy puts the rules into a snapshot that is not shared yet.
func (s *Snapshot) setPolicy(p *policy.Policy) {
	s.Policy, s.workloads = p, make([]Holder, len(p.Workloads()))
}

// Workload finds the workload of the policy file that has exactly this SPIFFE id,
// and what keeps its principal's index; nil where there is none.
func (s *Snapshot) Workload(spiffe string) (*policy.Workload, *Holder) {
	w := s.Policy.Workload(spiffe)
	if w == nil {
		return nil, nil
	}
	return w, &s.workloads[w.Index]
}

// Tenant finds a tenant by name. It is false for a tenant that does not exist or
// that this sidecar does not serve.
func (s *Snapshot) Tenant(name string) (*Tenant, bool) { return s.byName.get(name) }

// TenantByID finds a tenant by id, as Tenant does by name.
func (s *Snapshot) TenantByID(id store.TenantID) (*Tenant, bool) { return s.byID.get(id) }

// Tenants is how many tenants the snapshot knows.
func (s *Snapshot) Tenants() int { return s.byName.len() }

// withRoles returns a copy that holds the given role tables and lacks the
// dropped ones.
func (s *Snapshot) withRoles(set map[store.TenantID]*policy.RoleTable, drop []store.TenantID) *Snapshot {
	next := *s
	next.roles = s.roles.with(set, drop)
	if next.roles.len() != s.roles.len() || len(drop) > 0 {
		next.held = next.roles.keys()
	}
	return &next
}

// withTenants returns a copy in which the given tenants stand as given, those
// that serves refuses left out.
func (s *Snapshot) withTenants(tenants []store.Tenant, serves func(string) bool) *Snapshot {
	if len(tenants) == 0 {
		return s
	}
	next := *s
	names := make(map[string]*Tenant, len(tenants))
	ids := make(map[store.TenantID]*Tenant, len(tenants))
	var gone []string
	for _, t := range tenants {
		if old, ok := s.byID.get(t.ID); ok && old.Name != t.Name {
			gone = append(gone, old.Name)
		}
		if !serves(t.Name) {
			continue
		}
		entry := &Tenant{ID: t.ID, Name: t.Name, Admitted: t.Admitted, StrictUsers: t.StrictUsers, Key: t.Key}
		names[t.Name] = entry
		ids[t.ID] = entry
	}
	next.byName = s.byName.with(names, gone)
	var goneIDs []store.TenantID
	for _, t := range tenants {
		if !serves(t.Name) {
			goneIDs = append(goneIDs, t.ID)
		}
	}
	next.byID = s.byID.with(ids, goneIDs)
	return &next
}
