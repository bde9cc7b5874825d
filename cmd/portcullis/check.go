package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"portcullis/envoy"
	"portcullis/policy"
)

const checkLong = `Asks a running gate about one request, over the same ext_authz gRPC that Envoy
uses, and prints the decision: allowed or denied, why, and by which rule. It asks
on AUTH_EXTAUTHZ_LISTEN unless --addr says otherwise; of several addresses there, on
a unix socket, else on the first.

A credential on the command line shows in the process list: --token -,
--client-key - and --api-key - read it from standard input, --token-file,
--client-key-file and --api-key-file from a file.

--principal stands in for the certificate of the connection: it is what Envoy
makes of one that it has verified, the first URI name (a SPIFFE id), else the
first DNS name, else the subject. The gate believes it, as it believes Envoy, so
it needs no certificate here.

Exit codes: 0 allowed, 1 denied, 3 the gate could not be asked or could not
decide.`

const checkExample = `  portcullis check --method GET --path /healthz
  portcullis token issue --subject amy | portcullis check --path /posts/1 --token -
  portcullis check --method PUT --path /posts/1 --client-key-file ci.key --json
  portcullis check --path /stock/1 --principal spiffe://example.org/ns/shop/sa/cart
  portcullis check --path /posts/1 --header 'Authorization: Bearer abc' --addr unix:///run/portcullis/authz.sock`

// checkFlags is what the command asks, and of whom.
type checkFlags struct {
	method, path, host, scheme                  string
	token, tokenFile, clientKey, clientKeyFile  string
	apiKey, apiKeyFile, principal               string
	headers, extensions                         []string
	addr, tlsCA, tlsCert, tlsKey, tlsServerName string
	timeout                                     lifetime
	json                                        bool
}

func newCheckCommand(p *process) *cobra.Command {
	f := checkFlags{timeout: lifetime(5 * time.Second)}
	c := &cobra.Command{
		Use:     "check",
		Short:   "Ask a running gate about a request",
		Long:    checkLong,
		Example: checkExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			question, err := f.question(p.stdin)
			if err != nil {
				return err
			}
			addr, err := f.gate(p, cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(f.timeout))
			defer cancel()
			verdict, err := f.ask(ctx, addr, question)
			if err != nil {
				return err
			}
			return verdict.report(p.stdout, f.json)
		},
	}
	c.Flags().StringVar(&f.method, "method", "GET", "the request's method")
	c.Flags().StringVar(&f.path, "path", "", "the request's path with its query, as on the wire")
	c.Flags().StringVar(&f.host, "host", "localhost", "the request's host")
	c.Flags().StringVar(&f.scheme, "scheme", "http", "http or https")
	c.Flags().StringVar(&f.token, "token", "", "send this bearer `token`; - reads it from standard input")
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "send the bearer token in this `file`")
	c.Flags().StringVar(&f.clientKey, "client-key", "", "send this client `key`; - reads it from standard input")
	c.Flags().StringVar(&f.clientKeyFile, "client-key-file", "", "send the client key in this `file`")
	c.Flags().StringVar(&f.apiKey, "api-key", "", "send this user API `key`; - reads it from standard input")
	c.Flags().StringVar(&f.apiKeyFile, "api-key-file", "", "send the user API key in this `file`")
	c.Flags().StringVar(&f.principal, "principal", "", "ask as if Envoy had verified a certificate of this `name` (source.principal)")
	c.Flags().StringArrayVar(&f.headers, "header", nil, "send this header, `name: value`; may be given again")
	c.Flags().StringArrayVar(&f.extensions, "context", nil, "send this context extension, `key=value`, as a route of Envoy's may; may be given again")
	c.Flags().StringVar(&f.addr, "addr", "", "the gate's `address`: host:port or unix:///path")
	c.Flags().StringVar(&f.tlsCA, "tls-ca", "", "speak TLS, and trust the authorities in this `file`")
	c.Flags().StringVar(&f.tlsCert, "tls-cert", "", "client certificate `file`, where the gate asks for one")
	c.Flags().StringVar(&f.tlsKey, "tls-key", "", "private key `file` of the client certificate")
	c.Flags().StringVar(&f.tlsServerName, "tls-server-name", "", "the `name` in the gate's certificate (default: the host of the address)")
	c.Flags().Var(&f.timeout, "timeout", "how long to wait for the answer")
	addJSONFlag(c, &f.json)
	p.addSettings(c, []string{"AUTH_EXTAUTHZ_LISTEN"})
	return c
}

