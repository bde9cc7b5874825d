package policy

// Effect is what a decision does to the request. The zero Effect denies.
type Effect uint8

// The three effects. A Fault is never caused by a request: it says that the
// gate could not decide (see Reason.Effect).
const (
	Deny Effect = iota
	Allow
	Fault
)

// String returns "deny", "allow" or "fault"; it is the label of the metrics.
func (e Effect) String() string {
	switch e {
	case Allow:
		return "allow"
	case Fault:
		return "fault"
	}
	return "deny"
}

// Reason is why a decision came out as it did. The list is closed: it is the
// label of the metrics, the word in the logs and in the body of a denial. The
// zero Reason is internal, so that a forgotten reason denies.
type Reason uint8

// The closed list of reasons.
const (
	ReasonInternal Reason = iota
	ReasonOK
	ReasonNoRule
	ReasonAmbiguousRequest
	ReasonTooLarge
	ReasonMissingCredential
	ReasonInvalidToken
	ReasonExpired
	ReasonRevoked
	ReasonBadKey
	ReasonConflictingCredentials
	ReasonWrongTenant
	ReasonMissingPermission
	ReasonNotKeyBacked
	ReasonConditionFalse
	ReasonConditionError
	ReasonOverloaded
	ReasonNoSnapshot
	ReasonStale
	ReasonStoreUnavailable

	// NumReasons bounds arrays that are indexed by a Reason.
	NumReasons
)

var reasonNames = [NumReasons]string{
	ReasonInternal:               "internal",
	ReasonOK:                     "ok",
	ReasonNoRule:                 "no_rule",
	ReasonAmbiguousRequest:       "ambiguous_request",
	ReasonTooLarge:               "too_large",
	ReasonMissingCredential:      "missing_credential",
	ReasonInvalidToken:           "invalid_token",
	ReasonExpired:                "expired",
	ReasonRevoked:                "revoked",
	ReasonBadKey:                 "bad_key",
	ReasonConflictingCredentials: "conflicting_credentials",
	ReasonWrongTenant:            "wrong_tenant",
	ReasonMissingPermission:      "missing_permission",
	ReasonNotKeyBacked:           "not_key_backed",
	ReasonConditionFalse:         "condition_false",
	ReasonConditionError:         "condition_error",
	ReasonOverloaded:             "overloaded",
	ReasonNoSnapshot:             "no_snapshot",
	ReasonStale:                  "stale",
	ReasonStoreUnavailable:       "store_unavailable",
}

// String returns the reason's word; a number outside the list is "internal".
func (r Reason) String() string {
	if r >= NumReasons {
		return reasonNames[ReasonInternal]
	}
	return reasonNames[r]
}

// ParseReason reads what String writes.
func ParseReason(s string) (Reason, bool) {
	for r, name := range reasonNames {
		if name == s {
			return Reason(r), true
		}
	}
	return ReasonInternal, false
}

// Effect is the one place that says what is an allow, a denial or a fault.
// Whatever a request can cause is a denial; only the gate's own state can be a
// fault, so that Envoy's failure_mode_allow can never be provoked by a caller.
func (r Reason) Effect() Effect {
	switch r {
	case ReasonOK:
		return Allow
	case ReasonNoSnapshot, ReasonStale, ReasonStoreUnavailable:
		return Fault
	}
	return Deny
}
