package extauthz

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
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
