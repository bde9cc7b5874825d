package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/store"
	"portcullis/policy"
)

func newMemberCommand(p *process) *cobra.Command {
	return newGroupCommand("member", "Memberships: who holds which role",
		`A membership gives a role to a principal: a user (a JWT's subject), a client (the
name of a client key) or a workload. A user and a client of the same name are
two principals.`,
		newMemberAddCommand(p), newMemberRemoveCommand(p), newMemberListCommand(p))
}

// memberWrite is a command that writes one membership.
type memberWrite struct {
	roleWrite
	kind kindFlag
	id   string
}

func (w *memberWrite) flags(p *process, c *cobra.Command) {
	w.kind = kindFlag(policy.KindUser)
	w.roleWrite.flags(p, c)
	c.Flags().Var(&w.kind, "kind", "what sort of caller: user, client or workload")
	c.Flags().StringVar(&w.id, "id", "", "the user's subject, the client key's name or the workload's `id`")
}

func (w *memberWrite) names() cobra.PositionalArgs {
	return named(arg{"id", &w.id, checkPrincipalID}, arg{"role", &w.role, checkRoleName})
}

func (w *memberWrite) who() string { return fmt.Sprintf("%s %q", w.kind.String(), w.id) }

func newMemberAddCommand(p *process) *cobra.Command {
	var w memberWrite
	var expires lifetime
	c := &cobra.Command{
		Use:   "add [ID] [ROLE]",
		Short: "Give a role to a user, a client or a workload",
		Long: `Gives a role, for good or for a time. Giving it again sets its end anew: without
--expires it has none.`,
		Example: `  portcullis member add amy editor
  portcullis member add --tenant acme --kind client --id ci --role deployer --expires 30d --wait`,
		Args: w.names(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			end := expires.expiry(time.Now())
			until := ""
			if !end.IsZero() {
				until = ", until " + showTime(end, "") + ","
			}
			return w.run(p, cmd, fmt.Sprintf("%s holds role %q%s", w.who(), w.role, until),
				fmt.Sprintf("%s held role %q already", w.who(), w.role),
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					if err := d.strictly("id", w.id); err != nil {
						return store.Result{}, err
					}
					r, err := d.AddMember(ctx, d.by, t, policy.Kind(w.kind), w.id, w.role, end)
					if errors.Is(err, store.ErrNotKeyBacked) {
						return r, refusedf("--id: tenant %q has strict users and %q has no active API key: make one first (`portcullis user-key new --tenant %[1]s --user %[2]s`)", w.tenant, w.id)
					}
					return r, err
				})
		},
	}
	w.flags(p, c)
	c.Flags().Var(&expires, "expires", "for how long, such as 12h or 30d (default: for good)")
	return c
}

func newMemberRemoveCommand(p *process) *cobra.Command {
	var w memberWrite
	c := &cobra.Command{
		Use:   "remove [ID] [ROLE]",
		Short: "Take a role from a user, a client or a workload",
		Long:  "Takes a role away. Every sidecar denies within milliseconds; --wait returns only\nonce all of them do.",
		Example: `  portcullis member remove amy editor --wait
  portcullis member remove --tenant acme --kind client --id ci --role deployer`,
		Args: w.names(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return w.run(p, cmd, fmt.Sprintf("%s no longer holds role %q", w.who(), w.role),
				fmt.Sprintf("%s did not hold role %q", w.who(), w.role),
				func(ctx context.Context, d desk, t store.TenantID) (store.Result, error) {
					return d.RemoveMember(ctx, d.by, t, policy.Kind(w.kind), w.id, w.role)
				})
		},
	}
	w.flags(p, c)
	return c
}

type memberJSON struct {
	Kind    string     `json:"kind"`
	ID      string     `json:"id"`
	Role    string     `json:"role"`
	Expires *time.Time `json:"expires"`
	Expired bool       `json:"expired"`
}

func newMemberListCommand(p *process) *cobra.Command {
	var tenant, role string
	var asJSON bool
	c := &cobra.Command{
		Use:     "list [ROLE]",
		Short:   "List who holds a role",
		Long:    "Lists the members of a role, or of every role of the tenant. Inheritance makes\nnobody a member: it hands on permissions alone.",
		Example: "  portcullis member list editor\n  portcullis member list --tenant acme --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				role = args[0]
			}
			if role != "" {
				if err := checkRoleName(role); err != nil {
					return usagef("--role: %w", err)
				}
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				members, err := d.members(ctx, t.ID, role)
				if err != nil {
					return err
				}
				return printMembers(p, members, asJSON, time.Now())
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&role, "role", "", "only this role, by `name`")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// members lists a role's members, or those of every role.
func (d desk) members(ctx context.Context, t store.TenantID, role string) ([]store.Member, error) {
	if role != "" {
		return d.MemberList(ctx, t, role)
	}
	roles, err := d.RoleList(ctx, t)
	if err != nil {
		return nil, err
	}
	var all []store.Member
	for _, r := range roles {
		of, err := d.MemberList(ctx, t, r.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

func printMembers(p *process, members []store.Member, asJSON bool, now time.Time) error {
	out := make([]memberJSON, 0, len(members))
	rows := make([][]string, 0, len(members))
	for _, m := range members {
		expired := !m.Expires.IsZero() && !now.Before(m.Expires)
		end := showTime(m.Expires, "never")
		if expired {
			end += " (expired)"
		}
		out = append(out, memberJSON{m.Kind.String(), m.ID, m.Role, jsonTime(m.Expires), expired})
		rows = append(rows, []string{m.Role, m.Kind.String(), m.ID, end})
	}
	if asJSON {
		return printJSON(p.stdout, out)
	}
	return printTable(p.stdout, []string{"ROLE", "KIND", "ID", "EXPIRES"}, rows)
}
