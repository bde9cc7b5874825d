package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newTenantCommand(p *process) *cobra.Command {
	return newGroupCommand("tenant", "Tenants: isolated namespaces of roles and users",
		"A tenant is an isolated namespace of roles and users. Tenant `default` is there\nfrom the start; `portcullis key new --tenant NAME` makes another.",
		newTenantListCommand(p), newTenantAdmitCommand(p), newTenantRenameCommand(p), newTenantStrictCommand(p))
}

type tenantJSON struct {
	Name        string    `json:"name"`
	Admitted    bool      `json:"admitted"`
	StrictUsers bool      `json:"strict_users"`
	Created     time.Time `json:"created"`
}

func newTenantListCommand(p *process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tenants",
		Long: `Lists the tenants by name. A tenant that is not admitted matches no rule at the
gate: its keys work on the admin API alone. STRICT says whether its users need an
API key (tenant strict).`,
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
						out = append(out, tenantJSON{t.Name, t.Admitted, t.StrictUsers, t.Created.UTC()})
					}
					return printJSON(p.stdout, out)
				}
				rows := make([][]string, 0, len(tenants))
				for _, t := range tenants {
					rows = append(rows, []string{t.Name, yesNo(t.Admitted), yesNo(t.StrictUsers), showTime(t.Created, "")})
				}
				return printTable(p.stdout, []string{"TENANT", "ADMITTED", "STRICT", "CREATED"}, rows)
			})
		},
	}
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

func newTenantStrictCommand(p *process) *cobra.Command {
	var tenant, users string
	var flags writeFlags
	c := &cobra.Command{
		Use:   "strict [on|off]",
		Short: "Say whether a tenant's users need an API key",
		Long: `With strict users, a user of the tenant who has no active API key may do nothing:
the gate answers 403 not_key_backed whatever proves who it is, permission checks on
the admin API answer no, and roles are not given to such a user. Clients and
workloads are not concerned. What the users hold stays, and is back once they have
a key or the tenant is no longer strict.

Upgrade every sidecar before the first tenant is made strict: older ones do not
know of it.`,
		Example: "  portcullis tenant strict on --tenant acme --wait\n  portcullis tenant strict off --tenant acme",
		Args:    named(arg{"users", &users, checkOnOff}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				d.by.Tenant, d.by.Ack = t.ID, flags.wait != 0
				r, err := d.SetStrictUsers(ctx, d.by, t.ID, users == "on")
				if err != nil {
					return err
				}
				return flags.report(ctx, p, d, tenant, r,
					fmt.Sprintf("tenant %q: strict users are %s", tenant, users),
					fmt.Sprintf("tenant %q: strict users were %s already", tenant, users))
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&users, "users", "", "`on` or off")
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}

func checkOnOff(s string) error {
	if s != "on" && s != "off" {
		return fmt.Errorf("%q will not do: say on or off", shorten(s))
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
