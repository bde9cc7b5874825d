package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"portcullis/internal/store"
)

func newTenantAdmitCommand(p *process) *cobra.Command {
	var tenant string
	var flags writeFlags
	c := &cobra.Command{
		Use:   "admit [NAME]",
		Short: "Let a tenant's principals pass the gate",
		Long: `Admits a tenant that is not admitted yet: from then on its principals pass where a
rule names the tenant, or is for any. Until then they match no rule at the gate.`,
		Example: "  portcullis tenant admit t-0123456789abcdef --wait",
		Args:    named(arg{"name", &tenant, checkTenantName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				return flags.change(ctx, p, d, tenant,
					func(t store.Tenant) (store.Result, error) { return d.AdmitTenant(ctx, d.by, t.ID) },
					fmt.Sprintf("admitted tenant %q", tenant), fmt.Sprintf("tenant %q was admitted already", tenant))
			})
		},
	}
	c.Flags().StringVar(&tenant, "name", "", "the tenant's `name`")
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}

func newTenantRenameCommand(p *process) *cobra.Command {
	var tenant, name string
	var flags writeFlags
	c := &cobra.Command{
		Use:   "rename [NAME] [TO]",
		Short: "Give a tenant another name",
		Long: `Renames a tenant. Its keys, roles, members and audit stay, and so do the secrets
that were handed out. What goes by the name does not follow: rules, issuers and
workloads of the policy file, AUTH_TENANTS, and the tenant claim of tokens that were
issued, which are refused from then on. Tenant default keeps its name.`,
		Example: "  portcullis tenant rename t-0123456789abcdef acme --wait",
		Args:    named(arg{"name", &tenant, checkTenantName}, arg{"to", &name, checkTenantName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if err := d.strictly("to", name); err != nil {
					return err
				}
				return flags.change(ctx, p, d, tenant,
					func(t store.Tenant) (store.Result, error) { return d.RenameTenant(ctx, d.by, t.ID, name) },
					fmt.Sprintf("tenant %q is now %q", tenant, name), fmt.Sprintf("tenant %q has that name already", tenant))
			})
		},
	}
	c.Flags().StringVar(&tenant, "name", "", "the tenant's `name`")
	c.Flags().StringVar(&name, "to", "", "its new `name`")
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}

// change makes one write about a tenant, and says what came of it.
func (f *writeFlags) change(ctx context.Context, p *process, d desk, tenant string, write func(store.Tenant) (store.Result, error), done, unchanged string) error {
	t, err := d.tenant(ctx, tenant)
	if err != nil {
		return err
	}
	d.by.Tenant, d.by.Ack = t.ID, f.wait != 0
	r, err := write(t)
	if err != nil {
		return err
	}
	return f.report(ctx, p, d, tenant, r, done, unchanged)
}
