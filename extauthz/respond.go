package extauthz

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"portcullis/policy"
)

// Field numbers of the messages in a CheckResponse, message by message. The tests
// hold every response to what the generated types read of it.
const (
	responseStatus   = 1
	responseDenied   = 2
	responseOK       = 3
	responseMetadata = 4
	responseError    = 5

	statusCode    = 1
	statusMessage = 2

	deniedStatus  = 1
	deniedHeaders = 2
	deniedBody    = 3

	okHeaders = 2
	okRemove  = 5

	optionHeader = 1
	optionAction = 3
	headerKey    = 1
	headerText   = 2

	bytesTag = byte(protowire.BytesType) // the low bits of a length-delimited field's tag

	structFields = 1
	entryKey     = 1
	entryValue   = 2
	valueText    = 3
	valueList    = 6
	listValues   = 1
)

// responder writes CheckResponses. Every response starts as a denial: an empty
// CheckResponse would be an allow, so nothing is ever left to a default. It is
// immutable and safe for concurrent use, and allocates nothing when the buffer
// that it appends to has room.
type responder struct {
	challenge [policy.NumReasons]string // WWW-Authenticate, "" where there is none
	bodyStart [policy.NumReasons]string // a denial's JSON body up to the decision id

	removeAlways        []byte   // encoded headers_to_remove: twins, and key headers
	removeAuthorization []byte   // the same, for authorization
	managed             []string // policy.ManagedHeaders
	removeManaged       [][]byte // the same, for each managed name
}

func newResponder() *responder {
	r := &responder{managed: policy.ManagedHeaders()}
	for i := range r.challenge {
		reason := policy.Reason(i)
		o := outcomeOf(reason)
		r.challenge[i] = challengeOf(o)
		r.bodyStart[i] = `{"error":` + strconv.Quote(o.text) + `,"reason":"` + reason.String() + `","decision_id":"`
	}
	for _, name := range r.managed {
		r.removeManaged = append(r.removeManaged, appendText(nil, okRemove, name))
		for _, twin := range policy.HeaderTwins(name) {
			r.removeAlways = appendText(r.removeAlways, okRemove, twin)
		}
	}
	for _, name := range policy.KeyHeaders() {
		r.removeAlways = appendText(r.removeAlways, okRemove, name)
		for _, twin := range policy.HeaderTwins(name) {
			r.removeAlways = appendText(r.removeAlways, okRemove, twin)
		}
	}
	r.removeAuthorization = appendText(nil, okRemove, policy.HeaderAuthorization)
	return r
}

// respond appends the CheckResponse for an answer. It allows only where the reason
// says so; everything else is a denial or an error response.
func (r *responder) respond(b []byte, a *answer) []byte {
	switch a.reason.Effect() {
	case policy.Allow:
		return r.allow(b, a)
	case policy.Fault:
		return r.refusal(b, a, responseError)
	}
	return r.refusal(b, a, responseDenied)
}

// allow appends an allow: status 0, the asserted headers, the removed ones.
func (r *responder) allow(b []byte, a *answer) []byte {
	b, status := openField(b, responseStatus)
	b = closeField(b, status)
	b, ok := openLarge(b, responseOK)
	set := uint(0)
	if !a.anonymous {
		b, set = r.assert(b, a)
	}
	// Removal runs after setting: a name in both lists would be lost.
	for i := range r.removeManaged {
		if set&(1<<i) == 0 {
			b = append(b, r.removeManaged[i]...)
		}
	}
	b = append(b, r.removeAlways...)
	if !a.forward {
		b = append(b, r.removeAuthorization...)
	}
	b = closeLarge(b, ok)
	return metadata(b, a)
}

// assert appends the headers that tell the upstream who is calling. It returns a
// bit for each managed name that it set; one that has nothing safe to say is not
// set, and so removed.
func (r *responder) assert(b []byte, a *answer) ([]byte, uint) {
	set := uint(0)
	put := func(b []byte, name, value string, limit int) []byte {
		if !headerSafe(value, limit) {
			return b
		}
		set |= r.bit(name)
		return appendHeader(b, okHeaders, name, value)
	}
	b = put(b, policy.HeaderTenant, a.principal.Tenant, maxHeaderText)
	b = put(b, policy.HeaderSubject, a.principal.ID, maxHeaderText)
	b = put(b, policy.HeaderKind, a.principal.Kind.String(), maxHeaderText)
	switch {
	case a.rolesUnknown || !rolesSafe(a.roles):
		b = put(b, policy.HeaderRolesOmitted, "true", maxHeaderText)
	case len(a.roles) > 0:
		set |= r.bit(policy.HeaderRoles)
		b = appendRoles(b, a.roles)
	}
	set |= r.bit(policy.HeaderDecisionID)
	b = appendHeader(b, okHeaders, policy.HeaderDecisionID, a.id[:])
	var digits [20]byte
	set |= r.bit(policy.HeaderRevision)
	b = appendHeader(b, okHeaders, policy.HeaderRevision, strconv.AppendInt(digits[:0], a.revision, 10))
	return b, set
}

// bit is the bit of a managed name.
func (r *responder) bit(name string) uint {
	for i, managed := range r.managed {
		if managed == name {
			return 1 << i
		}
	}
	return 0
}

