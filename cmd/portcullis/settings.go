package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portcullis/internal/config"
)

// Which settings a command takes as flags. It reads all of them from the
// environment and .env, so that a wrong one is told wherever it is met.
var (
	storeSettings      = []string{"AUTH_SQLITE_PATH", "AUTH_DATABASE_URL", "AUTH_POSTGRESQL_URL", "AUTH_DATABASE_INSECURE", "AUTH_ENCRYPTION_KEY", "AUTH_AUDIT_KEY"}
	makeSettings       = append(slices.Clone(storeSettings), "AUTH_STRICT_USERS_DEFAULT") // of commands that may make a tenant
	tokenSettings      = []string{"AUTH_JWT_SECRET_KEY", "AUTH_JWT_PRIVATE_KEY", "AUTH_JWT_ALGORITHM", "AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE"}
	tokenStoreSettings = append(slices.Clone(storeSettings), "AUTH_JWT_ISSUER") // of commands about tokens in the store
	envoySettings      = []string{"AUTH_EXTAUTHZ_LISTEN", "AUTH_POLICY_FILE"}
)

// commandSettings is the table of settings with the flags of one command.
type commandSettings struct {
	table *config.Settings
	names []string // those that the command is about
}

// addSettings gives the command a flag for each of the settings.
func (p *process) addSettings(c *cobra.Command, names []string) {
	table := config.NewSettings()
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	table.AddFlags(all)
	flags := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	flags.SortFlags = false
	for _, s := range config.Table() {
		if !slices.Contains(names, s.Name) {
			continue
		}
		flags.AddFlag(all.Lookup(s.Flag()))
		if s.Secret {
			flags.AddFlag(all.Lookup(s.Flag() + "-file"))
		}
	}
	flags.AddFlag(all.Lookup("env-file"))
	c.Flags().AddFlagSet(flags)
	p.settingsOf[c] = commandSettings{table, names}
	p.settingFlags[c] = flags
}

// load reads the settings from every source.
func (of commandSettings) load(p *process) (*config.Config, []config.Warning, error) {
	cfg, warnings, err := of.table.Load(config.Input{Environ: p.environ})
	if err != nil {
		return nil, warnings, &failure{code: exitUsage, err: err}
	}
	return cfg, warnings, nil
}

// settings loads the settings of a command that does not serve. Warnings that
// are about other commands' settings are left to those.
func (p *process) settings(c *cobra.Command) (*config.Config, error) {
	of := p.settingsOf[c]
	cfg, warnings, err := of.load(p)
	printWarnings(p, slices.DeleteFunc(warnings, func(w config.Warning) bool {
		return knownSetting(w.Name) && !slices.Contains(of.names, w.Name)
	}))
	return cfg, err
}

func printWarnings(p *process, warnings []config.Warning) {
	for _, w := range warnings {
		fmt.Fprintln(p.stderr, "portcullis: warning: "+w.String())
	}
}

func knownSetting(name string) bool {
	return slices.ContainsFunc(config.Table(), func(s config.Setting) bool { return s.Name == name })
}

// allSettings names every setting, for the commands that serve.
func allSettings() []string {
	var names []string
	for _, s := range config.Table() {
		names = append(names, s.Name)
	}
	return names
}

// newLogger writes the program's own log as the settings say.
func newLogger(w io.Writer, cfg *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == config.LogText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// quietLogger is the log of a command that does not serve: only what went wrong
// is worth a line beside its answer, unless the user asks for more.
func (p *process) quietLogger(cfg *config.Config) *slog.Logger {
	quiet := *cfg
	if quiet.LogLevel == slog.LevelInfo {
		quiet.LogLevel = slog.LevelError
	}
	return newLogger(p.stderr, &quiet)
}
