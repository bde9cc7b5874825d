package main

import (
	"context"

	"github.com/spf13/cobra"

	"portcullis/internal/config"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

const rotateAuditLong = `Wraps the secret of the audit's chain under the first key of AUTH_AUDIT_KEY, or, without
that setting, under the master key that the database is sealed under. The chain stays
as it is. Where there is no chain yet, it is begun, over what is there.

To replace the key, put the new one before the old one (AUTH_AUDIT_KEY=new,old) for
every admin process, restart them, run this, and take the old one out.`

func newRotateAuditCommand(p *process) *cobra.Command {
	var flags writeFlags
	c := &cobra.Command{
		Use:   "audit",
		Short: "Put the audit's chain under another key, or begin it",
		Long:  rotateAuditLong,
		Example: `  portcullis key encryption > audit.key
  AUTH_AUDIT_KEY="$(cat audit.key),$(cat old.key)" portcullis rotate audit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSettings(p, cmd, func(ctx context.Context, cfg *config.Config, d desk) error {
				return rotateAudit(ctx, p, d, sealing.ChainKeys{Audit: cfg.AuditKeys, Encryption: cfg.Masters}, flags)
			})
		},
	}
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}

func rotateAudit(ctx context.Context, p *process, d desk, keys sealing.ChainKeys, flags writeFlags) error {
	before, err := d.AuditState(ctx)
	if err != nil {
		return err
	}
	holder, master, err := chainHolder(ctx, d.Store, keys)
	if err != nil {
		return err
	}
	where := holder + " " + string(master)
	var r store.Result
	done := "the audit's chain is begun, under " + where
	if before.Chained {
		done = "the audit's chain is under " + where
		r, err = d.RewrapChain(ctx, d.by)
	} else {
		r, err = d.StartChain(ctx, d.by)
	}
	if err != nil {
		return err
	}
	return flags.report(ctx, p, d, "", r, done, "the audit's chain is under "+where+" already")
}
