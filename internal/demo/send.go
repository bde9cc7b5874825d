package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"portcullis/internal/testkit"
	"portcullis/policy"
)

const sendTimeout = 10 * time.Second

// throughEnvoy sends a scene's request to Envoy, byte for byte as it is written.
func (b *blog) throughEnvoy(ctx context.Context, s scene) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if s.grpc {
		return b.callThroughEnvoy(ctx, s)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.address())
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(sendTimeout))
	var req strings.Builder
	fmt.Fprintf(&req, "%s %s HTTP/1.1\r\nHost: %s\r\n", s.method, s.path, blogHost)
	for _, h := range s.headers {
		fmt.Fprintf(&req, "%s: %s\r\n", h[0], h[1])
	}
	if s.method != http.MethodGet {
		req.WriteString("Content-Length: 0\r\n")
	}
	req.WriteString("Connection: close\r\n\r\n")
	began := time.Now()
	if _, err := io.WriteString(conn, req.String()); err != nil {
		return result{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return result{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return result{}, err
	}
	r := result{status: resp.StatusCode, took: time.Since(began)}
	if resp.StatusCode == http.StatusOK {
		var echo testkit.Echo
		if err := json.Unmarshal(body, &echo); err != nil {
			return r, fmt.Errorf("the upstream's echo %.200q: %w", body, err)
		}
		r.subject = echo.Headers.Get(policy.HeaderSubject)
		return r, nil
	}
	r.reason = byEnvoy
	var denial struct{ Reason string }
	if json.Unmarshal(body, &denial) == nil && denial.Reason != "" {
		r.reason = denial.Reason
	}
	return r, nil
}

func (b *blog) callThroughEnvoy(ctx context.Context, s scene) (result, error) {
	conn, err := grpc.NewClient(b.address(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(blogHost))
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	for _, h := range s.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, h[0], h[1])
	}
	began := time.Now()
	echo, err := testkit.CallEcho(ctx, conn, s.path)
	r := result{took: time.Since(began)}
	if st := status.Convert(err); err != nil {
		r.status, r.reason = int(st.Code()), st.Message()
		return r, nil
	}
	r.subject = echo.Headers.Get(policy.HeaderSubject)
	return r, nil
}

// directly asks the gate's own listener, as Envoy would.
func (b *blog) directly() (func(context.Context, scene) (result, error), error) {
	conn, err := grpc.NewClient(b.gate.ExtAuthz(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("gate"))
	if err != nil {
		return nil, err
	}
	client := authv3.NewAuthorizationClient(conn)
	return func(ctx context.Context, s scene) (result, error) {
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		headers := &corev3.HeaderMap{}
		for _, h := range s.headers {
			headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
		}
		began := time.Now()
		resp, err := client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Method: s.method, Path: s.path, Host: blogHost, Scheme: "http", HeaderMap: headers},
		}}})
		if err != nil {
			return result{}, err
		}
		r := result{status: http.StatusOK, took: time.Since(began)}
		for _, h := range resp.GetOkResponse().GetHeaders() {
			if h.GetHeader().GetKey() == policy.HeaderSubject {
				r.subject = h.GetHeader().GetValue() + string(h.GetHeader().GetRawValue())
			}
		}
		if denied := resp.GetDeniedResponse(); denied != nil {
			r.status = int(denied.GetStatus().GetCode())
			r.reason = resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
		}
		return r, nil
	}, nil
}