// gate is the address to ask on: --addr, or where the settings say that a gate on
// this machine listens.
func (f *checkFlags) gate(p *process, cmd *cobra.Command) (string, error) {
	if f.addr != "" {
		return f.addr, nil
	}
	cfg, err := p.settings(cmd)
	if err != nil {
		return "", err
	}
	addr, err := envoy.GateAddress(joinListen(cfg.ExtAuthzListen))
	if err != nil {
		return "", usagef("AUTH_EXTAUTHZ_LISTEN: %w: name the address with --addr", err)
	}
	if cfg.ExtAuthzTLS.Enabled() && f.tlsCA == "" && !strings.HasPrefix(addr, "unix://") {
		return "", usagef("--tls-ca is missing: the gate speaks TLS (AUTH_EXTAUTHZ_TLS_CERT), and who signed its certificate must be known")
	}
	return addr, nil
}

// question is one request as Envoy would describe it.
type question struct {
	method, path, host, scheme string
	principal                  string      // source.principal
	headers                    [][2]string // in order, names in lower case, repeats kept
	extensions                 map[string]string
}

func (f *checkFlags) question(stdin io.Reader) (question, error) {
	q := question{method: f.method, path: f.path, host: f.host, scheme: f.scheme, principal: f.principal, extensions: map[string]string{}}
	if f.path == "" && f.method != "CONNECT" {
		return q, usagef("--path is missing (see `portcullis check --help`)")
	}
	if !utf8.ValidString(f.principal) {
		return q, usagef("--principal: not UTF-8; Envoy sends no such name")
	}
	secrets := []struct{ flag, value, file, header, scheme string }{
		{"--token", f.token, f.tokenFile, policy.HeaderAuthorization, "Bearer "},
		{"--client-key", f.clientKey, f.clientKeyFile, policy.HeaderClientKey, ""},
		{"--api-key", f.apiKey, f.apiKeyFile, policy.HeaderAPIKey, ""},
	}
	fromStdin := ""
	for _, secret := range secrets {
		if secret.value != "-" {
			continue
		}
		if fromStdin != "" {
			return q, usagef("%s and %s cannot both be read from standard input: put one into a file", fromStdin, secret.flag)
		}
		fromStdin = secret.flag
	}
	for _, secret := range secrets {
		text, err := secretText(secret.flag, secret.value, secret.file, stdin)
		if err != nil {
			return q, err
		}
		if text != "" {
			q.headers = append(q.headers, [2]string{secret.header, secret.scheme + text})
		}
	}
	for _, text := range f.headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return q, usagef("--header: %q is no header: write it like 'name: value'", shorten(text))
		}
		q.headers = append(q.headers, [2]string{strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)})
	}
	for _, text := range f.extensions {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return q, usagef("--context: %q is no extension: write it like key=value", shorten(text))
		}
		q.extensions[key] = value
	}
	return q, nil
}

// secretText is a credential from a flag, standard input or a file, without the
// line's end; "" where none was given.
func secretText(flag, value, file string, stdin io.Reader) (string, error) {
	const most = 64 << 10
	var raw []byte
	var err error
	switch {
	case value != "" && file != "":
		return "", usagef("%s and %[1]s-file are both given: use one of them", flag)
	case value == "-":
		raw, err = io.ReadAll(io.LimitReader(stdin, most+1))
	case file != "":
		var f *os.File
		if f, err = os.Open(file); err == nil {
			defer f.Close()
			raw, err = io.ReadAll(io.LimitReader(f, most+1))
		}
	default:
		return value, nil
	}
	text := strings.TrimRight(string(raw), "\r\n")
	switch {
	case err != nil:
		return "", usagef("%s: %w", flag, err)
	case text == "":
		return "", usagef("%s: what was read is empty", flag)
	case len(raw) > most:
		return "", usagef("%s: what was read is longer than 64 KiB", flag)
	}
	return text, nil
}

// unreachable says why the gate gave no answer.
func unreachable(addr string, err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable:
		return unavailablef("the gate on %s does not answer: %s (is `portcullis serve` running there?)", addr, s.Message())
	case codes.DeadlineExceeded:
		return unavailablef("the gate on %s did not answer in time", addr)
	}
	return unavailablef("the gate on %s refused the question: %s: %s", addr, s.Code(), s.Message())
}
