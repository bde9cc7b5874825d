package extauthz

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// wireKind says how the value of a known field is written, and what protobuf
// demands of it.
type wireKind uint8

const (
	kindUnknown wireKind = iota // no such field: skipped as any unknown one
	kindVarint
	kindFixed32
	kindFixed64
	kindBytes
	kindText // bytes that must be valid UTF-8
	kindMessage
	kindMapEntry
)

// capture says which part of a view a field fills. Most fields fill none: they
// are only validated.
type capture uint8

const (
	captureNone capture = iota
	capturePrincipal
	captureSeconds
	captureNanos
	captureID
	captureMethod
	capturePath
	captureHost
	captureScheme
	captureProtocol
	captureKey
	captureValue
	captureRawValue
	captureHeader    // an entry of http.headers ends
	captureRawHeader // an entry of http.header_map ends
	captureExtension // an entry of context_extensions ends
)

// schemaField is one field of a message: how to validate it, and what it fills.
type schemaField struct {
	kind    wireKind
	packed  wireKind // for a repeated scalar: its element, when packed into bytes
	capture capture
	pair    bool // the entry of a map from text to text that fills a list
	sub     *schemaMessage
}

// schemaMessage is one message type, its fields by number. Immutable.
type schemaMessage struct {
	fields []schemaField
}

// field finds a field by number; the zero field is an unknown one.
func (m *schemaMessage) field(num uint64) schemaField {
	if num < uint64(len(m.fields)) {
		return m.fields[num]
	}
	return schemaField{}
}

// maxFieldNumber bounds the tables. The messages that Envoy sends number their
// fields below 20; one that goes past this stops the start, not a check.
const maxFieldNumber = 1 << 10

// schemaBuilder turns protobuf descriptors into tables. A message that fills part
// of a view has a table of its own for each place where it stands (a source peer
// is not a destination peer); the others share one table a type, which also ends
// the recursion of google.protobuf.Struct.
type schemaBuilder struct {
	captures map[string]capture
	shared   map[protoreflect.FullName]*schemaMessage
}

// captureByPath is the part of CheckRequest that a check reads. A name that the
// descriptors do not have stops the start, so that it cannot drift.
func captureByPath() map[string]capture {
	return map[string]capture{
		"attributes.source.principal":                          capturePrincipal,
		"attributes.request.time.seconds":                      captureSeconds,
		"attributes.request.time.nanos":                        captureNanos,
		"attributes.request.http.id":                           captureID,
		"attributes.request.http.method":                       captureMethod,
		"attributes.request.http.path":                         capturePath,
		"attributes.request.http.host":                         captureHost,
		"attributes.request.http.scheme":                       captureScheme,
		"attributes.request.http.protocol":                     captureProtocol,
		"attributes.request.http.headers":                      captureHeader,
		"attributes.request.http.headers.key":                  captureKey,
		"attributes.request.http.headers.value":                captureValue,
		"attributes.request.http.header_map.headers":           captureRawHeader,
		"attributes.request.http.header_map.headers.key":       captureKey,
		"attributes.request.http.header_map.headers.value":     captureValue,
		"attributes.request.http.header_map.headers.raw_value": captureRawValue,
		"attributes.context_extensions":                        captureExtension,
		"attributes.context_extensions.key":                    captureKey,
		"attributes.context_extensions.value":                  captureValue,
	}
}

// newSchema compiles the tables for a message type. It fails on a construct that
// the walker does not know: groups, extensions, required fields.
func newSchema(md protoreflect.MessageDescriptor, captures map[string]capture) (*schemaMessage, error) {
	b := &schemaBuilder{captures: captures, shared: make(map[protoreflect.FullName]*schemaMessage)}
	left := make(map[string]bool, len(captures))
	for path := range captures {
		left[path] = true
	}
	m, err := b.placed(md, "", left)
	if err != nil {
		return nil, err
	}
	for path := range left {
		return nil, fmt.Errorf("%s has no field %s", md.FullName(), path)
	}
	return m, nil
}

