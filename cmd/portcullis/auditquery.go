package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"portcullis/internal/auditfilter"
)

func newAuditQueryCommand(p *process) *cobra.Command {
	var flags auditFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "query",
		Aliases: []string{"list"},
		Short:   "List the audit, newest first",
		Long: `Lists audit rows, newest first; "list" is another name for it. REVISION is the
one that the write made. --json prints what the table leaves out too: id, before,
after, address, request id.

` + auditFlagsLong,
		Example: `  portcullis audit query --tenant acme --limit 20
  portcullis audit query --action delete --entity role --since 7d
  portcullis audit query --subject alice --json
  portcullis audit query --system --action fail --since 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := flags.query(cmd, auditfilter.Page)
			if err != nil {
				return err
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if query.Tenant, err = flags.whose(ctx, d); err != nil {
					return err
				}
				beyond := query
				beyond.Limit++ // whether there are more
				entries, total, err := d.Audit(ctx, beyond)
				if err != nil {
					return err
				}
				more := len(entries) > query.Limit
				entries = entries[:min(len(entries), query.Limit)]
				if asJSON {
					return printJSON(p.stdout, describeAudit(entries))
				}
				if err := printTable(p.stdout, []string{"TIME", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "REVISION"}, auditRows(entries)); err != nil {
					return err
				}
				if more {
					fmt.Fprintf(p.stderr, "%d of %d rows; --before %d shows what came before\n", len(entries), total, entries[len(entries)-1].ID)
				}
				return nil
			})
		},
	}
	flags.add(c)
	c.Flags().Int(auditfilter.FieldLimit, auditfilter.DefaultLimit, fmt.Sprintf("how many rows, 1 to %d", auditfilter.MaxLimit))
	c.Flags().Int(auditfilter.FieldOffset, 0, "how many of the newest rows to leave out; --before pages through rows while new ones come")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}
