package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"portcullis/internal/tuning"
)

// alwaysAllow is the cheapest authorizer that can be written on generated stubs.
type alwaysAllow struct {
	authv3.UnimplementedAuthorizationServer
}

func (alwaysAllow) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

// serveStub serves alwaysAllow on a unix socket until ctx ends: on grpc-go's
// defaults, or with the settings that Portcullis ships with. It prints where its
// metrics are.
func serveStub(ctx context.Context, socket string, tuned bool, stdout io.Writer) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	var opts []grpc.ServerOption
	if tuned {
		debug.SetGCPercent(tuning.Percent)
		opts = []grpc.ServerOption{
			grpc.NumStreamWorkers(64),
			grpc.ReadBufferSize(64 << 10), grpc.WriteBufferSize(64 << 10),
			grpc.StaticStreamWindowSize(1 << 20), grpc.StaticConnWindowSize(16 << 20),
		}
	}
	metrics, err := serveMetrics()
	if err != nil {
		return err
	}
	srv := grpc.NewServer(opts...)
	authv3.RegisterAuthorizationServer(srv, alwaysAllow{})
	context.AfterFunc(ctx, srv.Stop)
	fmt.Fprintln(stdout, metrics)
	return srv.Serve(l)
}
