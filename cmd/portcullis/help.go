package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is where flags' descriptions are wrapped, in columns.
const helpWidth = 100

const settingsTitle = "Settings, also in the environment and .env:"

// usage writes what follows a command's description in its help: how it is
// called, examples, the commands below it, its flags, and apart from them the
// settings that it takes as flags.
func (p *process) usage(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s <command> [flags]\n", c.CommandPath())
	} else {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	writeCommands(&b, c)
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings := p.settingFlags[c]
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if settings == nil || settings.Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	if text := own.FlagUsagesWrapped(helpWidth); text != "" {
		fmt.Fprintf(&b, "\nFlags:\n%s", text)
	}
	if settings != nil {
		fmt.Fprintf(&b, "\n%s\n%s", settingsTitle, settings.FlagUsagesWrapped(helpWidth))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n`%s <command> --help` says more.\n", c.CommandPath())
	}
	_, err := io.WriteString(c.OutOrStderr(), b.String())
	return err
}

// writeCommands lists the commands below c, by group where there are groups.
func writeCommands(b *strings.Builder, c *cobra.Command) {
	write := func(title, group string) {
		var lines strings.Builder
		for _, sub := range c.Commands() {
			if (sub.IsAvailableCommand() || sub.Name() == "help") && sub.GroupID == group {
				fmt.Fprintf(&lines, "  %-*s %s\n", c.NamePadding(), sub.Name(), sub.Short)
			}
		}
		if lines.Len() > 0 {
			fmt.Fprintf(b, "\n%s\n%s", title, lines.String())
		}
	}
	for _, g := range c.Groups() {
		write(g.Title, g.ID)
	}
	write("Commands:", "")
}
