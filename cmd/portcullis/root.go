package main

import (
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `Portcullis is the gate beside Envoy. On every proxied request Envoy asks it over
ext_authz gRPC whether this caller may do this, and it answers from memory.

One command is enough to begin with:

  portcullis serve

It keeps everything in ~/.auth.sqlite3 and denies every request until it has a
policy file (AUTH_POLICY_FILE). The other commands work on the same store, while
serve runs, and bite within milliseconds.

Every setting is an environment variable, a line of .env in the working
directory, and a flag: AUTH_SQLITE_PATH is --sqlite-path. Flags win over the
environment, which wins over .env.

Exit codes:
  0  done, or the answer is yes
  1  the answer is no: a denied check, a failed policy test, a name that is not there
  2  the command line or the configuration is wrong
  3  the store or the gate could not be asked, or could not decide`

func newRootCommand(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:           "portcullis",
		Short:         "The gate beside Envoy",
		Long:          rootLong,
		SilenceErrors: true, // run writes them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // so that needsSubcommand tells of them
		RunE:          needsSubcommand,
	}
	root.CompletionOptions.HiddenDefaultCmd = true // `portcullis completion bash` works all the same
	root.SetHelpCommandGroupID(groupTools)
	root.SetUsageFunc(p.usage)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v (see `%s --help`)", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run the gate:"},
		&cobra.Group{ID: groupWho, Title: "Who may do what:"},
		&cobra.Group{ID: groupTools, Title: "Ask, check and prepare:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, newServeCommand(p), newSidecarCommand(p), newAdminCommand(p), newMigrateCommand(p), newRotateCommand(p), newBackupCommand(p), newImportCommand(p))
	add(groupWho, newTenantCommand(p), newKeyCommand(p), newUserKeyCommand(p), newTokenCommand(p), newDenyCommand(p),
		newRoleCommand(p), newPermissionCommand(p), newMemberCommand(p), newAuditCommand(p))
	add(groupTools, newCheckCommand(p), newPolicyCommand(p), newEnvoyCommand(p), newVersionCommand(p))
	return root
}

const (
	groupRun   = "run"
	groupWho   = "who"
	groupTools = "tools"
)

// newGroupCommand is a command that only holds others.
func newGroupCommand(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, RunE: needsSubcommand}
	c.AddCommand(commands...)
	return c
}

// needsSubcommand shows the help of a bare group, and names the near miss of a
// misspelt one.
func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s has no command %q%s (see `%[1]s --help`)", cmd.CommandPath(), args[0], hint)
}
