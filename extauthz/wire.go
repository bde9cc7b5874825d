package extauthz

import (
	"errors"
	"fmt"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

// ErrNotCheckRequest says that the bytes are no CheckRequest: protobuf would refuse
// them, for more than text that is not UTF-8. Envoy sends no such bytes. The error
// carries no detail of them.
var ErrNotCheckRequest = errors.New("the message is no CheckRequest")

// parser reads CheckRequests by the tables that were compiled from protobuf's own
// descriptors. It accepts what proto.Unmarshal accepts and refuses what it
// refuses; see docs/design/wire-path.md. Immutable, safe for concurrent use.
type parser struct {
	root *schemaMessage
}

// newParser compiles the tables. It fails where the CheckRequest that this program
// is linked with has a construct or a field that the parser does not know.
func newParser() (*parser, error) {
	root, err := newSchema((&authv3.CheckRequest{}).ProtoReflect().Descriptor(), captureByPath())
	if err != nil {
		return nil, fmt.Errorf("compile the request parser: %w", err)
	}
	return &parser{root: root}, nil
}

// parse fills v from the bytes of a CheckRequest. The view's slices point into
// req. It allocates nothing once the view's lists have grown.
//
// Where the only fault of the message is text that is not UTF-8, which protobuf
// refuses too, parse returns nil and sets v.badText: the text may have come through
// Envoy from a client, so it must end in a denial and not in a gRPC error, which
// failure_mode_allow could turn into an allow.
func (p *parser) parse(v *view, req []byte) error {
	v.reset()
	if !v.walk(p.root, req, protowire.DefaultRecursionLimit-1) {
		return ErrNotCheckRequest
	}
	return nil
}

// walk validates one message and stores what the view wants of it. depth is how
// many messages may still nest below it. The order of the tests is protobuf's:
// where it takes a field of the wrong wire type for an unknown one, so does this.
func (v *view) walk(m *schemaMessage, b []byte, depth int) bool {
	for len(b) > 0 {
		tag := uint64(b[0])
		if tag < 0x80 {
			b = b[1:]
		} else {
			var n int
			if tag, n = protowire.ConsumeVarint(b); n < 0 {
				return false
			}
			b = b[n:]
		}
		num, typ := tag>>3, protowire.Type(tag&7)
		if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
			return false
		}
		f := m.field(num)
		if f.kind == kindMapEntry && depth <= 0 {
			return false
		}
		if typ == protowire.BytesType {
			text, n := consumeBytes(b)
			if n < 0 {
				return false
			}
			b = b[n:]
			if !v.lengthDelimited(f, text, depth) {
				return false
			}
			continue
		}
		n := v.scalar(f, protowire.Number(num), typ, b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// lengthDelimited takes the payload of a field that was written with its length.
func (v *view) lengthDelimited(f schemaField, text []byte, depth int) bool {
	switch f.kind {
	case kindText:
		if !utf8.Valid(text) {
			v.badText = true
		}
		v.store(f.capture, text)
	case kindBytes:
		v.store(f.capture, text)
	case kindMapEntry, kindMessage:
		if depth <= 0 {
			return false
		}
		if f.pair && v.plainPair(f.capture, text) {
			return true
		}
		if f.capture == captureNone {
			return v.walk(f.sub, text, depth-1)
		}
		v.begin()
		if !v.walk(f.sub, text, depth-1) {
			return false
		}
		v.end(f.capture)
	default:
		return f.packed == kindUnknown || validPacked(f.packed, text)
	}
	return true
}

// plainPair takes a map entry that is written as everybody writes one: a key below
// 128 bytes, then a value below 16 KiB, and nothing else. It is false, and has done
// nothing, for any other.
func (v *view) plainPair(c capture, b []byte) bool {
	if len(b) < 4 || b[0] != 1<<3|byte(protowire.BytesType) || b[1] >= 0x80 {
		return false
	}
	end := 2 + int(b[1])
	if end+2 > len(b) || b[end] != 2<<3|byte(protowire.BytesType) {
		return false
	}
	key, rest := b[2:end:end], b[end+1:]
	n, size := int(rest[0]), 1
	if n >= 0x80 {
		if len(rest) < 2 || rest[1] >= 0x80 {
			return false
		}
		n, size = n&0x7f|int(rest[1])<<7, 2
	}
	if size+n != len(rest) {
		return false
	}
	if !utf8.Valid(key) || !utf8.Valid(rest[size:]) {
		v.badText = true
	}
	v.entry = header{key: key, value: rest[size:]}
	v.end(c)
	return true
}

// scalar takes a field that was not written with its length, and returns how many
// bytes its value has, or a negative number.
func (v *view) scalar(f schemaField, num protowire.Number, typ protowire.Type, b []byte) int {
	if typ == protowire.VarintType && f.kind == kindVarint {
		x, n := protowire.ConsumeVarint(b)
		v.number(f.capture, x)
		return n
	}
	return protowire.ConsumeFieldValue(num, typ, b)
}

// validPacked reports whether text is a row of whole numbers.
func validPacked(kind wireKind, text []byte) bool {
	switch kind {
	case kindFixed32:
		return len(text)%4 == 0
	case kindFixed64:
		return len(text)%8 == 0
	}
	for len(text) > 0 {
		_, n := protowire.ConsumeVarint(text)
		if n < 0 {
			return false
		}
		text = text[n:]
	}
	return true
}

// consumeBytes is protowire.ConsumeBytes with a short cut for the short texts that
// most headers are.
func consumeBytes(b []byte) ([]byte, int) {
	if len(b) > 0 && b[0] < 0x80 {
		n := 1 + int(b[0])
		if n > len(b) {
			return nil, -1
		}
		return b[1:n:n], n
	}
	return protowire.ConsumeBytes(b)
}
