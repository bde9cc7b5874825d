package envoy

import (
	"errors"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxConnections bounds the clients' connections of one Envoy, all listeners
// together; without a bound they are bounded by its file descriptors.
const maxConnections = 50_000

// Bootstrap generates a complete configuration for a plain Envoy: a hardened
// listener that asks the gate about every request, the gate, and one upstream.
// The error names each field of the options that is wrong.
func Bootstrap(o Options) (*bootstrapv3.Bootstrap, error) {
	o, err := o.withDefaults()
	if o.Upstream == "" {
		err = errors.Join(err, wrong("Upstream", "name where allowed requests go: host:port or unix:///path"))
	}
	if err != nil {
		return nil, err
	}
	admin, err := parseListen(o.Admin)
	if err != nil {
		return nil, err
	}
	static := &bootstrapv3.Bootstrap_StaticResources{}
	listeners := []func(Options) (*listenerv3.Listener, error){ingress}
	if o.Permissive != "" {
		listeners = append(listeners, permissive)
	}
	for _, build := range listeners {
		listener, err := build(o)
		if err != nil {
			return nil, err
		}
		static.Listeners = append(static.Listeners, listener)
	}
	for _, build := range []func(Options) (*clusterv3.Cluster, error){gateCluster, upstreamCluster} {
		cluster, err := build(o)
		if err != nil {
			return nil, err
		}
		static.Clusters = append(static.Clusters, cluster)
	}
	connections, err := anypb.New(&connectionsv3.DownstreamConnectionsConfig{
		MaxActiveDownstreamConnections: maxConnections,
	})
	if err != nil {
		return nil, err
	}
	return &bootstrapv3.Bootstrap{
		Admin:           &bootstrapv3.Admin{Address: address(admin)},
		StaticResources: static,
		OverloadManager: &overloadv3.OverloadManager{
			ResourceMonitors: []*overloadv3.ResourceMonitor{{
				Name:       "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: connections},
			}},
		},
	}, nil
}

// Parts is what goes into an Envoy configuration that exists already: the filter
// into http_filters, last before the router, the cluster among the clusters. What
// the connection manager must do is in docs/envoy.md; Parts cannot do it.
type Parts struct {
	Filter  *hcmv3.HttpFilter
	Cluster *clusterv3.Cluster
}

// Fragment generates the filter and the gate's cluster alone.
func Fragment(o Options) (*Parts, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	// Whether its connection manager normalises paths is not known here.
	filter, err := authzFilter(o, readHeaders(true, o.ConditionHeaders))
	if err != nil {
		return nil, err
	}
	cluster, err := gateCluster(o)
	if err != nil {
		return nil, err
	}
	return &Parts{Filter: filter, Cluster: cluster}, nil
}
