package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"portcullis/internal/store"
)

func newPermissionCommand(p *process) *cobra.Command {
	return newGroupCommand("permission", "Permissions: what rules require",
		`A permission is a name that rules of the policy file require and roles carry. It
exists by being given to a role: there is no list of its own to keep.`,
		newPermissionAddCommand(p), newPermissionRemoveCommand(p), newPermissionListCommand(p))
}

func newPermissionAddCommand(p *process) *cobra.Command {
	var w roleWrite
	var permission string
	c := &cobra.Command{
		Use:     "add [ROLE] [PERMISSION]",
		Short:   "Give a permission to a role",
		Long:    "Gives a permission to a role, and so to its members and to the roles that inherit\nfrom it.",
		Example: "  portcullis permission add editor edit_content\n  portcullis permission add --tenant acme --role editor --permission edit_content --wait",
		Args:    named(arg{"role", &w.role, checkRoleName}, arg{"permission", &permission, checkPermissionName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return w.run(p, cmd, fmt.Sprintf("permission %q added to role %q", permission, w.role),
				fmt.Sprintf("role %q had permission %q already", w.role, permission),
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					if err := d.strictly("permission", permission); err != nil {
						return store.Result{}, err
					}
					return d.AddPermission(ctx, d.by, t, w.role, permission)
				})
		},
	}
	w.flags(p, c)
	permissionFlag(c, &permission)
	return c
}

func newPermissionRemoveCommand(p *process) *cobra.Command {
	var w roleWrite
	var permission string
	c := &cobra.Command{
		Use:     "remove [ROLE] [PERMISSION]",
		Short:   "Take a permission from a role",
		Long:    "Takes a permission from a role. Whoever holds it by another role keeps it.",
		Example: "  portcullis permission remove editor edit_content --wait",
		Args:    named(arg{"role", &w.role, checkRoleName}, arg{"permission", &permission, checkPermissionName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return w.run(p, cmd, fmt.Sprintf("permission %q removed from role %q", permission, w.role),
				fmt.Sprintf("role %q did not have permission %q", w.role, permission),
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					return d.RemovePermission(ctx, d.by, t, w.role, permission)
				})
		},
	}
	w.flags(p, c)
	permissionFlag(c, &permission)
	return c
}

func permissionFlag(c *cobra.Command, permission *string) {
	c.Flags().StringVar(permission, "permission", "", "the permission's `name`")
}

func newPermissionListCommand(p *process) *cobra.Command {
	var tenant, role string
	var asJSON bool
	c := &cobra.Command{
		Use:     "list [ROLE]",
		Short:   "List a role's own permissions",
		Long:    "Lists the permissions that were given to the role itself, one a line. What it\ninherits is listed with the roles that it inherits from (`portcullis role list`).",
		Example: "  portcullis permission list editor\n  portcullis permission list --tenant acme --role editor --json",
		Args:    named(arg{"role", &role, checkRoleName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				permissions, err := d.PermissionList(ctx, t.ID, role)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(p.stdout, list(permissions))
				}
				for _, name := range permissions {
					fmt.Fprintln(p.stdout, visible(name))
				}
				return nil
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&role, "role", "", "the role's `name`")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}
