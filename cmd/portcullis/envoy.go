package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"portcullis/envoy"
	"portcullis/internal/config"
	"portcullis/policy"
)

func newEnvoyCommand(p *process) *cobra.Command {
	return newGroupCommand("envoy", "Envoy's side of the gate",
		"What Envoy needs to ask this gate, made from the settings and the policy file that\nthe gate runs with.",
		newEnvoyConfigCommand(p))
}

const envoyConfigLong = `Prints a complete, hardened configuration for a plain Envoy that asks this gate
about every request, or with --fragment just the filter and the cluster for a
configuration that is there already.

It is made from the settings that the gate runs with: AUTH_EXTAUTHZ_LISTEN says
where the gate is, and AUTH_POLICY_FILE which ambiguous paths its rules opt into;
Envoy refuses or mends the others by itself. Print it again when a rule's opt-ins
change.`

const envoyConfigExample = `  portcullis envoy config --listen 0.0.0.0:8080 --upstream 127.0.0.1:3000 > envoy.yaml
  portcullis envoy config --fragment --format json
  envoy --mode validate -c envoy.yaml`

// envoyFlags are the options of `envoy config`.
type envoyFlags struct {
	fragment, failureModeAllow                bool
	format, protocol                          string
	tls                                       envoy.ServerTLS
	gateCA, gateCert, gateKey, gateServerName string
	options                                   envoy.Options
}

func newEnvoyConfigCommand(p *process) *cobra.Command {
	var f envoyFlags
	c := &cobra.Command{
		Use:     "config",
		Short:   "Print Envoy's configuration for this gate",
		Long:    envoyConfigLong,
		Example: envoyConfigExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			options, err := f.resolve(cfg)
			if err != nil {
				return err
			}
			text, err := f.generate(options)
			if err != nil {
				return usagef("%w", err)
			}
			_, err = p.stdout.Write(text)
			return err
		},
	}
	c.Flags().BoolVar(&f.fragment, "fragment", false, "just the filter and the cluster")
	c.Flags().StringVar(&f.format, "format", "yaml", "yaml or json")
	c.Flags().StringVar(&f.options.Listen, "listen", "127.0.0.1:10000", "where clients come in, `host:port`")
	c.Flags().StringVar(&f.tls.CertFile, "listen-tls-cert", "", "certificate `file` of that listener, as Envoy finds it")
	c.Flags().StringVar(&f.tls.KeyFile, "listen-tls-key", "", "private key `file` of that listener, as Envoy finds it")
	c.Flags().StringVar(&f.tls.ClientCAFile, "listen-client-ca", "", "ask clients for a certificate that an authority in this `file` signed (mTLS)")
	c.Flags().BoolVar(&f.tls.ClientCertOptional, "listen-client-cert-optional", false, "let clients in without one, too; a bad one is refused all the same")
	c.Flags().StringVar(&f.options.Upstream, "upstream", "", "where allowed requests go, `address`: host:port or unix:///path")
	c.Flags().StringVar(&f.protocol, "upstream-protocol", "http1", "http1, http2 (gRPC services), or same (as the client)")
	c.Flags().StringVar(&f.options.Admin, "admin", "127.0.0.1:9901", "Envoy's own admin listener, `host:port`; it has no authentication")
	c.Flags().StringVar(&f.options.Gate, "gate", "", "where Envoy reaches the gate, `address` (default: from AUTH_EXTAUTHZ_LISTEN)")
	c.Flags().StringVar(&f.gateCA, "gate-tls-ca", "", "authority `file` of the gate's certificate, where the gate speaks TLS")
	c.Flags().StringVar(&f.gateServerName, "gate-tls-server-name", "", "the `name` in the gate's certificate (default: the gate's host)")
	c.Flags().StringVar(&f.gateCert, "gate-tls-cert", "", "Envoy's certificate `file`, where the gate asks for one")
	c.Flags().StringVar(&f.gateKey, "gate-tls-key", "", "private key `file` of Envoy's certificate")
	c.Flags().BoolVar(&f.failureModeAllow, "failure-mode-allow", false, "let requests through unchecked while the gate cannot be asked")
	p.addSettings(c, envoySettings)
	return c
}

// resolve fills the options from the flags and the settings.
func (f *envoyFlags) resolve(cfg *config.Config) (envoy.Options, error) {
	o := f.options
	o.FailureModeAllow = f.failureModeAllow
	var err error
	if o.UpstreamProtocol, err = envoy.ParseUpstreamProtocol(f.protocol); err != nil {
		return o, usagef("--upstream-protocol: %w", err)
	}
	if o.Gate == "" {
		if o.Gate, err = envoy.GateAddress(joinListen(cfg.ExtAuthzListen)); err != nil {
			return o, usagef("AUTH_EXTAUTHZ_LISTEN: %w: name the address with --gate", err)
		}
	}
	if !f.fragment && o.Upstream == "" {
		return o, usagef("--upstream is missing: say where allowed requests go (or print the --fragment alone)")
	}
	if f.tls != (envoy.ServerTLS{}) {
		if f.fragment {
			return o, usagef("--listen-tls-cert, --listen-tls-key and --listen-client-ca are of the listener, which the --fragment leaves to you")
		}
		o.ListenTLS = &f.tls
	}
	switch {
	case f.gateCA != "" || f.gateCert != "" || f.gateKey != "" || f.gateServerName != "":
		o.GateTLS = &envoy.ClientTLS{CAFile: f.gateCA, ServerName: f.gateServerName, CertFile: f.gateCert, KeyFile: f.gateKey}
	case cfg.ExtAuthzTLS.Enabled() && !strings.HasPrefix(o.Gate, "unix://"): // sockets are never encrypted
		return o, usagef("--gate-tls-ca is missing: the gate speaks TLS (AUTH_EXTAUTHZ_TLS_CERT), and Envoy must know who signed its certificate")
	}
	if cfg.PolicyFile != "" {
		rules, err := policy.Load(cfg.PolicyFile)
		if err != nil {
			return o, usagef("AUTH_POLICY_FILE: %w", err)
		}
		o.OptIns = envoy.OptIns(rules)
		o.ConditionHeaders = rules.ConditionHeaders()
	}
	return o, nil
}

func joinListen(addrs []config.Listen) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

func (f *envoyFlags) generate(o envoy.Options) ([]byte, error) {
	if f.format != "yaml" && f.format != "json" {
		return nil, fmt.Errorf("--format: %q is none: use yaml or json", shorten(f.format))
	}
	if f.fragment {
		parts, err := envoy.Fragment(o)
		if err != nil {
			return nil, err
		}
		if f.format == "json" {
			return parts.JSON()
		}
		return parts.YAML()
	}
	bootstrap, err := envoy.Bootstrap(o)
	if err != nil {
		return nil, err
	}
	if f.format == "json" {
		return envoy.JSON(bootstrap)
	}
	return envoy.YAML(bootstrap)
}
