package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"portcullis/internal/authdata"
	"portcullis/internal/authimport"
	"portcullis/internal/config"
	"portcullis/internal/store"
)

func newImportCommand(p *process) *cobra.Command {
	return newGroupCommand("import", "Take over the data of another program",
		"Takes over what another program keeps. Its data is read, and not changed.",
		newImportAuthCommand(p))
}

const importAuthLong = `Takes over the data of Auth 3.1, from its SQLite file or its Postgres schema: each
client key becomes a tenant with that key, admitted; roles, permissions,
memberships, users' API keys, settings and the audit follow. Client keys and
issued API keys go on working; the store keeps digests of them. Fields that Auth
encrypts are opened with its AUTH_ENCRYPTION_KEY, and sealed here where the
database is.

What is there already is left as it is, so the command may be run again: after a
cut-off it goes on, and later it brings what is new. A row that cannot be taken
over is named and ends the import; with --skip-bad such rows are named and left
out. --dry-run reads all of it and writes nothing.

Secrets are given in files, since a flag is shown by the process list.`

// importFlags are what import auth is asked for.
type importFlags struct {
	from, fromFile, schema, keyFile string
	dryRun, skipBad, json           bool
}

func newImportAuthCommand(p *process) *cobra.Command {
	var flags importFlags
	c := &cobra.Command{
		Use:   "auth",
		Short: "Take over Auth's tenants, roles, keys and audit",
		Long:  importAuthLong,
		Example: `  portcullis import auth --from ~/.auth.sqlite3 --dry-run
  portcullis import auth --from-file /run/secrets/auth-url --auth-key-file /run/secrets/auth-key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, err := flags.source()
			if err != nil {
				return err
			}
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			return importAuth(cmd.Context(), p, cfg, source, flags)
		},
	}
	c.Flags().StringVar(&flags.from, "from", "", "Auth's SQLite `file`, or its Postgres URL without a password")
	c.Flags().StringVar(&flags.fromFile, "from-file", "", "a `file` that holds the URL")
	c.Flags().StringVar(&flags.schema, "schema", "", "Auth's schema in Postgres (default: auth_rbac, or the one that has its tables)")
	c.Flags().StringVar(&flags.keyFile, "auth-key-file", "", "a `file` that holds Auth's AUTH_ENCRYPTION_KEY, where it encrypts fields")
	c.MarkFlagsMutuallyExclusive("from", "from-file")
	c.Flags().BoolVar(&flags.dryRun, "dry-run", false, "read everything, and write nothing")
	c.Flags().BoolVar(&flags.skipBad, "skip-bad", false, "name rows that cannot be taken over, leave them out, and go on")
	addJSONFlag(c, &flags.json)
	p.addSettings(c, storeSettings)
	return c
}

// source is where the flags say that Auth's data is.
func (f *importFlags) source() (authdata.Config, error) {
	out := authdata.Config{URL: f.from, Schema: f.schema}
	if strings.Contains(f.from, "://") && !strings.HasPrefix(f.from, "sqlite") && config.HoldsPassword(f.from) {
		return out, usagef("--from: it holds a password, which the process list shows: put the URL into a file and name that with --from-file, or use PGPASSFILE")
	}
	if f.fromFile != "" {
		text, err := readSecretFile(f.fromFile)
		if err != nil {
			return out, usagef("--from-file: %w", err)
		}
		out.URL = text
	}
	if out.URL == "" {
		return out, usagef("--from is missing: name Auth's SQLite file (by default ~/.auth.sqlite3) or the URL of its Postgres")
	}
	if f.keyFile != "" {
		text, err := readSecretFile(f.keyFile)
		if err != nil {
			return out, usagef("--auth-key-file: %w", err)
		}
		out.Key = authdata.NewSecret(text)
	}
	return out, nil
}

// secretFileRoom is more than any URL or key has.
const secretFileRoom = 64 << 10

// readSecretFile reads a file of one line.
func readSecretFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, secretFileRoom))
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(string(text), "\r\n")
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s: it must hold one line", name)
	}
	return line, nil
}

func importAuth(ctx context.Context, p *process, cfg *config.Config, from authdata.Config, flags importFlags) error {
	source, err := authdata.Open(ctx, from)
	if err != nil {
		return refusedf("--from: %w", err)
	}
	defer source.Close()
	counts, err := source.Counts(ctx)
	if err != nil {
		return unavailablef("--from: %w", err)
	}
	all := counts.Roles + counts.Grants + counts.Memberships + counts.UserKeys + counts.Audit
	shown := newProgress(p.stderr)
	work := authimport.Config{
		Source: source, SkipBad: flags.skipBad, ID: sourceID(from.URL, from.Schema),
		Bad:      func(err error) { fmt.Fprintf(p.stderr, "left out: %v\n", err) },
		Progress: func(rows int64) { shown.show(fmt.Sprintf("%d of about %d rows", rows, all), 0, 0) },
	}
	if flags.dryRun {
		sum, err := authimport.Run(ctx, work)
		shown.end()
		if err != nil {
			return refusedf("%w", err)
		}
		return printImport(p, sum, flags)
	}
	return withOpenStore(p, ctx, cfg, func(ctx context.Context, d desk) error {
		if err := warnInClear(ctx, p, cfg, d); err != nil {
			return err
		}
		work.Store, work.By = d.Store, d.by
		sum, err := authimport.Run(ctx, work)
		shown.end()
		if err != nil {
			return fmt.Errorf("%w (what was written stays: run the command again to go on)", err)
		}
		return printImport(p, sum, flags)
	})
}

// sourceID names a source without telling its URL.
func sourceID(url, schema string) string {
	sum := sha256.Sum256([]byte("portcullis import source v1\x00" + url + "\x00" + schema))
	return "auth-" + hex.EncodeToString(sum[:8])
}

// importJSON is what an import did, in JSON.
type importJSON struct {
	DryRun   bool         `json:"dry_run"`
	Resumed  bool         `json:"resumed"`
	Read     importCounts `json:"read"`
	New      importCounts `json:"new"`
	Left     int          `json:"left_out"`
	Dangling int          `json:"dangling"`
}

type importCounts struct {
	Tenants     int `json:"tenants"`
	Roles       int `json:"roles"`
	Permissions int `json:"permissions"`
	Memberships int `json:"memberships"`
	APIKeys     int `json:"api_keys"`
	Audit       int `json:"audit"`
}

func countsOf(c store.ImportCounts) importCounts {
	return importCounts{c.Tenants, c.Roles, c.Permissions, c.Members, c.UserKeys, c.Audit}
}

func printImport(p *process, sum authimport.Summary, flags importFlags) error {
	if flags.json {
		return printJSON(p.stdout, importJSON{flags.dryRun, sum.Resumed, countsOf(sum.Read), countsOf(sum.New), sum.Left, sum.Dangling})
	}
	row := func(what string, read, made int) []string { return []string{what, fmt.Sprint(read), fmt.Sprint(made)} }
	rows := [][]string{
		row("tenants", sum.Read.Tenants, sum.New.Tenants), row("roles", sum.Read.Roles, sum.New.Roles),
		row("permissions", sum.Read.Permissions, sum.New.Permissions), row("memberships", sum.Read.Members, sum.New.Members),
		row("API keys", sum.Read.UserKeys, sum.New.UserKeys), row("audit rows", sum.Read.Audit, sum.New.Audit),
	}
	if err := printTable(p.stdout, []string{"WHAT", "READ", "NEW"}, rows); err != nil {
		return err
	}
	switch {
	case flags.dryRun:
		fmt.Fprintln(p.stdout, "nothing was written")
	case sum.New == (store.ImportCounts{}):
		fmt.Fprintln(p.stdout, "nothing was new")
	}
	if sum.Left > 0 || sum.Dangling > 0 {
		fmt.Fprintf(p.stdout, "left out: %s, %s to what is not there\n", count(sum.Left, "row"), count(sum.Dangling, "link"))
	}
	return nil
}
