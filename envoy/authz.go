package envoy

import (
	"regexp"
	"slices"
	"strings"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"portcullis/policy"
)

// checkTimeout is how long Envoy waits for a verdict.
const checkTimeout = 250 * time.Millisecond

// authzFilter is the ext_authz filter. headers are those that the gate is sent; nil
// sends every one.
func authzFilter(o Options, headers *matcherv3.ListStringMatcher) (*hcmv3.HttpFilter, error) {
	filter := &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          StatPrefix,
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ClusterGate},
			},
			Timeout: durationpb.New(checkTimeout),
		}},
		FailureModeAllow:           o.FailureModeAllow,
		StatusOnError:              &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		EncodeRawHeaders:           true,
		ValidateMutations:          true,
		DecoderHeaderMutationRules: mutationRules(),
		AllowedHeaders:             headers,
	}
	config, err := anypb.New(filter)
	if err != nil {
		return nil, err
	}
	return &hcmv3.HttpFilter{
		Name:       "envoy.filters.http.ext_authz",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config},
	}, nil
}

// readHeaders lists what the gate reads of a request besides its method, path
// and host: credentials, the content type, which tells gRPC from HTTP, and what
// conditions of the policy read. Each header more costs CPU on both sides. Spoofed identity headers need not be
// seen: the gate removes every spelling of them unseen.
//
// In the path of a check Envoy replaces bytes that are not UTF-8. Where nothing
// has encoded them before, rawPath shows the gate the path as it will be sent, and
// the gate refuses one that was changed for it.
func readHeaders(rawPath bool, conditions []string) *matcherv3.ListStringMatcher {
	names := append(policy.CredentialHeaders(), "content-type")
	if rawPath {
		names = append(names, ":path")
	}
	for _, name := range conditions {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	list := &matcherv3.ListStringMatcher{}
	for _, name := range names {
		list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name},
		})
	}
	return list
}

// mutationRules let the gate set and remove its own headers and the credentials,
// in every spelling, and nothing else.
func mutationRules() *mutationv3.HeaderMutationRules {
	names := append(policy.ManagedHeaders(), policy.CredentialHeaders()...)
	for i, name := range names {
		names[i] = strings.ReplaceAll(regexp.QuoteMeta(name), "-", "[-_]")
	}
	return &mutationv3.HeaderMutationRules{
		DisallowAll:     wrapperspb.Bool(true),
		AllowExpression: &matcherv3.RegexMatcher{Regex: strings.Join(names, "|")},
		DisallowIsError: wrapperspb.Bool(true),
	}
}
