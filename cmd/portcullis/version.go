package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what is known of how this binary was made.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // built from a tree with changes that no commit holds
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = info.Main.Version // the tag of the tree that it was built from
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func newVersionCommand(p *process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Say which build this is",
		Long:    "Prints the version, the commit that it was built from, and the Go release that\nbuilt it.",
		Example: "  portcullis version\n  portcullis version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if asJSON {
				return printJSON(p.stdout, b)
			}
			modified := ""
			if b.Modified {
				modified = " with changes"
			}
			_, err := fmt.Fprintf(p.stdout, "portcullis %s (commit %s%s, %s, %s)\n", b.Version, b.Commit, modified, b.Go, b.Platform)
			return err
		},
	}
	addJSONFlag(c, &asJSON)
	return c
}

func addJSONFlag(c *cobra.Command, asJSON *bool) {
	c.Flags().BoolVar(asJSON, "json", false, "print one line of JSON, for scripts")
}
