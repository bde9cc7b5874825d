package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// clientTLS terminates clients' TLS at the listener, and verifies their certificates
// where it knows who signs them.
func clientTLS(t *ServerTLS) (*corev3.TransportSocket, error) {
	context := &tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			TlsCertificates: certificate(t.CertFile, t.KeyFile),
			AlpnProtocols:   []string{"h2", "http/1.1"},
		},
	}
	if t.ClientCAFile != "" {
		context.RequireClientCertificate = wrapperspb.Bool(!t.ClientCertOptional)
		context.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: file(t.ClientCAFile)},
		}
	}
	return tlsSocket(context)
}

// tls13 is for the connection to the gate: both ends are known to speak it, and
// Envoy as a client stops at 1.2 unless told.
func tls13() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}

func certificate(certFile, keyFile string) []*tlsv3.TlsCertificate {
	return []*tlsv3.TlsCertificate{{CertificateChain: file(certFile), PrivateKey: file(keyFile)}}
}

// file names a file for Envoy to read: no secret enters the configuration.
func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

func tlsSocket(context proto.Message) (*corev3.TransportSocket, error) {
	config, err := anypb.New(context)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}
