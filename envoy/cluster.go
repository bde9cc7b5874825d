package envoy

import (
	"cmp"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	connectTimeout    = 1 * time.Second
	keepaliveInterval = 30 * time.Second
	keepaliveTimeout  = 5 * time.Second

	healthInterval  = 2 * time.Second // while the gate is well
	healthRecovery  = 1 * time.Second // while it is not
	healthTimeout   = 1 * time.Second
	healthThreshold = 3

	// gateConcurrency is far above what one Envoy asks at once: checks must not
	// fail because a breaker that is meant for slow upstreams opened.
	gateConcurrency = 100_000
)

// gateCluster is where the ext_authz filter sends its checks.
func gateCluster(o Options) (*clusterv3.Cluster, error) {
	gate, err := parseEndpoint(o.Gate)
	if err != nil {
		return nil, err
	}
	cluster := newCluster(ClusterGate, gate)
	cluster.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
		HealthyPanicThreshold: &typev3.Percent{Value: 0},
	}
	cluster.CircuitBreakers = &clusterv3.CircuitBreakers{
		Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(gateConcurrency),
			MaxPendingRequests: wrapperspb.UInt32(gateConcurrency),
			MaxRequests:        wrapperspb.UInt32(gateConcurrency),
		}},
	}
	cluster.HealthChecks = []*corev3.HealthCheck{{
		Timeout:            durationpb.New(healthTimeout),
		Interval:           durationpb.New(healthInterval),
		NoTrafficInterval:  durationpb.New(healthInterval),
		UnhealthyInterval:  durationpb.New(healthRecovery),
		UnhealthyThreshold: wrapperspb.UInt32(healthThreshold),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker: &corev3.HealthCheck_GrpcHealthCheck_{
			GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{},
		},
	}}
	if o.GateTLS != nil {
		if cluster.TransportSocket, err = gateTLS(gate, o.GateTLS); err != nil {
			return nil, err
		}
	}
	return cluster, setProtocol(cluster, &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: explicitHTTP2(&corev3.Http2ProtocolOptions{
			ConnectionKeepalive: &corev3.KeepaliveSettings{
				Interval: durationpb.New(keepaliveInterval),
				Timeout:  durationpb.New(keepaliveTimeout),
			},
		}),
	})
}

// upstreamCluster is where allowed requests go.
func upstreamCluster(o Options) (*clusterv3.Cluster, error) {
	upstream, err := parseEndpoint(o.Upstream)
	if err != nil {
		return nil, err
	}
	cluster := newCluster(ClusterUpstream, upstream)
	protocol := &httpv3.HttpProtocolOptions{}
	switch o.UpstreamProtocol {
	case UpstreamHTTP2:
		protocol.UpstreamProtocolOptions = explicitHTTP2(&corev3.Http2ProtocolOptions{})
	case UpstreamSame:
		protocol.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		}
	default:
		protocol.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		}
	}
	return cluster, setProtocol(cluster, protocol)
}

func newCluster(name string, e endpoint) *clusterv3.Cluster {
	discovery := clusterv3.Cluster_STATIC
	if e.path == "" && !e.isIP() {
		discovery = clusterv3.Cluster_STRICT_DNS
	}
	cluster := &clusterv3.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(connectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: discovery},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{
				LbEndpoints: []*endpointv3.LbEndpoint{{
					HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
						Endpoint: &endpointv3.Endpoint{Address: address(e)},
					},
				}},
			}},
		},
	}
	if discovery == clusterv3.Cluster_STRICT_DNS {
		// The default asks for IPv6 first, and localhost often has both.
		cluster.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	}
	return cluster
}

func address(e endpoint) *corev3.Address {
	if e.path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.path}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       e.host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: e.port},
	}}}
}

func explicitHTTP2(options *corev3.Http2ProtocolOptions) *httpv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: options,
			},
		},
	}
}

func setProtocol(cluster *clusterv3.Cluster, options *httpv3.HttpProtocolOptions) error {
	config, err := anypb.New(options)
	if err != nil {
		return err
	}
	cluster.TypedExtensionProtocolOptions = map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": config,
	}
	return nil
}

// gateTLS verifies the gate's certificate against the CA and the gate's name.
func gateTLS(gate endpoint, t *ClientTLS) (*corev3.TransportSocket, error) {
	name := endpoint{host: cmp.Or(t.ServerName, gate.host)}
	san := &tlsv3.SubjectAltNameMatcher{
		SanType: tlsv3.SubjectAltNameMatcher_DNS,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name.host}},
	}
	context := &tlsv3.UpstreamTlsContext{
		Sni: name.host,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:     tls13(),
			AlpnProtocols: []string{"h2"},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
				ValidationContext: &tlsv3.CertificateValidationContext{
					TrustedCa:                 file(t.CAFile),
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{san},
				},
			},
		},
	}
	if name.isIP() {
		san.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		context.Sni = "" // RFC 6066 allows names only
	}
	if t.CertFile != "" {
		context.CommonTlsContext.TlsCertificates = certificate(t.CertFile, t.KeyFile)
	}
	return tlsSocket(context)
}
