package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ask puts the question to the gate as Envoy does with encode_raw_headers.
func (f *checkFlags) ask(ctx context.Context, addr string, q question) (*verdict, error) {
	creds, err := f.credentials()
	if err != nil {
		return nil, err
	}
	target := "passthrough:///" + addr
	if strings.HasPrefix(addr, "unix://") {
		target = addr
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		return nil, usagef("--addr: %w", err)
	}
	defer conn.Close()
	response, err := authv3.NewAuthorizationClient(conn).Check(ctx, q.request())
	if err != nil {
		return nil, unreachable(addr, err)
	}
	return newVerdict(q, response), nil
}

// request is the message for a question.
func (q question) request() *authv3.CheckRequest {
	headers := []*corev3.HeaderValue{
		{Key: ":authority", RawValue: []byte(q.host)},
		{Key: ":method", RawValue: []byte(q.method)},
		{Key: ":scheme", RawValue: []byte(q.scheme)},
	}
	if q.path != "" {
		headers = append(headers, &corev3.HeaderValue{Key: ":path", RawValue: []byte(q.path)})
	}
	for _, h := range q.headers {
		headers = append(headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: nowhere(), Principal: q.principal},
		Destination: &authv3.AttributeContext_Peer{Address: nowhere()},
		Request: &authv3.AttributeContext_Request{
			Time: timestamppb.Now(),
			Http: &authv3.AttributeContext_HttpRequest{
				Method: q.method, Path: q.path, Host: q.host, Scheme: q.scheme, Protocol: "HTTP/1.1",
				HeaderMap: &corev3.HeaderMap{Headers: headers},
			},
		},
		ContextExtensions: q.extensions,
	}}
}

// nowhere is the address of a peer that does not exist.
func nowhere() *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 0},
	}}}
}

func (f *checkFlags) credentials() (credentials.TransportCredentials, error) {
	if f.tlsCA == "" {
		if f.tlsCert != "" || f.tlsKey != "" || f.tlsServerName != "" {
			return nil, usagef("--tls-ca is missing: without it the connection is in plain text")
		}
		return insecure.NewCredentials(), nil
	}
	pem, err := os.ReadFile(f.tlsCA)
	if err != nil {
		return nil, usagef("--tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("--tls-ca: %s holds no certificate in PEM", f.tlsCA)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: f.tlsServerName}
	if f.tlsCert != "" || f.tlsKey != "" {
		if f.tlsCert == "" || f.tlsKey == "" {
			return nil, usagef("--tls-cert and --tls-key go together: give both")
		}
		cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		if err != nil {
			return nil, usagef("--tls-cert: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(cfg), nil
}
