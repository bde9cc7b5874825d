package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/config"
	"portcullis/internal/rotation"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

func newRotateCommand(p *process) *cobra.Command {
	return newGroupCommand("rotate", "Replace the keys that seal the database, chain the audit, or sign tokens",
		"Replaces keys while the gate and the admin API go on.",
		newRotateEncryptionCommand(p), newRotateSigningCommand(p),
		newRotateAuditCommand(p))
}

const rotateEncryptionLong = `Each tenant has keys of its own, which lie in the database wrapped under the master
keys of AUTH_ENCRYPTION_KEY: the first wraps, all of them unwrap. Without a flag
the command wraps every key under the first master, in one transaction. Put the
new master before the old one (AUTH_ENCRYPTION_KEY=new,old) everywhere, run it, and
take the old one out.

  --deep     gives every tenant new keys and seals every row anew, for when a key
             may be known to others
  --enable   seals a database that is in clear
  --disable  writes a sealed database in clear
  --dry-run  changes nothing: says what would be done, counts the rows by table, and
             says which live sidecars hold the key

Rows are written in batches, with pauses, so that checks and writes go on. A run
that is cut off, by Ctrl-C or a crash, leaves everything readable, and the same
command takes it up where it stood. It refuses to begin, and goes no further, while
a live sidecar or admin process does not hold the first master, and names it.

A row that does not open ends the run, which names it. With --leave-unreadable
such rows are named and left as they are: they stay unreadable, what depends on them
stays denied, and a membership or permission among them goes only with its role.

On Postgres run it as the owner of the database: it writes the audit too.`

// rotateFlags are what rotate encryption is asked for.
type rotateFlags struct {
	deep, enable, disable bool
	dryRun, leave, json   bool
}

func (f rotateFlags) kind() store.RotationKind {
	switch {
	case f.deep:
		return store.RotateDeep
	case f.enable:
		return store.RotateEnable
	case f.disable:
		return store.RotateDisable
	}
	return 0
}

func newRotateEncryptionCommand(p *process) *cobra.Command {
	var flags rotateFlags
	c := &cobra.Command{
		Use:   "encryption",
		Short: "Replace the encryption keys, or turn encryption on or off",
		Long:  rotateEncryptionLong,
		Example: `  portcullis key encryption > new.key
  AUTH_ENCRYPTION_KEY="$(cat new.key),$(cat old.key)" portcullis rotate encryption
  portcullis rotate encryption --deep --dry-run
  portcullis rotate encryption --enable --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSettings(p, cmd, func(ctx context.Context, cfg *config.Config, d desk) error {
				return rotateEncryption(ctx, p, cfg, d, flags)
			})
		},
	}
	c.Flags().BoolVar(&flags.deep, "deep", false, "new keys for every tenant, and every row sealed anew")
	c.Flags().BoolVar(&flags.enable, "enable", false, "seal a database that is in clear")
	c.Flags().BoolVar(&flags.disable, "disable", false, "write a sealed database in clear")
	c.MarkFlagsMutuallyExclusive("deep", "enable", "disable")
	c.Flags().BoolVar(&flags.dryRun, "dry-run", false, "change nothing, and say what would be done")
	c.Flags().BoolVar(&flags.leave, "leave-unreadable", false, "name rows that do not open, leave them as they are, and go on")
	c.Flags().BoolVar(&flags.json, "json", false, "print one line of JSON for each event, for scripts")
	p.addSettings(c, storeSettings)
	return c
}

func rotateEncryption(ctx context.Context, p *process, cfg *config.Config, d desk, flags rotateFlags) error {
	if flags.enable && cfg.Masters == nil {
		return usagef("AUTH_ENCRYPTION_KEY is not set: make a master key with `portcullis key encryption`, keep it where the database is not, and name its file in AUTH_ENCRYPTION_KEY_FILE")
	}
	work := rotation.Config{Store: d.Store, Masters: masterIDs(cfg.Masters), Kind: flags.kind(), By: d.by}
	show, err := newRotationShow(ctx, p, d, flags)
	if err != nil {
		return err
	}
	plan, err := rotation.Look(ctx, work)
	if err != nil {
		return err
	}
	if flags.dryRun {
		if err := show.plan(plan, work.Masters); err != nil {
			return err
		}
		return plan.Refused
	}
	if plan.Refused != nil {
		return plan.Refused
	}
	if err := show.started(plan); err != nil {
		return err
	}
	work.Progress = show.progress
	if flags.leave {
		work.Leave = show.left
	}
	out, err := rotation.Run(ctx, work)
	show.finish()
	if err != nil {
		return err
	}
	next, err := whatNext(ctx, d.Store, cfg.Masters, flags.kind(), out)
	if err != nil {
		return err
	}
	return show.done(out, next)
}

// next is what is left to do after a rotation.
type next struct {
	removable bool // the masters after the first open nothing any more
	advice    []string
}

func whatNext(ctx context.Context, s store.Store, masters *sealing.Masters, kind store.RotationKind, out rotation.Outcome) (next, error) {
	var n next
	say := func(format string, args ...any) { n.advice = append(n.advice, fmt.Sprintf(format, args...)) }
	switch kind {
	case store.RotateEnable:
		say("set AUTH_ENABLE_ENCRYPTION=true for serve and admin; what was copied before, such as backups, is in clear")
		return n, nil
	case store.RotateDisable:
		say("set AUTH_ENABLE_ENCRYPTION=false for serve and admin; keep the master keys for as long as backups that they open")
		audit, err := s.AuditState(ctx)
		if err == nil && audit.Holder == sealing.HeldByEncryption {
			say("the audit's chain is still under master key %s: set AUTH_AUDIT_KEY and run `portcullis rotate audit` before you take AUTH_ENCRYPTION_KEY away", audit.Master)
		}
		return n, err
	}
	if out.State.Rotation != 0 {
		say("a rotation that was cut off is still to be finished: run `portcullis rotate encryption --%s`", out.State.Rotation)
		return n, nil
	}
	live, err := rotation.Live(ctx, s, masterIDs(masters), time.Now())
	if err != nil {
		return n, err
	}
	n.removable = out.State.Master == string(masters.First()) && out.State.OtherMasters == 0
	for _, sidecar := range live {
		if len(sidecar.Masters) > 0 && sidecar.Masters[0] != string(masters.First()) {
			n.removable = false
			say("%s: its first is another one, and wraps the keys of tenants that are made there: put %s first there, and run this again before the others are taken out",
				sidecar, masters.First())
		}
	}
	if n.removable && len(masters.IDs()) > 1 {
		say("every key is under %s: the other master keys may now be taken out of AUTH_ENCRYPTION_KEY, and are needed for older backups alone", masters.First())
	}
	return n, nil
}

// masterIDs are the ids of the masters as reports and rotations carry them.
func masterIDs(masters *sealing.Masters) []string {
	var ids []string
	for _, id := range masters.IDs() {
		ids = append(ids, string(id))
	}
	return ids
}
