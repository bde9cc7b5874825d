package main

import (
	"errors"
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// statusCode reads CheckResponse.status.code without decoding the rest, so that
// checking every verdict does not slow the load.
func statusCode(msg []byte) (int32, error) {
	code := int32(0)
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(num, typ, msg[n:])
		if size < 0 {
			return 0, protowire.ParseError(size)
		}
		if num == 1 && typ == protowire.BytesType {
			status, _ := protowire.ConsumeBytes(msg[n:])
			if len(status) > 1 && status[0] == 0x08 {
				v, _ := protowire.ConsumeVarint(status[1:])
				code = int32(v)
			}
		}
		msg = msg[n+size:]
	}
	return code, nil
}

// judgeGate holds a verdict of the gate against what it must be; now and then it
// reads the whole response.
func judgeGate() func(*request, []byte) error {
	seen := 0
	return func(r *request, body []byte) error {
		msg, err := message(body)
		if err != nil {
			return err
		}
		code, err := statusCode(msg)
		if err != nil {
			return err
		}
		if code == int32(codes.ResourceExhausted) {
			return errOverloaded
		}
		if (code == 0) != r.allow {
			return fmt.Errorf("a request that must be allowed=%v got status %d", r.allow, code)
		}
		if seen++; seen%1024 != 0 {
			return nil
		}
		var resp authv3.CheckResponse
		if err := proto.Unmarshal(msg, &resp); err != nil {
			return err
		}
		if r.allow && len(resp.GetOkResponse().GetHeaders()) < 4 {
			return fmt.Errorf("an allow without its identity headers: %v", &resp)
		}
		if !r.allow && resp.GetDeniedResponse().GetStatus().GetCode() != 403 {
			return fmt.Errorf("a denial that is no 403: %v", &resp)
		}
		return nil
	}
}

// errOverloaded: the gate sheds a request. It does so where more callers come in cold at
// once than it loads, which is what warming up is about, and never once it is warm.
var errOverloaded = errors.New("a request was shed as overloaded")

// whileCold is a judge that lets a gate be overloaded.
func whileCold(judge func(*request, []byte) error) func(*request, []byte) error {
	return func(r *request, body []byte) error {
		if err := judge(r, body); !errors.Is(err, errOverloaded) {
			return err
		}
		return nil
	}
}

// judgeStub expects an allow, whatever was asked.
func judgeStub(_ *request, body []byte) error {
	msg, err := message(body)
	if err != nil {
		return err
	}
	if code, err := statusCode(msg); err != nil || code != 0 {
		return fmt.Errorf("the stub answered %d, %v", code, err)
	}
	return nil
}
