package decisionlog

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"portcullis/policy"
)

// timeFormat is RFC 3339 in UTC, of one width so that lines sort as text.
const timeFormat = "2006-01-02T15:04:05.000000Z07:00"

// Bounds of what a line holds of a text that a caller chose, in bytes. A longer
// text is cut and the line says "truncated":true, so that a flood of huge
// requests cannot make the queue huge.
const (
	maxPath   = 1024
	maxText   = 256
	maxMethod = 32
	maxRoles  = 32  // in number
	maxRole   = 64  // each
	maxPeer   = 512 // what a certificate names
)

// appendRecord appends the record as a JSON object and a newline.
func (l *Log) appendRecord(dst []byte, rec *Record) []byte {
	e := encoder{buf: append(dst, `{"time":"`...)}
	e.buf = rec.Time.UTC().AppendFormat(e.buf, timeFormat)
	e.buf = append(e.buf, '"')
	e.bytes("decision_id", rec.DecisionID, maxText)
	e.buf = append(e.buf, `,"effect":"`...)
	e.buf = append(e.buf, rec.Effect.String()...)
	e.buf = append(e.buf, `","reason":"`...)
	e.buf = append(e.buf, rec.Reason.String()...)
	e.buf = append(e.buf, '"')
	e.string("rule", rec.Rule, maxText)
	e.principal(&rec.Principal)
	e.proof(rec)
	e.string("actor", rec.Actor, maxPeer)
	e.roles(rec.Roles)
	e.buf = append(e.buf, `,"revision":`...)
	e.buf = strconv.AppendInt(e.buf, rec.Revision, 10)
	e.string("policy_digest", rec.PolicyDigest, maxText)
	e.bytes("method", rec.Method, maxMethod)
	e.bytes("host", rec.Host, maxText)
	path, _, _ := bytes.Cut(rec.Path, []byte{'?'})
	e.bytes("path", path, maxPath)
	e.buf = append(e.buf, `,"duration_us":`...)
	e.buf = strconv.AppendInt(e.buf, rec.Duration.Microseconds(), 10)
	e.buf = append(e.buf, `,"grpc":`...)
	e.buf = strconv.AppendBool(e.buf, rec.GRPC)
	e.shadow(rec)
	if l.mode == Sample && rec.Effect == policy.Allow && !rec.shadowDenies() {
		e.buf = append(e.buf, `,"sample_rate":`...)
		e.buf = strconv.AppendFloat(e.buf, l.rate, 'g', -1, 64)
	}
	if e.truncated {
		e.buf = append(e.buf, `,"truncated":true`...)
	}
	return append(e.buf, '}', '\n')
}

// encoder appends members to a JSON object.
type encoder struct {
	buf       []byte
	truncated bool
}

func (e *encoder) principal(p *policy.Principal) {
	if *p == (policy.Principal{}) {
		return
	}
	e.buf = append(e.buf, `,"principal":{"kind":"`...)
	e.buf = append(e.buf, p.Kind.String()...)
	e.buf = append(e.buf, '"')
	e.string("tenant", p.Tenant, maxText)
	e.string("id", p.ID, maxText)
	e.buf = append(e.buf, '}')
}

func (e *encoder) proof(rec *Record) {
	e.buf = append(e.buf, `,"proof":{"by":"`...)
	e.buf = append(e.buf, rec.Proof.String()...)
	e.buf = append(e.buf, '"')
	e.string("issuer", rec.Issuer, maxText)
	e.string("kid", rec.KeyID, maxText)
	e.string("jti", rec.TokenID, maxText)
	e.string("key_name", rec.KeyName, maxText)
	e.string("key_id", rec.APIKeyID, maxText)
	e.string("spiffe", rec.SPIFFE, maxPeer)
	e.buf = append(e.buf, '}')
}

// shadow appends what a shadow rule would have decided.
func (e *encoder) shadow(rec *Record) {
	if rec.ShadowRule == "" {
		return
	}
	e.buf = append(e.buf, `,"shadow":{"effect":"`...)
	e.buf = append(e.buf, rec.ShadowReason.Effect().String()...)
	e.buf = append(e.buf, `","reason":"`...)
	e.buf = append(e.buf, rec.ShadowReason.String()...)
	e.buf = append(e.buf, '"')
	e.string("rule", rec.ShadowRule, maxText)
	e.buf = append(e.buf, '}')
}

// shadowDenies reports whether a shadow rule would have denied, which has its line
// written whatever the sample says.
func (rec *Record) shadowDenies() bool {
	return rec.ShadowRule != "" && rec.ShadowReason.Effect() == policy.Deny
}

func (e *encoder) roles(roles []string) {
	if len(roles) == 0 {
		return
	}
	if len(roles) > maxRoles {
		roles, e.truncated = roles[:maxRoles], true
	}
	e.buf = append(e.buf, `,"roles":[`...)
	for i, role := range roles {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.buf, '"')
		e.buf = appendEscaped(e.buf, cut(role, maxRole, &e.truncated))
		e.buf = append(e.buf, '"')
	}
	e.buf = append(e.buf, ']')
}

// string appends ,"name":"value", unless the value is empty.
func (e *encoder) string(name, value string, limit int) { member(e, name, value, limit) }

func (e *encoder) bytes(name string, value []byte, limit int) { member(e, name, value, limit) }

type text interface{ ~string | ~[]byte }

func member[T text](e *encoder, name string, value T, limit int) {
	if len(value) == 0 {
		return
	}
	e.buf = append(e.buf, ',', '"')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, '"', ':', '"')
	e.buf = appendEscaped(e.buf, cut(value, limit, &e.truncated))
	e.buf = append(e.buf, '"')
}

func cut[T text](value T, limit int, truncated *bool) T {
	if len(value) <= limit {
		return value
	}
	*truncated = true
	return value[:limit]
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends the value as the inside of a JSON string: quotes,
// backslashes, control bytes and DEL escaped, what is not UTF-8 replaced by
// U+FFFD, and U+2028 and U+2029, which some readers take for line ends, escaped.
func appendEscaped[T text](dst []byte, value T) []byte {
	start := 0
	for i := 0; i < len(value); {
		c := value[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, value[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := decodeRune(value[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			dst = append(dst, value[start:i]...)
			if size == 1 {
				dst = append(dst, "\ufffd"...)
			} else {
				dst = append(dst, '\\', 'u', '2', '0', '2', hexDigits[r&15])
			}
			i += size
			start = i
			continue
		}
		i += size
	}
	return append(dst, value[start:]...)
}

// decodeRune decodes the first rune of either kind of text, copying at most four
// bytes.
func decodeRune[T text](value T) (rune, int) {
	var b [utf8.UTFMax]byte
	n := copy(b[:], value)
	return utf8.DecodeRune(b[:n])
}
