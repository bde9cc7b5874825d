package main

import "github.com/spf13/cobra"

const sidecarLong = `Runs the gate alone, beside an Envoy. It takes what operators write from Postgres
(AUTH_DATABASE_URL), where ` + "`portcullis admin`" + ` keeps it, and changes nothing there
but reports of its own. It goes on answering while Postgres is away, from memory,
for AUTH_MAX_STALENESS.

On SQLite it works beside an admin process on the same machine and file; ` + "`portcullis\nserve`" + ` does the same in one process.

Signals, logs and the policy file are as with ` + "`portcullis serve`" + `.`

func newSidecarCommand(p *process) *cobra.Command {
	return newServingCommand(p, &cobra.Command{
		Use:   "sidecar",
		Short: "Run the gate alone, on Postgres",
		Long:  sidecarLong,
		Example: `  portcullis sidecar --database-url-file /run/secrets/database-url --policy-file policy.yaml
  AUTH_TENANTS=acme,globex portcullis sidecar --policy-file policy.yaml`,
	}, halves{gate: true})
}