// refusal appends a denial, or with responseError a fault.
func (r *responder) refusal(b []byte, a *answer, kind protowire.Number) []byte {
	reason := min(a.reason, policy.NumReasons)
	if reason == policy.NumReasons {
		reason = policy.ReasonInternal
	}
	o := outcomeOf(reason)
	code := o.code
	if code == codes.OK {
		code = codes.Internal
	}
	b, status := openField(b, responseStatus)
	b = appendNumber(b, statusCode, uint64(code))
	b = appendText(b, statusMessage, reason.String())
	b = closeField(b, status)

	b, denied := openLarge(b, kind)
	b, http := openField(b, deniedStatus)
	b = appendNumber(b, 1, uint64(o.status))
	b = closeField(b, http)
	if challenge := r.challenge[reason]; challenge != "" {
		b = appendHeader(b, deniedHeaders, "www-authenticate", challenge)
	}
	b = appendHeader(b, deniedHeaders, policy.HeaderDecisionID, a.id[:])
	b = appendHeader(b, deniedHeaders, "cache-control", "no-store")
	if a.grpc {
		// Envoy makes grpc-message of the body, and sets the content type itself.
		b = appendText(b, deniedBody, reason.String())
	} else {
		b = appendHeader(b, deniedHeaders, "content-type", "application/json")
		b = protowire.AppendTag(b, deniedBody, protowire.BytesType)
		start := r.bodyStart[reason]
		b = protowire.AppendVarint(b, uint64(len(start)+len(a.id)+len(bodyEnd)))
		b = append(b, start...)
		b = append(b, a.id[:]...)
		b = append(b, bodyEnd...)
	}
	b = closeLarge(b, denied)
	return metadata(b, a)
}

const bodyEnd = `"}` + "\n"

const overwrite = byte(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)

// appendHeader appends a HeaderValueOption that overwrites whatever was there. One
// below 128 bytes, as almost all are, is written in a line: every length in it is
// one byte.
func appendHeader[T string | []byte](b []byte, num protowire.Number, key string, value T) []byte {
	const around = 8 // tags and lengths inside the option
	if whole := around + len(key) + len(value); whole < 0x80 {
		b = append(b, byte(num<<3)|bytesTag, byte(whole),
			optionHeader<<3|bytesTag, byte(whole-4), headerKey<<3|bytesTag, byte(len(key)))
		b = append(b, key...)
		b = append(b, headerText<<3|bytesTag, byte(len(value)))
		b = append(b, value...)
		return append(b, optionAction<<3, overwrite)
	}
	b, option := openField(b, num)
	b, h := openField(b, optionHeader)
	b = appendText(b, headerKey, key)
	b = appendText(b, headerText, value)
	b = closeField(b, h)
	b = appendNumber(b, optionAction, uint64(overwrite))
	return closeField(b, option)
}

// appendRoles appends the roles header, joined in place.
func appendRoles(b []byte, roles []string) []byte {
	b, option := openField(b, okHeaders)
	b, h := openField(b, optionHeader)
	b = appendText(b, headerKey, policy.HeaderRoles)
	b, text := openField(b, headerText)
	for i, role := range roles {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, role...)
	}
	b = closeField(b, text)
	b = closeField(b, h)
	b = appendNumber(b, optionAction, uint64(overwrite))
	return closeField(b, option)
}

// metadata appends the dynamic metadata: what access logs and later filters read.
func metadata(b []byte, a *answer) []byte {
	b, at := openLarge(b, responseMetadata)
	b = textEntry(b, "decision_id", a.id[:])
	b = textEntry(b, "reason", a.reason.String())
	if metadataSafe(a.rule) {
		b = textEntry(b, "rule", a.rule)
	}
	if !a.anonymous && len(a.actor) <= maxActor && metadataSafe(a.actor) {
		b = textEntry(b, "actor", a.actor)
	}
	if a.principal.Kind != 0 && !a.anonymous {
		b = textEntry(b, "kind", a.principal.Kind.String())
		if metadataSafe(a.principal.Tenant) {
			b = textEntry(b, "tenant", a.principal.Tenant)
		}
		if metadataSafe(a.principal.ID) {
			b = textEntry(b, "subject", a.principal.ID)
		}
		if len(a.roles) > 0 && !a.rolesUnknown && rolesListable(a.roles) {
			b = rolesEntry(b, a.roles)
		}
	}
	return closeLarge(b, at)
}

// textEntry appends a field of a Struct, a short one in a line.
func textEntry[T string | []byte](b []byte, key string, text T) []byte {
	const around = 6 // tags and lengths inside the entry
	if whole := around + len(key) + len(text); whole < 0x80 {
		b = append(b, structFields<<3|bytesTag, byte(whole), entryKey<<3|bytesTag, byte(len(key)))
		b = append(b, key...)
		b = append(b, entryValue<<3|bytesTag, byte(len(text)+2), valueText<<3|bytesTag, byte(len(text)))
		return append(b, text...)
	}
	b, entry := openField(b, structFields)
	b = appendText(b, entryKey, key)
	b, value := openField(b, entryValue)
	b = appendText(b, valueText, text)
	b = closeField(b, value)
	return closeField(b, entry)
}

// rolesEntry appends the field `roles` of a Struct, a list of texts.
func rolesEntry(b []byte, roles []string) []byte {
	b, entry := openField(b, structFields)
	b = appendText(b, entryKey, "roles")
	b, value := openField(b, entryValue)
	b, list := openField(b, valueList)
	for _, role := range roles {
		b = appendListText(b, role)
	}
	b = closeField(b, list)
	b = closeField(b, value)
	return closeField(b, entry)
}

func appendListText(b []byte, text string) []byte {
	b, item := openField(b, listValues)
	b = appendText(b, valueText, text)
	return closeField(b, item)
}
