package extauthz

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func testParser(tb testing.TB) *parser {
	tb.Helper()
	p, err := newParser()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// compare holds the parser to proto.Unmarshal on the same bytes: both refuse, or
// every field that a check reads is equal.
func compare(tb testing.TB, p *parser, v *view, req []byte) {
	tb.Helper()
	var want authv3.CheckRequest
	wantErr := proto.Unmarshal(req, &want)
	err := p.parse(v, req)
	refused := err != nil || v.badText
	if refused != (wantErr != nil) {
		tb.Fatalf("parse says %v, bad text %v, protobuf says %v, of %x", err, v.badText, wantErr, req)
	}
	if refused {
		return
	}
	http := want.GetAttributes().GetRequest().GetHttp()
	text := func(name string, got []byte, want string) {
		if string(got) != want {
			tb.Fatalf("%s is %q, protobuf has %q, of %x", name, got, want, req)
		}
	}
	text("method", v.method, http.GetMethod())
	text("path", v.path, http.GetPath())
	text("host", v.host, http.GetHost())
	text("scheme", v.scheme, http.GetScheme())
	text("protocol", v.protocol, http.GetProtocol())
	text("id", v.id, http.GetId())
	text("principal", v.principal, want.GetAttributes().GetSource().GetPrincipal())
	if time := want.GetAttributes().GetRequest().GetTime(); v.seconds != time.GetSeconds() || v.nanos != time.GetNanos() {
		tb.Fatalf("time is %d.%d, protobuf has %v", v.seconds, v.nanos, time)
	}
	sameMap(tb, "context_extensions", v.extensions, want.GetAttributes().GetContextExtensions())
	if v.tooMany {
		return
	}
	sameMap(tb, "headers", v.headers, http.GetHeaders())
	list := http.GetHeaderMap().GetHeaders()
	if len(list) != len(v.rawHeaders) {
		tb.Fatalf("%d raw headers, protobuf has %d", len(v.rawHeaders), len(list))
	}
	for i, h := range list {
		value := h.GetRawValue()
		if len(value) == 0 {
			value = []byte(h.GetValue())
		}
		text("raw header", v.rawHeaders[i].key, h.GetKey())
		if !bytes.Equal(v.rawHeaders[i].value, value) {
			tb.Fatalf("raw header %q is %q, protobuf has %q", h.GetKey(), v.rawHeaders[i].value, value)
		}
	}
}

func sameMap(tb testing.TB, name string, got []header, want map[string]string) {
	tb.Helper()
	last := make(map[string]string, len(got))
	for _, h := range got {
		last[string(h.key)] = string(h.value)
	}
	if len(last) != len(want) {
		tb.Fatalf("%s has %d keys, protobuf has %d", name, len(last), len(want))
	}
	for k, value := range want {
		if got, ok := last[k]; !ok || got != value {
			tb.Fatalf("%s[%q] is %q, protobuf has %q", name, k, got, value)
		}
	}
}

func marshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

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

func TestParserAgreesWithProtobufOnCraftedMessages(t *testing.T) {
	p, v := testParser(t), &view{}
	accepted, refused := 0, 0
	for name, req := range crafted(t) {
		t.Run(name, func(t *testing.T) { compare(t, p, v, req) })
		if p.parse(v, req) == nil && !v.badText {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 15 || refused < 15 {
		t.Fatalf("the messages lost their edge: %d accepted, %d refused", accepted, refused)
	}
}

// The nesting limit must be met exactly, on both sides: the test above compares,
// this one shows that the crafted depths are the edge.
func TestNestingLimitIsProtobufs(t *testing.T) {
	p, v := testParser(t), &view{}
	lo, hi := 1, 20000
	for lo < hi-1 {
		mid := (lo + hi) / 2
		req := nested(mid)
		compare(t, p, v, req)
		if p.parse(v, req) == nil {
			lo = mid
		} else {
			hi = mid
		}
	}
	// protobuf looks at the depth before the wire type where a field is a map, and
	// after it elsewhere; both parities of the depth are tried.
	number := []byte{0x08, 0x01}
	inStruct := append([]byte{0x2a, byte(len(number))}, number...) // struct_value {fields: 1}
	inEntry := append([]byte{0x2a, 6, 0x0a, 4, 0x12, 2}, number...)
	for d := lo - 5; d <= hi+5; d++ {
		for _, inner := range [][]byte{nil, number, inStruct, inEntry, append([]byte{0x2a, 8, 0x0a, 6, 0x12, 4}, inStruct...)} {
			compare(t, p, v, nestedAround(d, inner))
		}
	}
	if lo < 1000 || hi == 20000 {
		t.Fatalf("no edge found: accepted at %d, refused at %d", lo, hi)
	}
}

func TestParserAgreesWithProtobufOnDamagedMessages(t *testing.T) {
	p, v := testParser(t), &view{}
	rnd := rand.New(rand.NewPCG(1, 2))
	seeds := [][]byte{marshal(t, richRequest()), marshal(t, typicalRequest())}
	rounds := 40_000
	if testing.Short() {
		rounds = 4_000
	}
	for range rounds {
		req := damage(rnd, seeds[rnd.IntN(len(seeds))])
		compare(t, p, v, req)
	}
}

// damage changes a few bytes, cuts, repeats or inserts.
func damage(rnd *rand.Rand, seed []byte) []byte {
	req := append([]byte{}, seed...)
	for range 1 + rnd.IntN(4) {
		if len(req) == 0 {
			return req
		}
		at := rnd.IntN(len(req))
		switch rnd.IntN(6) {
		case 0:
			req[at] ^= 1 << rnd.IntN(8)
		case 1:
			req[at] = byte(rnd.UintN(256))
		case 2:
			req = req[:at]
		case 3:
			req = append(req[:at], req[min(at+1+rnd.IntN(8), len(req)):]...)
		case 4:
			end := min(at+1+rnd.IntN(40), len(req))
			req = append(append(append([]byte{}, req[:end]...), req[at:end]...), req[end:]...)
		case 5:
			req = append(append(append([]byte{}, req[:at]...), byte(rnd.UintN(256))), req[at:]...)
		}
	}
	return req
}

func TestParserKeepsTheLastThousandHeadersOut(t *testing.T) {
	p, v := testParser(t), &view{}
	build := func(n int) []byte {
		req := typicalRequest()
		headers := map[string]string{}
		for i := range n {
			headers["x-"+strings.Repeat("a", i%7)+string(rune('a'+i%26))+strings.Repeat("b", i/26)] = "v"
		}
		req.Attributes.Request.Http.Headers = headers
		if len(headers) != n {
			t.Fatalf("%d distinct headers, want %d", len(headers), n)
		}
		return marshal(t, req)
	}
	if err := p.parse(v, build(maxHeaders)); err != nil || v.tooMany {
		t.Fatalf("%d headers: %v, too many %v", maxHeaders, err, v.tooMany)
	}
	if err := p.parse(v, build(maxHeaders+1)); err != nil || !v.tooMany {
		t.Fatalf("%d headers: %v, too many %v", maxHeaders+1, err, v.tooMany)
	}
}

func TestWarmParseAllocatesNothing(t *testing.T) {
	p, v := testParser(t), &view{}
	for name, m := range map[string]*authv3.CheckRequest{"typical": typicalRequest(), "rich": richRequest()} {
		req := marshal(t, m)
		if n := testing.AllocsPerRun(100, func() {
			if p.parse(v, req) != nil {
				t.Fatal("refused")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzParser(f *testing.F) {
	for _, req := range crafted(f) {
		if len(req) < 4096 {
			f.Add(req)
		}
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	rich := marshal(f, richRequest())
	for range 200 {
		f.Add(damage(rnd, rich))
	}
	p, v := testParser(f), &view{}
	f.Fuzz(func(t *testing.T, req []byte) { compare(t, p, v, req) })
}

func BenchmarkParse(b *testing.B) {
	p, v := testParser(b), &view{}
	req := marshal(b, typicalRequest())
	b.SetBytes(int64(len(req)))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.parse(v, req); err != nil {
			b.Fatal(err)
		}
	}
}
