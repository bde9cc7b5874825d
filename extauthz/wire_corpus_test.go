package extauthz

import (
	"bytes"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// richRequest fills every field that CheckRequest has, at every depth.
func richRequest() *authv3.CheckRequest {
	metadata := &corev3.Metadata{
		FilterMetadata: map[string]*structpb.Struct{"a.filter": {Fields: map[string]*structpb.Value{
			"text": structpb.NewStringValue("é"), "number": structpb.NewNumberValue(1.5), "none": structpb.NewNullValue(),
			"truth": structpb.NewBoolValue(true),
			"list":  structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("deep")}}),
		}}},
		TypedFilterMetadata: map[string]*anypb.Any{"typed": {TypeUrl: "type.googleapis.com/x", Value: []byte{0xff, 0}}},
	}
	peer := func(principal string, address *corev3.Address) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: address, Service: "svc", Labels: map[string]string{"app": "x"},
			Principal: principal, Certificate: "-----BEGIN%20"}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("spiffe://example.org/a", &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Protocol: corev3.SocketAddress_UDP, Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 65000},
			ResolverName: "r", Ipv4Compat: true}}}),
		Destination: peer("spiffe://example.org/b", &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/p", Mode: 0o660}}}),
		Request: &authv3.AttributeContext_Request{
			Time: &timestamppb.Timestamp{Seconds: 1700000000, Nanos: 42},
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "4711", Method: "GET", Path: "/posts/1?x=y", Host: "blog.example.com", Scheme: "https", Protocol: "HTTP/2",
				Query: "q", Fragment: "f", Size: -1, Body: "body", RawBody: []byte{1, 2, 0xff},
				Headers: map[string]string{":path": "/posts/1?x=y", "authorization": "Bearer a.b.c", "x-empty": ""},
				HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
					{Key: "authorization", RawValue: []byte("Bearer a.b.c")}, {Key: "accept", Value: "text/html"},
					{Key: "accept", Value: "*/*"}, {Key: "x-raw", RawValue: []byte{0xff, 0x01}}}},
			},
		},
		ContextExtensions:    map[string]string{"permission": "view_content", "other": "x"},
		MetadataContext:      metadata,
		RouteMetadataContext: metadata,
		TlsSession:           &authv3.AttributeContext_TLSSession{Sni: "blog.example.com"},
	}}
}

// typicalRequest is what Envoy sends for a browser's request with a token.
func typicalRequest() *authv3.CheckRequest {
	headers := map[string]string{
		":authority": "blog.example.com", ":method": "GET", ":path": "/posts/17", ":scheme": "https",
		"accept": "text/html,application/xhtml+xml", "accept-encoding": "gzip, deflate, br", "accept-language": "en-GB,en;q=0.7",
		"authorization": "Bearer " + strings.Repeat("abcDEF012_-", 60) + ".x.y", "cookie": "theme=dark; consent=1",
		"referer": "https://blog.example.com/", "sec-fetch-dest": "document", "sec-fetch-mode": "navigate", "sec-fetch-site": "same-origin",
		"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "x-forwarded-for": "203.0.113.9",
		"x-forwarded-proto": "https", "x-request-id": "7f9c2ba4-e88f-4c5d-9d1b-6f3a0e1c2d3b",
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "203.0.113.9", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 51000}}}}},
		Request: &authv3.AttributeContext_Request{
			Time: &timestamppb.Timestamp{Seconds: 1700000000, Nanos: 42},
			Http: &authv3.AttributeContext_HttpRequest{Id: "1234567890", Method: "GET", Path: "/posts/17", Host: "blog.example.com",
				Scheme: "https", Protocol: "HTTP/2", Headers: headers},
		},
	}}
}

// nested builds metadata of the given depth of lists, the way protobuf writes it.
func nested(depth int) []byte { return nestedAround(depth, nil) }

// nestedAround is nested with a google.protobuf.Value in the innermost place.
func nestedAround(depth int, value []byte) []byte {
	for range depth {
		list := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), value)
		value = protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), list)
	}
	wrap := func(num protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	return wrap(1, wrap(11, wrap(1, wrap(2, wrap(1, wrap(2, value))))))
}

// paddedValue is a map entry whose value has five bytes, their number written in
// three, and then an unknown field that ends where the value would if the third
// were a part of it.
func paddedValue() []byte {
	b := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("a"))
	b = append(protowire.AppendTag(b, 2, protowire.BytesType), 0x85, 0x80, 0x00)
	b = append(b, "abcde"...)
	return protowire.AppendBytes(protowire.AppendTag(b, 7, protowire.BytesType), make([]byte, 16380))
}

