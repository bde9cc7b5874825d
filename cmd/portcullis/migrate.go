package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/store/postgres"
)

func newMigrateCommand(p *process) *cobra.Command {
	f := roleFlags{roles: postgres.DefaultGroupRoles()}
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring a Postgres database to this version's schema",
		Long: `Brings the Postgres database that AUTH_DATABASE_URL names to the schema of this
version, step by step, and says what it did. Nothing else changes the schema:
run it before the new version of admin starts; sidecars one release older go on.
Several may run at once: one works, the others wait for it.

It runs as the owner of the schema, and gives two roles what they need and no more:
users of admin processes are members of --admin-role, those of sidecars of
--sidecar-role. It makes the roles where it may. Where it may not, it says so, and
a DBA runs what --print-roles prints.

A SQLite file is migrated by whatever opens it, so there is nothing to do there.`,
		Example: `  portcullis migrate --database-url-file /run/secrets/owner-url
  portcullis migrate --print-roles --subnet 10.0.3.0/24 > roles.sql`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			if err := f.check(); err != nil {
				return err
			}
			if f.print {
				return f.printSQL(p, cfg)
			}
			if !onPostgres(cfg) {
				fmt.Fprintf(p.stdout, "nothing to do: %s is SQLite, which is migrated when it is opened\n", cfg.SQLitePath)
				return nil
			}
			if err := p.printTransport(cfg); err != nil {
				return err
			}
			applied, err := postgres.Migrate(cmd.Context(), cfg.DatabaseURL.Reveal(), allowance(cfg))
			for _, m := range applied {
				fmt.Fprintf(p.stdout, "applied %s in %v\n", m.Name, m.Took.Round(time.Millisecond))
			}
			if err != nil {
				return usageUnlessAway(err)
			}
			if len(applied) == 0 {
				fmt.Fprintln(p.stdout, "nothing to do: the schema is this version's")
			}
			return f.ensure(cmd.Context(), p, cfg)
		},
	}
	f.add(c)
	p.addSettings(c, []string{"AUTH_DATABASE_URL", "AUTH_POSTGRESQL_URL", "AUTH_DATABASE_INSECURE"})
	return c
}
