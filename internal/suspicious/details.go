package suspicious

import (
	"encoding/json"
	"time"

	"portcullis/internal/store"
)

// outcomeDenied is the outcome of what was refused, and of a check that came out
// negative.
const outcomeDenied = "denied"

// What the rows' details hold, where package store has no type for them.
type (
	// failedDetails is a count of failed authentications.
	failedDetails struct {
		Count *int64 `json:"count"`
		First string `json:"first"`
	}
	// refusal is a request that was answered 4xx.
	refusal struct {
		Status int `json:"status"`
	}
	rotationStep struct {
		Kind string `json:"kind"`
		Step string `json:"step"`
	}
)

// decode reads a JSON object. A text that is none, or has another form, is not ok.
func decode[T any](text string) (v T, ok bool) {
	if text == "" || text == "null" {
		return v, false
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		var none T
		return none, false
	}
	return v, true
}

// presence tells a member that is null from one that is not there.
type presence struct{ there, null bool }

// UnmarshalJSON implements json.Unmarshaler.
func (p *presence) UnmarshalJSON(text []byte) error {
	p.there, p.null = true, string(text) == "null"
	return nil
}

// actorTenant is the tenant of an actor from another one than the row's, else 0.
func actorTenant(e *store.AuditEntry) store.TenantID {
	details, _ := decode[struct {
		Tenant store.TenantID `json:"actor_tenant"`
	}](e.Details)
	return details.Tenant
}

// maxFailures is what one row may claim: more than a process can answer in a minute.
const maxFailures = 1 << 40

// failures reads how many authentications failed, and when the first did: within the
// minute before the row's time, which is the last one's.
func failures(e *store.AuditEntry) (n int64, first time.Time, ok bool) {
	details, ok := decode[failedDetails](e.Details)
	if !ok || details.Count == nil || *details.Count < 1 {
		return 0, e.Time, false
	}
	first, err := time.Parse(time.RFC3339, details.First)
	if err != nil || first.After(e.Time) || e.Time.Sub(first) > time.Minute {
		first = e.Time
	}
	return min(*details.Count, maxFailures), first, true
}