// placed compiles a message that stands at a path, where captures lie below it.
func (b *schemaBuilder) placed(md protoreflect.MessageDescriptor, path string, left map[string]bool) (*schemaMessage, error) {
	m := &schemaMessage{}
	err := b.fill(m, md, func(fd protoreflect.FieldDescriptor, f *schemaField) error {
		at := string(fd.Name())
		if path != "" {
			at = path + "." + at
		}
		f.capture = b.captures[at]
		delete(left, at)
		if fd.Message() == nil {
			return nil
		}
		var err error
		if b.below(at) {
			f.sub, err = b.placed(fd.Message(), at, left)
			f.pair = err == nil && fd.IsMap() && f.capture != captureNone &&
				f.sub.field(1) == (schemaField{kind: kindText, capture: captureKey}) &&
				f.sub.field(2) == (schemaField{kind: kindText, capture: captureValue})
		} else {
			f.sub, err = b.plain(fd.Message())
		}
		return err
	})
	return m, err
}

// below reports whether a capture lies under a path.
func (b *schemaBuilder) below(path string) bool {
	for p := range b.captures {
		if len(p) > len(path) && p[:len(path)] == path && p[len(path)] == '.' {
			return true
		}
	}
	return false
}

// plain compiles a message that is only validated.
func (b *schemaBuilder) plain(md protoreflect.MessageDescriptor) (*schemaMessage, error) {
	if m, ok := b.shared[md.FullName()]; ok {
		return m, nil
	}
	m := &schemaMessage{}
	b.shared[md.FullName()] = m
	err := b.fill(m, md, func(fd protoreflect.FieldDescriptor, f *schemaField) error {
		if fd.Message() == nil {
			return nil
		}
		var err error
		f.sub, err = b.plain(fd.Message())
		return err
	})
	return m, err
}

func (b *schemaBuilder) fill(m *schemaMessage, md protoreflect.MessageDescriptor, sub func(protoreflect.FieldDescriptor, *schemaField) error) error {
	if md.ExtensionRanges().Len() > 0 || md.RequiredNumbers().Len() > 0 {
		return fmt.Errorf("message %s has extensions or required fields, which the parser does not know", md.FullName())
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.Number() >= maxFieldNumber {
			return fmt.Errorf("field %s has number %d; the parser knows those below %d", fd.FullName(), fd.Number(), maxFieldNumber)
		}
		kind, err := wireKindOf(fd)
		if err != nil {
			return err
		}
		f := schemaField{kind: kind}
		if fd.IsList() && (kind == kindVarint || kind == kindFixed32 || kind == kindFixed64) {
			f.packed = kind
		}
		if err := sub(fd, &f); err != nil {
			return err
		}
		for len(m.fields) <= int(fd.Number()) {
			m.fields = append(m.fields, schemaField{})
		}
		m.fields[fd.Number()] = f
	}
	return nil
}

func wireKindOf(fd protoreflect.FieldDescriptor) (wireKind, error) {
	switch fd.Kind() {
	case protoreflect.BoolKind, protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Uint32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Uint64Kind, protoreflect.EnumKind:
		return kindVarint, nil
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return kindFixed32, nil
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return kindFixed64, nil
	case protoreflect.BytesKind:
		return kindBytes, nil
	case protoreflect.StringKind:
		if fd.Syntax() != protoreflect.Proto3 {
			return 0, fmt.Errorf("field %s is a string outside proto3, whose UTF-8 rule the parser does not know", fd.FullName())
		}
		return kindText, nil
	case protoreflect.MessageKind:
		if fd.IsMap() {
			return kindMapEntry, nil
		}
		return kindMessage, nil
	}
	return 0, fmt.Errorf("field %s is of kind %s, which the parser does not know", fd.FullName(), fd.Kind())
}
