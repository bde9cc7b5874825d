package main

import (
	"bufio"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"portcullis/internal/auditfilter"
	"portcullis/internal/store"
)

func newAuditExportCommand(p *process) *cobra.Command {
	var flags auditFlags
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the audit as lines of JSON, newest first",
		Long: `Writes audit rows to the standard output, newest first, a JSON object on each
line, in the form of "audit query --json". It reads a page at a time, so that its
memory does not grow with the audit; rows that are written meanwhile are left out.
An export that stops early exits with another code than 0; --before with the id on
its last line goes on from there.

` + auditFlagsLong,
		Example: `  portcullis audit export --tenant acme > acme.ndjson
  portcullis audit export --since 24h --action delete | jq -r .resource
  portcullis audit export --system > system.ndjson`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := flags.query(cmd, auditfilter.Filters)
			if err != nil {
				return err
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if query.Tenant, err = flags.whose(ctx, d); err != nil {
					return err
				}
				return exportAudit(ctx, p, d, query)
			})
		},
	}
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}

func exportAudit(ctx context.Context, p *process, d desk, query store.AuditQuery) (err error) {
	query.Limit, query.NoTotal = store.MaxAuditPage, true
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	shown := newProgress(p.stderr)
	defer func() {
		shown.end()
		if flushing := out.Flush(); err == nil && flushing != nil {
			err = unavailablef("write the answer: %w", flushing)
		}
	}()
	for rows := 0; ; {
		entries, _, err := d.Audit(ctx, query)
		if err != nil {
			return fmt.Errorf("after %s: %w", count(rows, "row"), err)
		}
		for i := range entries {
			if err := printJSON(out, describeEntry(&entries[i])); err != nil {
				return err
			}
			query.Before = entries[i].ID
		}
		if rows += len(entries); len(entries) < query.Limit {
			return nil
		}
		shown.show(count(rows, "row"), 0, 0)
	}
}
