package extauthz

import (
	"encoding/binary"
	"math/rand/v2"
	"unicode/utf8"

	"portcullis/policy"
)

// decisionID names one decision in responses and logs: 128 random bits in hex. It
// is no secret and proves nothing.
type decisionID [32]byte

// newDecisionID draws an id from the runtime's ChaCha8, without a lock.
func newDecisionID() (id decisionID) {
	const digits = "0123456789abcdef"
	var bits [16]byte
	binary.LittleEndian.PutUint64(bits[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(bits[8:], rand.Uint64())
	for i, b := range bits {
		id[2*i], id[2*i+1] = digits[b>>4], digits[b&15]
	}
	return id
}

// answer is what a response says. The zero answer is the denial `internal`.
type answer struct {
	reason policy.Reason
	id     decisionID
	rule   string // the rule's name, "" where there is none

	// The rest is used by an allow, and principal by every answer's metadata.

	anonymous bool             // assert nothing
	principal policy.Principal // the verified caller; zero where there is none
	actor     string           // source.principal, unless it proved the principal; for metadata and the log alone
	roles     []string         // the names of the roles that the principal holds, sorted
	// rolesUnknown says that the roles could not be learned and that the rule does
	// not need them: they are marked as left out, not passed off as none.
	rolesUnknown bool
	revision     int64
	forward      bool // leave Authorization on the request

	grpc bool // the caller speaks gRPC: a denial's body becomes its grpc-message
}

// Bounds of what goes into a header, in bytes.
const (
	maxHeaderText  = 1 << 10
	maxRolesHeader = 4 << 10
)

// maxActor bounds the actor in metadata, in bytes: a SPIFFE id has no more.
const maxActor = 2 << 10

// headerSafe reports whether text may become a header's value: visible ASCII, with
// spaces inside, not empty, not too long. Anything else could be read by an
// upstream as another header, another line, or another text.
func headerSafe(text string, limit int) bool {
	if len(text) == 0 || len(text) > limit || text[0] == ' ' || text[len(text)-1] == ' ' {
		return false
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// rolesSafe reports whether role names can be joined with commas into one header:
// each safe by itself and without a comma, which would make two roles of one, and
// not too long in all.
func rolesSafe(roles []string) bool {
	size := 0
	for _, name := range roles {
		if !headerSafe(name, maxRolesHeader) {
			return false
		}
		for i := range len(name) {
			if name[i] == ',' {
				return false
			}
		}
		size += len(name) + 1
	}
	return size-1 <= maxRolesHeader
}

// metadataSafe reports whether text can stand in a protobuf string: Envoy would
// take a response with anything else for a failed call.
func metadataSafe(text string) bool { return text != "" && utf8.ValidString(text) }

// rolesListable reports whether role names can stand in metadata. The bound is the
// header's, so that a principal of many roles does not make every response large.
func rolesListable(roles []string) bool {
	size := 0
	for _, name := range roles {
		if !metadataSafe(name) {
			return false
		}
		size += len(name)
	}
	return size <= maxRolesHeader
}
