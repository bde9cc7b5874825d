package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"portcullis/internal/input"
	"portcullis/internal/store"
)

func newRoleCommand(p *process) *cobra.Command {
	return newGroupCommand("role", "Roles: what permissions are bundled in",
		`A role bundles permissions; people and programs get permissions by being members
of roles. A role may inherit all permissions of another.`,
		newRoleAddCommand(p), newRoleRemoveCommand(p), newRoleListCommand(p), newRoleInheritCommand(p))
}

// roleWrite is a command that writes something about one role.
type roleWrite struct {
	tenant, role string
	writeFlags
}

func (w *roleWrite) flags(p *process, c *cobra.Command) {
	tenantFlag(c, &w.tenant)
	c.Flags().StringVar(&w.role, "role", "", "the role's `name`")
	w.writeFlags.add(c)
	p.addSettings(c, storeSettings)
}

// run finds the tenant, writes, and reports. An absent role is an answer of no.
// done and unchanged are sentences for people, to which " in tenant" fits.
func (w *roleWrite) run(p *process, cmd *cobra.Command, done, unchanged string,
	write func(ctx context.Context, d desk, t store.TenantID) (store.Result, error)) error {
	return withStore(p, cmd, func(ctx context.Context, d desk) error {
		t, err := d.tenant(ctx, w.tenant)
		if err != nil {
			return err
		}
		d.by.Tenant, d.by.Ack = t.ID, w.wait != 0
		r, err := write(ctx, d, t.ID)
		if err != nil {
			return err
		}
		if r.Outcome == store.OutcomeMissing {
			return refusedf("--role: tenant %q has no role %q (see `portcullis role list --tenant %[1]s`)", w.tenant, w.role)
		}
		in := fmt.Sprintf(" in tenant %q", w.tenant)
		return w.report(ctx, p, d, w.tenant, r, done+in, unchanged+in)
	})
}

func newRoleAddCommand(p *process) *cobra.Command {
	var w roleWrite
	var description string
	c := &cobra.Command{
		Use:   "add [ROLE]",
		Short: "Add a role, or describe one",
		Long: `Adds a role. It begins with no permissions and no members. Adding one that is
there changes nothing but its description, where one is given.`,
		Example: `  portcullis role add editor --description "Writes and mends posts"
  portcullis role add --tenant acme --role editor --wait`,
		Args: named(arg{"role", &w.role, checkRoleName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var text *string
			if cmd.Flags().Changed("description") {
				if err := input.Line(description, input.MaxDescription); err != nil {
					return usagef("--description: %w", err)
				}
				text = &description
			}
			return w.run(p, cmd, fmt.Sprintf("role %q added", w.role), fmt.Sprintf("role %q was there already", w.role),
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					if err := cmp.Or(d.strictly("role", w.role), d.strictly("description", description)); err != nil {
						return store.Result{}, err
					}
					return d.PutRole(ctx, d.by, t, w.role, text)
				})
		},
	}
	w.flags(p, c)
	c.Flags().StringVar(&description, "description", "", "what the role is for, in `words`")
	return c
}

func newRoleRemoveCommand(p *process) *cobra.Command {
	var w roleWrite
	c := &cobra.Command{
		Use:   "remove [ROLE]",
		Short: "Remove a role with its permissions and memberships",
		Long: `Removes a role, its permissions, its memberships and its inheritance. Nobody
holds it from then on; a role of the same name that is added later starts empty.`,
		Example: "  portcullis role remove editor\n  portcullis role remove --tenant acme --role editor --wait",
		Args:    named(arg{"role", &w.role, checkRoleName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return w.run(p, cmd, fmt.Sprintf("role %q removed", w.role), fmt.Sprintf("role %q was gone already", w.role),
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					return d.DeleteRole(ctx, d.by, t, w.role)
				})
		},
	}
	w.flags(p, c)
	return c
}

func newRoleInheritCommand(p *process) *cobra.Command {
	var w roleWrite
	var parent string
	var remove bool
	c := &cobra.Command{
		Use:   "inherit [ROLE] [PARENT]",
		Short: "Let a role inherit the permissions of another",
		Long: `Lets ROLE inherit every permission of PARENT, and of what PARENT inherits. A role
cannot inherit from itself, however long the way. --remove ends it.`,
		Example: `  portcullis role inherit editor reader            # whoever edits may read
  portcullis role inherit --role editor --parent reader --remove`,
		Args: named(arg{"role", &w.role, checkRoleName}, arg{"parent", &parent, checkRoleName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			done := fmt.Sprintf("role %q inherits from %q", w.role, parent)
			unchanged := fmt.Sprintf("role %q inherited from %q already", w.role, parent)
			if remove {
				done = fmt.Sprintf("role %q no longer inherits from %q", w.role, parent)
				unchanged = fmt.Sprintf("role %q did not inherit from %q", w.role, parent)
			}
			return w.run(p, cmd, done, unchanged,
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					r, err := w.inherit(ctx, d, t, parent, remove)
					if err == nil && r.Outcome == store.OutcomeMissing {
						return r, w.missing(ctx, d, t, parent)
					}
					return r, err
				})
		},
	}
	w.flags(p, c)
	c.Flags().StringVar(&parent, "parent", "", "the role to inherit from, by `name`")
	c.Flags().BoolVar(&remove, "remove", false, "end the inheritance")
	return c
}

func (w *roleWrite) inherit(ctx context.Context, d desk, t store.TenantID, parent string, remove bool) (store.Result, error) {
	if remove {
		return d.RemoveParent(ctx, d.by, t, w.role, parent)
	}
	return d.AddParent(ctx, d.by, t, w.role, parent)
}

// missing says which of the two roles is not there.
func (w *roleWrite) missing(ctx context.Context, d desk, t store.TenantID, parent string) error {
	roles, err := d.RoleList(ctx, t)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if r.Name == w.role {
			return refusedf("--parent: tenant %q has no role %q (see `portcullis role list --tenant %[1]s`)", w.tenant, parent)
		}
	}
	return refusedf("--role: tenant %q has no role %q (see `portcullis role list --tenant %[1]s`)", w.tenant, w.role)
}

type roleJSON struct {
	Role        string   `json:"role"`
	Description string   `json:"description"`
	Inherits    []string `json:"inherits"`
	Permissions []string `json:"permissions"` // its own
}

func newRoleListCommand(p *process) *cobra.Command {
	var tenant string
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List a tenant's roles with their own permissions",
		Long:    "Lists a tenant's roles by name: what each inherits, and the permissions that are its\nown. Inherited permissions are listed with the role that they come from.",
		Example: "  portcullis role list\n  portcullis role list --tenant acme --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				roles, err := d.RoleList(ctx, t.ID)
				if err != nil {
					return err
				}
				out := make([]roleJSON, 0, len(roles))
				rows := make([][]string, 0, len(roles))
				for _, r := range roles {
					permissions, err := d.PermissionList(ctx, t.ID, r.Name)
					if err != nil {
						return err
					}
					out = append(out, roleJSON{r.Name, r.Description, list(r.Parents), list(permissions)})
					rows = append(rows, []string{r.Name, strings.Join(r.Parents, ","), strings.Join(permissions, ","), r.Description})
				}
				if asJSON {
					return printJSON(p.stdout, out)
				}
				return printTable(p.stdout, []string{"ROLE", "INHERITS", "PERMISSIONS", "DESCRIPTION"}, rows)
			})
		},
	}
	tenantFlag(c, &tenant)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// list is s, never null in JSON.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
