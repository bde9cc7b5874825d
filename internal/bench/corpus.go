package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/policy"
)

// The measured job: what a gate does for a small company.
const (
	callers      = 1000
	rules        = 200
	permissions  = 20
	denyPercent  = 2
	corpusSize   = 20_000
	corpusSeed   = 17
	tokenSecret  = "a secret of the bench, of more than 32 bytes"
	headerFields = 16
)

// request is one CheckRequest in a gRPC frame, with the verdict it must get.
type request struct {
	bytes []byte
	allow bool
}

// requests is what the client sends, over and over.
type requests struct{ all []request }

// policyText has the given number of rules, one in fifty for a permission that
// nobody holds.
func policyText() string {
	var b strings.Builder
	b.WriteString("version: 1\nrules:\n")
	for i := range rules {
		fmt.Fprintf(&b, "  - {name: rule-%d, methods: [GET], path: \"/service-%d/items/{id}\", require: %s}\n", i, i, permissionOf(i))
	}
	return b.String()
}

func permissionOf(rule int) string {
	if rule%50 == 49 {
		return "nobody_may"
	}
	return fmt.Sprintf("read_%d", rule%permissions)
}

// furnish fills a new SQLite file with the callers, each in two roles of ten
// permissions.
func furnish(ctx context.Context, file string) error {
	st, err := sqlite.Open(ctx, sqlite.Config{Path: file})
	if err != nil {
		return err
	}
	defer st.Close()
	tenant, err := st.TenantByName(ctx, store.DefaultTenant)
	if err != nil {
		return err
	}
	by := store.Actor{Name: "bench"}
	for r := range 2 {
		role := fmt.Sprintf("reader-%d", r)
		if _, err := st.PutRole(ctx, by, tenant.ID, role, nil); err != nil {
			return err
		}
		for p := r; p < permissions; p += 2 {
			if _, err := st.AddPermission(ctx, by, tenant.ID, role, fmt.Sprintf("read_%d", p)); err != nil {
				return err
			}
		}
		for u := range callers {
			if _, err := st.AddMember(ctx, by, tenant.ID, policy.KindUser, user(u), role, time.Time{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func user(n int) string { return fmt.Sprintf("user-%04d@example.com", n) }

// form is how Envoy writes a request's headers.
type form struct {
	name string
	raw  bool
}

// The two forms: Envoy's default, and that of the configuration we generate.
var forms = []form{
	{name: "headers, Envoy's default"},
	{name: "header_map, with encode_raw_headers", raw: true},
}

// newCorpus makes the requests, in an order that a seed fixes.
func newCorpus(f form) (*requests, error) {
	issuer, err := identity.NewIssuer(identity.IssuerConfig{Secret: []byte(tokenSecret)})
	if err != nil {
		return nil, err
	}
	tokens := make([]string, callers)
	for i := range tokens {
		if tokens[i], err = issuer.Issue(policy.Principal{Tenant: store.DefaultTenant, Kind: policy.KindUser, ID: user(i)}, time.Hour); err != nil {
			return nil, err
		}
	}
	r := rand.New(rand.NewPCG(corpusSeed, 1))
	c := &requests{all: make([]request, corpusSize)}
	for i := range c.all {
		deny := r.IntN(100) < denyPercent
		rule := r.IntN(rules)
		for (permissionOf(rule) == "nobody_may") != deny {
			rule = r.IntN(rules)
		}
		msg, err := proto.Marshal(checkRequest(f, rule, r.IntN(1_000_000), tokens[r.IntN(callers)]))
		if err != nil {
			return nil, err
		}
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg)))
		c.all[i] = request{bytes: append(frame, msg...), allow: !deny}
	}
	return c, nil
}

func checkRequest(form form, rule, item int, token string) *authv3.CheckRequest {
	path := fmt.Sprintf("/service-%d/items/%d?view=full", rule, item)
	fields := [headerFields][2]string{
		{":authority", "shop.example.com"}, {":method", "GET"}, {":path", path}, {":scheme", "https"},
		{"accept", "application/json"}, {"accept-encoding", "gzip, deflate, br"}, {"accept-language", "en-GB,en;q=0.9"},
		{"authorization", "Bearer " + token}, {"cache-control", "no-cache"}, {"referer", "https://shop.example.com/cart"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
		{"x-envoy-external-address", "203.0.113.7"}, {"x-forwarded-for", "203.0.113.7"}, {"x-forwarded-proto", "https"},
		{"x-request-id", fmt.Sprintf("5f0c1c1e-8a36-4b0e-9a38-%012d", item)}, {"priority", "u=1, i"},
	}
	http := &authv3.AttributeContext_HttpRequest{
		Id: fmt.Sprint(item), Method: "GET", Path: path, Host: "shop.example.com", Scheme: "https", Protocol: "HTTP/2",
	}
	if form.raw {
		http.HeaderMap = &corev3.HeaderMap{}
		for _, f := range fields {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: f[0], RawValue: []byte(f[1])})
		}
	} else {
		http.Headers = make(map[string]string, len(fields))
		for _, f := range fields {
			http.Headers[f[0]] = f[1]
		}
	}
	peer := func(host string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}},
		}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("203.0.113.7", 51234), Destination: peer("10.0.0.5", 8443),
		Request:         &authv3.AttributeContext_Request{Time: timestamppb.New(time.Unix(1_790_000_000, int64(item))), Http: http},
		MetadataContext: &corev3.Metadata{}, RouteMetadataContext: &corev3.Metadata{},
	}}
}

func writePolicy(file string) error { return os.WriteFile(file, []byte(policyText()), 0o600) }
