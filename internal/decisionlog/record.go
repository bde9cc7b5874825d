package decisionlog

import (
	"time"

	"portcullis/policy"
)

// Proof is how a principal was proved.
type Proof uint8

// The proofs.
const (
	ProofNone      Proof = iota // nobody: an anonymous rule, or no usable credential
	ProofJWT                    // a token; see Record.Issuer, KeyID and TokenID
	ProofClientKey              // a client key; its name is the principal's id, or Record.KeyName
	ProofAPIKey                 // a user API key; see Record.APIKeyID
	ProofMTLS                   // the certificate of the connection; see Record.SPIFFE
)

// String returns "none", "jwt", "client_key", "api_key" or "mtls".
func (p Proof) String() string {
	switch p {
	case ProofJWT:
		return "jwt"
	case ProofClientKey:
		return "client_key"
	case ProofAPIKey:
		return "api_key"
	case ProofMTLS:
		return "mtls"
	}
	return "none"
}

// Record is one decision. Its strings and slices are borrowed for the time of one
// call of Log. It has no field for a credential, and none may be put into it.
//
// Empty strings and slices are left out of the line.
type Record struct {
	Time       time.Time
	DecisionID []byte // text

	Principal policy.Principal // the zero Principal where nobody was proved
	Proof     Proof
	Issuer    string // of a JWT: its `iss`,
	KeyID     string // its `kid`,
	TokenID   string // and its `jti`
	KeyName   string // of a client key that came beside another credential, or alone
	APIKeyID  string // names a user API key that came beside a JWT, or alone; it opens nothing
	SPIFFE    string // of a workload's certificate
	Actor     string // what the connection's certificate names, where it proved no principal
	Roles     []string

	Rule         string // "" where none matched
	Effect       policy.Effect
	Reason       policy.Reason
	Revision     int64
	PolicyDigest string

	ShadowRule   string // a shadow rule that matched; "" where none did
	ShadowReason policy.Reason

	Method   []byte
	Host     []byte
	Path     []byte // cut at the first '?', should there be one
	Duration time.Duration
	GRPC     bool
}
