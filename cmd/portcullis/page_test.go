package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the generated part of docs/cli.md")

const (
	cliPage  = "../../docs/cli.md"
	cliBegin = "<!-- begin: written by `go test ./cmd/portcullis -run TestCommandPage -update` -->\n"
	cliEnd   = "<!-- end -->\n"
)

// TestCommandPage holds docs/cli.md to the help texts.
func TestCommandPage(t *testing.T) {
	content, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(content), cliBegin)
	_, tail, ok2 := strings.Cut(rest, cliEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks %q or %q", cliPage, cliBegin, cliEnd)
	}
	want := head + cliBegin + commandReference(t) + cliEnd + tail
	if want == string(content) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the help texts say: run this test with -update", cliPage)
	}
	if err := os.WriteFile(cliPage, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func commandReference(t *testing.T) string {
	p := newProcess(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}, nil)
	var b strings.Builder
	for _, c := range documented(newRootCommand(p)) {
		fmt.Fprintf(&b, "\n### %s\n\n", c.CommandPath())
		var help bytes.Buffer
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(help.String(), settingsTitle)
		fmt.Fprintf(&b, "```text\n%s\n```\n", strings.TrimSpace(text))
		if names := settingNames(p.settingFlags[c]); names != "" {
			fmt.Fprintf(&b, "\nSettings, described in [settings.md](settings.md): %s.\n", names)
		}
	}
	return b.String() + "\n"
}

// documented are the command and all below it that are ours.
func documented(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			out = append(out, documented(sub)...)
		}
	}
	return out
}

func settingNames(flags *pflag.FlagSet) string {
	if flags == nil {
		return ""
	}
	var names []string
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, "`--"+f.Name+"`") })
	return strings.Join(names, ", ")
}

// TestHelpIsByExample: every command that does something shows how, in a line
// that begins with its own name, and every flag in it exists.
func TestHelpIsByExample(t *testing.T) {
	p := newProcess(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}, nil)
	for _, c := range documented(newRootCommand(p)) {
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s: lacks a description", c.CommandPath())
		}
		if c.HasAvailableSubCommands() {
			continue
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no example shows it", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			_, rest, ok := strings.Cut(line, c.CommandPath()+" ")
			if !ok {
				continue
			}
			for word := range strings.FieldsSeq(rest) {
				if word == "|" || strings.HasPrefix(word, "#") {
					break
				}
				name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				if name = strings.TrimRight(name, ")\""); strings.HasPrefix(word, "--") && c.Flags().Lookup(name) == nil {
					t.Errorf("%s: the example has --%s, and there is no such flag", c.CommandPath(), name)
				}
			}
		}
		for line := range strings.Lines(c.Long) {
			if len(strings.TrimRight(line, "\n")) > 88 {
				t.Errorf("%s: a line of the description is too long: %q", c.CommandPath(), line)
			}
		}
	}
}
