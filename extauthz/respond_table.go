package extauthz

import (
	"google.golang.org/grpc/codes"

	"portcullis/policy"
)

// outcome is what the world outside sees of a reason. The effect itself (allow,
// denial or fault) is policy.Reason.Effect; this is the rest of the one table that
// docs/design/denials-and-faults.md prints.
type outcome struct {
	status int        // HTTP status of a denial or a fault
	code   codes.Code // status.code of the CheckResponse; Envoy tests only that it is not 0
	text   string     // for people; tells nothing that the caller does not know
	// challenge is the error code of RFC 6750 in WWW-Authenticate; "" sends a
	// challenge without a code where the status is 401, and none elsewhere.
	challenge string
}

// outcomes holds every reason's outcome. What a gRPC caller gets as grpc-status is
// made by Envoy from the HTTP status: 401 is 16, 403 is 7, 429 and 503 are 14, 400
// is 13, the others are 2.
var outcomes = [policy.NumReasons]outcome{
	policy.ReasonInternal:         {500, codes.Internal, "the gate failed on this request", ""},
	policy.ReasonOK:               {200, codes.OK, "", ""},
	policy.ReasonNoRule:           {403, codes.PermissionDenied, "no rule admits this request", ""},
	policy.ReasonAmbiguousRequest: {400, codes.InvalidArgument, "the request can be read in more than one way", ""},
	policy.ReasonTooLarge:         {413, codes.ResourceExhausted, "the request is too large", ""},

	policy.ReasonMissingCredential:      {401, codes.Unauthenticated, "a credential is required", ""},
	policy.ReasonInvalidToken:           {401, codes.Unauthenticated, "the token is not valid", "invalid_token"},
	policy.ReasonExpired:                {401, codes.Unauthenticated, "the credential has expired", "invalid_token"},
	policy.ReasonRevoked:                {401, codes.Unauthenticated, "the credential was revoked", "invalid_token"},
	policy.ReasonBadKey:                 {401, codes.Unauthenticated, "the key is not valid", "invalid_token"},
	policy.ReasonConflictingCredentials: {401, codes.Unauthenticated, "the credentials conflict", "invalid_request"},

	policy.ReasonWrongTenant:       {403, codes.PermissionDenied, "this is not for your tenant", ""},
	policy.ReasonMissingPermission: {403, codes.PermissionDenied, "a permission is missing", ""},
	policy.ReasonNotKeyBacked:      {403, codes.PermissionDenied, "the user holds no API key", ""},
	policy.ReasonConditionFalse:    {403, codes.PermissionDenied, "a condition does not hold", ""},
	policy.ReasonConditionError:    {403, codes.PermissionDenied, "a condition could not be evaluated", ""},
	policy.ReasonOverloaded:        {429, codes.ResourceExhausted, "too many requests wait", ""},

	policy.ReasonNoSnapshot:       {503, codes.Unavailable, "the gate is not ready", ""},
	policy.ReasonStale:            {503, codes.Unavailable, "the gate has lost touch with its store", ""},
	policy.ReasonStoreUnavailable: {503, codes.Unavailable, "the store does not answer", ""},
}

// outcomeOf returns a reason's outcome; one outside the list fails as internal.
func outcomeOf(r policy.Reason) *outcome {
	if r >= policy.NumReasons {
		r = policy.ReasonInternal
	}
	return &outcomes[r]
}

// realm names the protection space in a challenge.
const realm = "portcullis"

// challengeOf is the WWW-Authenticate value for a reason, "" where there is none.
// It holds fixed texts only, never a part of a credential.
func challengeOf(o *outcome) string {
	switch {
	case o.status != 401:
		return ""
	case o.challenge == "":
		return `Bearer realm="` + realm + `"`
	}
	return `Bearer realm="` + realm + `", error="` + o.challenge + `", error_description="` + o.text + `"`
}
