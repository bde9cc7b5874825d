package main

import "github.com/spf13/cobra"

const adminLong = `Runs the admin API alone, and the upkeep of the store: folding in what sidecars
report, pruning the change log, making the audit's partitions. Any number may run
at once. The schema must be this version's: run ` + "`portcullis migrate`" + ` first.

Signals and logs are as with ` + "`portcullis serve`" + `.`

func newAdminCommand(p *process) *cobra.Command {
	return newServingCommand(p, &cobra.Command{
		Use:     "admin",
		Short:   "Run the admin API alone, on Postgres",
		Long:    adminLong,
		Example: "  portcullis admin --database-url-file /run/secrets/database-url --server-host 0.0.0.0",
	}, halves{admin: true})
}
