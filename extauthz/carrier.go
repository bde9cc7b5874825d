package extauthz

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// ServiceName is the gRPC service that Envoy calls.
const ServiceName = "envoy.service.auth.v3.Authorization"

// call carries one Check through grpc-go, which knows only that it can be
// unmarshalled and marshalled. The decision is made while it is unmarshalled, on
// the bytes as they came.
type call struct {
	carrier *carrier
	resp    *[]byte // from the carrier's buffers
	err     error
}

// carrier is the codec of the server, and the maker of calls. What is not a call
// (grpc.health.v1) goes to protobuf's own codec. It is safe for concurrent use.
type carrier struct {
	core     *Core
	fallback encoding.CodecV2
	calls    sync.Pool // of *call
	buffers  bufferPool
}

func newCarrier(core *Core) *carrier {
	c := &carrier{core: core, fallback: encoding.GetCodecV2(proto.Name)}
	c.calls.New = func() any { return &call{carrier: c} }
	return c
}

// Name is protobuf's: the bytes on the wire are protobuf's.
func (c *carrier) Name() string { return proto.Name }

// Unmarshal decides a call, or decodes anything else.
func (c *carrier) Unmarshal(data mem.BufferSlice, v any) error {
	k, ok := v.(*call)
	if !ok {
		return c.fallback.Unmarshal(data, v)
	}
	if len(data) == 1 {
		k.decide(data[0].ReadOnlyData())
		return nil
	}
	whole := c.buffers.Get(data.Len())
	n := data.CopyTo(*whole)
	k.decide((*whole)[:n])
	c.buffers.Put(whole)
	return nil
}

func (k *call) decide(req []byte) {
	k.resp = k.carrier.buffers.Get(0)
	*k.resp, k.err = k.carrier.core.Check((*k.resp)[:0], req)
}

// Marshal hands out the response that was made while the call was unmarshalled.
// The buffer goes back to the pool once grpc-go has written it.
func (c *carrier) Marshal(v any) (mem.BufferSlice, error) {
	k, ok := v.(*call)
	if !ok {
		return c.fallback.Marshal(v)
	}
	if k.resp == nil || len(*k.resp) == 0 {
		// No bytes would be an allow.
		return nil, status.Error(codes.Internal, "the check has no response")
	}
	b := mem.NewBuffer(k.resp, &c.buffers)
	k.recycle()
	return mem.BufferSlice{b}, nil
}

func (k *call) recycle() {
	k.resp, k.err = nil, nil
	k.carrier.calls.Put(k)
}

// check is the gRPC handler of Authorization/Check.
func (c *carrier) check(decode func(any) error) (any, error) {
	k := c.calls.Get().(*call)
	if err := decode(k); err != nil {
		return nil, err
	}
	if k.err == nil {
		return k, nil
	}
	err := k.err
	if k.resp != nil {
		c.buffers.Put(k.resp)
	}
	k.recycle()
	if errors.Is(err, ErrNotCheckRequest) {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return nil, status.Error(codes.Unavailable, err.Error())
}

// checker is what the service desc asks of its server.
type checker interface {
	check(decode func(any) error) (any, error)
}

// serviceDesc describes Authorization to grpc-go without its generated stubs,
// which would decode every message.
func serviceDesc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: ServiceName,
		HandlerType: (*checker)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Check",
			Handler: func(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				return srv.(checker).check(decode)
			},
		}},
		Metadata: "envoy/service/auth/v3/external_auth.proto",
	}
}

// responseRoom is how many bytes a pooled buffer has: enough for an allow with a
// hundred roles. A response that outgrows it takes one allocation.
const responseRoom = 4 << 10

// maxPooled is the largest buffer that goes back to the pool, in bytes.
const maxPooled = 64 << 10

// bufferPool is a mem.BufferPool of response buffers. The zero value is ready.
type bufferPool struct{ pool sync.Pool }

// Get returns a buffer of the given length, or longer capacity.
func (p *bufferPool) Get(length int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		if cap(*b) >= length {
			*b = (*b)[:length]
			return b
		}
		p.pool.Put(b)
	}
	b := make([]byte, length, max(length, responseRoom))
	return &b
}

// Put takes a buffer back.
func (p *bufferPool) Put(b *[]byte) {
	if cap(*b) <= maxPooled {
		p.pool.Put(b)
	}
}
