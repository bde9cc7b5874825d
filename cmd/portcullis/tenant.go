package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func newTenantCommand(p *process) *cobra.Command {
	return newGroupCommand("tenant", "Tenants: isolated namespaces of roles and users",
		"A tenant is an isolated namespace of roles and users. Tenant `default` is there\nfrom the start; `portcullis key new --tenant NAME` makes another.",
		newTenantListCommand(p))
}

type tenantJSON struct {
	Name     string    `json:"name"`
	Admitted bool      `json:"admitted"`
	Created  time.Time `json:"created"`
}

func newTenantListCommand(p *process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tenants",
		Long: `Lists the tenants by name. A tenant that is not admitted matches no rule at the
gate: its keys work on the admin API alone.`,
		Example: "  portcullis tenant list\n  portcullis tenant list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				tenants, err := d.Tenants(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					out := make([]tenantJSON, 0, len(tenants))
					for _, t := range tenants {
						out = append(out, tenantJSON{t.Name, t.Admitted, t.Created.UTC()})
					}
					return printJSON(p.stdout, out)
				}
				rows := make([][]string, 0, len(tenants))
				for _, t := range tenants {
					rows = append(rows, []string{t.Name, yesNo(t.Admitted), showTime(t.Created, "")})
				}
				return printTable(p.stdout, []string{"TENANT", "ADMITTED", "CREATED"}, rows)
			})
		},
	}
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
