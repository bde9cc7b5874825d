package store

import "time"

// AuditResource is the Resource of what is done to the audit itself.
const AuditResource = "audit"

// What Before and After hold of the audit's own state.
type (
	// RecordingState is whether what is done is recorded.
	RecordingState struct {
		Enabled bool `json:"enabled"`
	}
	// ChainState is what wraps the secret of the audit's chain.
	ChainState struct {
		Holder string `json:"holder"`
		Key    string `json:"key"`
	}
	// PruneState is what a pruning took away.
	PruneState struct {
		Rows   int64     `json:"rows"`
		Before time.Time `json:"before"`
		Number int64     `json:"number"` // of the last row that went; 0: it was in no chain
	}
)

// AuditSet is what turning the recording on or off leaves in the trail.
func AuditSet(was, on bool) *Written {
	w := &Written{Outcome: OutcomeDone, Action: ActionAuditOff, Resource: AuditResource, Before: RecordingState{was}, After: RecordingState{on}}
	if on {
		w.Action = ActionAuditOn
	}
	if was == on {
		w.Outcome = OutcomeUnchanged
	}
	return w
}

// ChainWritten is what beginning a chain, or wrapping its secret anew, leaves in the
// trail. Before it is nil where there was none.
func ChainWritten(before *ChainState, after ChainState) *Written {
	w := &Written{Outcome: OutcomeDone, Action: ActionStartChain, Resource: AuditResource, After: after}
	if before != nil {
		w.Action, w.Before = ActionRewrapChain, *before
		if *before == after {
			w.Outcome = OutcomeUnchanged
		}
	}
	return w
}

// AuditPruned is what a pruning leaves in the trail of its tenant.
func AuditPruned(tenant TenantID, gone PruneState) *Written {
	w := &Written{Outcome: OutcomeDone, Tenant: tenant, Action: ActionPruneAudit, Resource: AuditResource, Details: map[string]any{
		"rows": gone.Rows, "before": gone.Before.UTC(), "number": gone.Number,
	}}
	if gone.Rows == 0 {
		w.Outcome = OutcomeUnchanged
	}
	return w
}
