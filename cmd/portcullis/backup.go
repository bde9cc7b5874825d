package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/store/sqlite"
)

const backupLong = `Makes a consistent copy of the SQLite store while others serve from it and write
to it: the state of one moment, with every write that was answered before the
command began. The copy comes to be under a temporary name beside FILE, is synced
and checked, and only then is called FILE, mode 0600. It replaces no file unless
--force is given.

The copy holds what the store holds: who may do what, digests of keys, the audit.
Keep it as you keep the store. To restore one, see docs/runbook.md: what was
revoked after the backup is live again.

A Postgres store is backed up with Postgres's own tools (pg_dump, base backups);
the command says so and exits with 1.`

// backupJSON is the answer for scripts.
type backupJSON struct {
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
	Schema   int64  `json:"schema"`
	Revision int64  `json:"revision"`
	Tag      string `json:"tag"`
}

func newBackupCommand(p *process) *cobra.Command {
	var force, asJSON bool
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the SQLite store while it serves",
		Long:  backupLong,
		Example: `  portcullis backup /var/backups/portcullis.sqlite3
  portcullis backup --force --json nightly.sqlite3`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			if onPostgres(cfg) {
				return refusedf("the store is Postgres (%s), which has tools of its own: pg_dump --schema=portcullis, or base backups with pg_basebackup", cfg.DatabaseSetting)
			}
			progress := newProgress(p.stderr)
			made, err := sqlite.Backup(cmd.Context(), sqlite.BackupConfig{Path: cfg.SQLitePath, To: args[0], Overwrite: force, Progress: progress.show})
			progress.end()
			switch {
			case errors.Is(err, sqlite.ErrBackupExists):
				return refusedf("%w: --force replaces it", err)
			case err != nil:
				return usageUnlessAway(err)
			}
			if asJSON {
				return printJSON(p.stdout, backupJSON{File: made.To, Bytes: made.Bytes, Schema: made.Schema,
					Revision: made.Revision.Number, Tag: made.Revision.Tag.String()})
			}
			fmt.Fprintf(p.stdout, "wrote %s: %d bytes, schema %d, revision %d, verified\n", visible(made.To), made.Bytes, made.Schema, made.Revision.Number)
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace FILE where it exists")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// progress tells how far long work is: on a terminal as a line that is written
// over, else as a line now and then, so that a log of it stays short. Work that is
// soon done says nothing.
type progress struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	next     time.Time
	stage    string
	shown    bool
}

const (
	progressTerminal = 200 * time.Millisecond
	progressLog      = 5 * time.Second
)

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, every: progressLog}
	if file, ok := w.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if p.terminal {
		p.every = progressTerminal
	}
	p.next = time.Now().Add(p.every)
	return p
}

// show tells of a stage with so many of all parts done; none where they are not
// counted.
func (p *progress) show(stage string, done, all int) {
	now := time.Now()
	if now.Before(p.next) && !(p.shown && stage != p.stage) {
		return
	}
	p.next, p.stage = now.Add(p.every), stage
	text := stage
	if all > 0 {
		text = fmt.Sprintf("%s: %d of %d pages (%d%%)", stage, done, all, 100*int64(done)/int64(all))
	}
	if !p.terminal {
		fmt.Fprintln(p.w, text)
		return
	}
	p.shown = true
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
}

// end leaves the terminal's line clean.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
