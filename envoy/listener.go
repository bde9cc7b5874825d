package envoy

import (
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"portcullis/policy"
)

const (
	// Limits on what one client may hold of Envoy.
	connectionBuffer  = 32 << 10
	idleTimeout       = 15 * time.Minute
	headersTimeout    = 10 * time.Second
	http2Streams      = 100
	http2StreamWindow = 64 << 10
	http2ConnWindow   = 1 << 20

	// permissiveHeadersKB lets a header block through to the gate that the other
	// listener refuses (60 KiB).
	permissiveHeadersKB = 2048
)

// ingress is the listener that clients reach, with everything on.
func ingress(o Options) (*listenerv3.Listener, error) {
	strip, err := stripClaims()
	if err != nil {
		return nil, err
	}
	manager := baseManager(ListenerIngress)
	manager.NormalizePath = wrapperspb.Bool(true)
	manager.MergeSlashes = o.OptIns&policy.FlagDoubleSlash == 0
	manager.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	if o.OptIns&policy.FlagEncodedSlash != 0 {
		manager.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
	}
	manager.StripPortMode = &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true}
	manager.StripTrailingHostDot = true
	manager.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_REJECT_REQUEST
	manager.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{strip}
	return newListener(ListenerIngress, o.Listen, o.ListenTLS, o, manager)
}

// permissive is the listener for tests: what ingress refuses or mends reaches
// the gate as it was sent.
func permissive(o Options) (*listenerv3.Listener, error) {
	manager := baseManager(ListenerPermissive)
	manager.NormalizePath = wrapperspb.Bool(false)
	manager.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
	manager.MaxRequestHeadersKb = wrapperspb.UInt32(permissiveHeadersKB)
	manager.UpgradeConfigs = append(manager.UpgradeConfigs,
		&hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: "CONNECT"})
	host := manager.GetRouteConfig().VirtualHosts[0]
	host.Routes = append([]*routev3.Route{{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{
			ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{},
		}},
		Action: toUpstream(),
	}}, host.Routes...)
	return newListener(ListenerPermissive, o.Permissive, nil, o, manager)
}

// baseManager is what both listeners share.
func baseManager(name string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix:               name,
		UseRemoteAddress:         wrapperspb.Bool(true),
		ForwardClientCertDetails: hcmv3.HttpConnectionManager_SANITIZE,
		RequestHeadersTimeout:    durationpb.New(headersTimeout),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(idleTimeout),
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        wrapperspb.UInt32(http2Streams),
			InitialStreamWindowSize:     wrapperspb.UInt32(http2StreamWindow),
			InitialConnectionWindowSize: wrapperspb.UInt32(http2ConnWindow),
		},
		UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: name,
			VirtualHosts: []*routev3.VirtualHost{{
				Name:    "all",
				Domains: []string{"*"},
				Routes: []*routev3.Route{{
					Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
					Action: toUpstream(),
				}},
			}},
		}},
	}
}

func toUpstream() *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: ClusterUpstream},
	}}
}

// newListener binds a manager, to which it adds the filters. Nothing stands
// between ext_authz and the router that could change what was checked.
func newListener(name, addr string, tls *ServerTLS, o Options, manager *hcmv3.HttpConnectionManager) (*listenerv3.Listener, error) {
	headers := readHeaders(false, o.ConditionHeaders)
	if name == ListenerPermissive {
		headers = nil
	}
	authz, err := authzFilter(o, headers)
	if err != nil {
		return nil, err
	}
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	manager.HttpFilters = []*hcmv3.HttpFilter{authz, {
		Name:       "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
	}}
	config, err := anypb.New(manager)
	if err != nil {
		return nil, err
	}
	bind, err := parseListen(addr)
	if err != nil {
		return nil, err
	}
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
	}}}
	if tls != nil {
		if chain.TransportSocket, err = clientTLS(tls); err != nil {
			return nil, err
		}
	}
	return &listenerv3.Listener{
		Name:                          name,
		Address:                       address(bind),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBuffer),
		FilterChains:                  []*listenerv3.FilterChain{chain},
	}, nil
}

// stripClaims removes what only the gate may set, and what replaces the request that
// it decides on, before anything looks at the request, so that it holds even where
// failure_mode_allow lets a request through unchecked. Underscored spellings never
// come this far: the listener refuses them.
func stripClaims() (*corev3.TypedExtensionConfig, error) {
	mutations := &earlyv3.HeaderMutation{}
	for _, name := range append(policy.ManagedHeaders(), replacingHeaders()...) {
		mutations.Mutations = append(mutations.Mutations, &mutationv3.HeaderMutation{
			Action: &mutationv3.HeaderMutation_Remove{Remove: name},
		})
	}
	config, err := anypb.New(mutations)
	if err != nil {
		return nil, err
	}
	return &corev3.TypedExtensionConfig{
		Name:        "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: config,
	}, nil
}

// replacingHeaders are taken by some frameworks for the method or the path, in the
// place of those of the request line, which are what was checked.
func replacingHeaders() []string {
	return []string{"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}
}