func groups(depth int) []byte {
	var b []byte
	for range depth {
		b = protowire.AppendTag(b, 99, protowire.StartGroupType)
	}
	for range depth {
		b = protowire.AppendTag(b, 99, protowire.EndGroupType)
	}
	return b
}

// crafted are messages on the edges of what protobuf accepts.
func crafted(tb testing.TB) map[string][]byte {
	wrap := func(num protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	http := func(b []byte) []byte { return wrap(1, wrap(4, wrap(2, b))) }
	rich := marshal(tb, richRequest())
	return map[string][]byte{
		"empty":                       nil,
		"rich":                        rich,
		"typical":                     marshal(tb, typicalRequest()),
		"twice merges":                append(append([]byte{}, rich...), marshal(tb, typicalRequest())...),
		"no request":                  wrap(1, nil),
		"no http":                     wrap(1, wrap(4, nil)),
		"bad UTF-8 in path":           http(wrap(4, []byte{'/', 0xff})),
		"bad UTF-8 in a header key":   http(wrap(3, wrap(1, []byte{0xc0}))),
		"bad UTF-8 in a header value": http(wrap(3, append(wrap(1, []byte("a")), wrap(2, []byte{0x80})...))),
		"bad UTF-8 in the body":       http(wrap(11, []byte{0xed, 0xa0, 0x80})),
		"bytes in the raw body":       http(wrap(12, []byte{0xff})),
		"bad UTF-8 in metadata":       wrap(1, wrap(11, wrap(1, wrap(1, []byte{0xff})))),
		"bad UTF-8 in an Any":         wrap(1, wrap(11, wrap(2, wrap(2, wrap(1, []byte{0xff}))))),
		"bad UTF-8 in the SNI":        wrap(1, wrap(12, wrap(1, []byte{0xff}))),
		"bad UTF-8 in an address":     wrap(1, wrap(2, wrap(1, wrap(1, wrap(2, []byte{0xff}))))),
		"bad UTF-8 in an unknown":     http(wrap(99, []byte{0xff})),
		"path as a varint":            http(protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 1)),
		"http as a varint":            wrap(1, wrap(4, protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1))),
		"headers as fixed64":          http(protowire.AppendFixed64(protowire.AppendTag(nil, 3, protowire.Fixed64Type), 1)),
		"size as bytes":               http(wrap(9, []byte("x"))),
		"size as fixed32":             http(protowire.AppendFixed32(protowire.AppendTag(nil, 9, protowire.Fixed32Type), 1)),
		"header entry without key":    http(wrap(3, wrap(2, []byte("v")))),
		"header entry twice keyed":    http(wrap(3, append(wrap(1, []byte("a")), wrap(1, []byte("b"))...))),
		"header key twice":            http(append(wrap(3, append(wrap(1, []byte("a")), wrap(2, []byte("1"))...)), wrap(3, wrap(1, []byte("a")))...)),
		"entry with an unknown":       http(wrap(3, append(wrap(7, []byte{0xff}), wrap(1, []byte("a"))...))),
		"padded length in an entry":   http(wrap(3, paddedValue())),
		"long value in an entry":      http(wrap(3, append(wrap(1, []byte("a")), wrap(2, bytes.Repeat([]byte("v"), 20000))...))),
		"value of two length bytes":   http(wrap(3, append(wrap(1, []byte("a")), wrap(2, bytes.Repeat([]byte("v"), 300))...))),
		"long key in an entry":        http(wrap(3, append(wrap(1, bytes.Repeat([]byte("k"), 200)), wrap(2, []byte("v"))...))),
		"value before key":            http(wrap(3, append(wrap(2, []byte("v")), wrap(1, []byte("k"))...))),
		"number zero":                 {0x02, 0x00},
		"number too high":             protowire.AppendVarint(protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3), 1),
		"number highest":              protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1),
		"number past 32 bits":         append(protowire.AppendVarint(nil, 1<<36), 0),
		"padded tag":                  append([]byte{0x8a, 0x00}, 0),
		"padded length":               {0x0a, 0x80, 0x80, 0x00},
		"reserved wire type":          {0x0e},
		"varint too long":             {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"varint longest":              {0x78, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"end of no group":             {0x0c},
		"group":                       groups(1),
		"group in a message":          http(groups(3)),
		"group of field attributes":   {0x0b, 0x0c},
		"group left open":             {0x0b},
		"group closed by another":     {0x0b, 0x14},
		"groups at the limit":         groups(10001),
		"groups past the limit":       groups(10002),
		"length past the end":         {0x0a, 0x05, 0x00},
		"length of 2^63":              {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"nested at the limit":         nested(4996),
		"nested past the limit":       nested(4997),
		"nested far past the limit":   nested(20000),
		"nanos cut to 32 bits":        wrap(1, wrap(4, wrap(1, protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1<<40|7)))),
	}
}
