package main

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

const serveLong = `Runs the gate and the admin API in one process. It needs no configuration: it
keeps everything in ~/.auth.sqlite3, and listens on loopback:

  127.0.0.1:9191  ext_authz gRPC, for Envoy        AUTH_EXTAUTHZ_LISTEN
  127.0.0.1:5000  the admin API                    AUTH_SERVER_HOST, AUTH_SERVER_PORT
  127.0.0.1:9190  /metrics, /healthz, /readyz      AUTH_METRICS_LISTEN

Without a policy file (AUTH_POLICY_FILE) every request is denied. The file is
watched: a good new version is taken within moments, and a bad one changes
nothing, is logged and raises a metric.

Its own log goes to standard error, decisions (AUTH_DECISION_LOG) to standard
output, both as JSON lines.

On SIGTERM or Ctrl-C it drains: /readyz and the gRPC health service say so, it
goes on answering for AUTH_DRAIN_DELAY, finishes what it has in hand, and ends. A
second signal ends it at once.`

const serveExample = `  portcullis serve
  portcullis serve --policy-file policy.yaml
  AUTH_EXTAUTHZ_LISTEN=unix:///run/portcullis/authz.sock portcullis serve --policy-file policy.yaml`

func newServeCommand(p *process) *cobra.Command {
	return newServingCommand(p, &cobra.Command{
		Use:     "serve",
		Short:   "Run the gate and the admin API in one process",
		Long:    serveLong,
		Example: serveExample,
	}, halves{gate: true, admin: true})
}

// newServingCommand completes a command that runs a process of those halves.
func newServingCommand(p *process, c *cobra.Command, is halves) *cobra.Command {
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, warnings, err := p.settingsOf[cmd].load(p)
		if err != nil {
			printWarnings(p, warnings)
			return err
		}
		// A reader of the decision log that goes away must not take the gate with it.
		signal.Ignore(syscall.SIGPIPE)
		log := newLogger(p.stderr, cfg)
		for _, w := range warnings {
			log.Warn(w.String())
		}
		if !onPostgres(cfg) && !(is.gate && is.admin) {
			log.Warn("SQLite is for one machine: `portcullis serve` runs both halves in one process; AUTH_DATABASE_URL names a Postgres for more", "path", cfg.SQLitePath)
		}
		a, err := openApp(cmd.Context(), p, cfg, log, is)
		if err != nil {
			return err
		}
		return a.run(cmd.Context())
	}
	p.addSettings(c, allSettings())
	return c
}
