package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/store"
)

const auditPruneLong = `Deletes audit rows that are older than a duration, of one tenant, of no tenant
(--system), or of all of them and none (--all). What goes is verified first, and where
it is not what was written nothing goes. A signed anchor stays in its place, so that
` + "`portcullis audit verify`" + ` goes on from there, and a row that says who pruned how much.
Export what must be kept (` + "`portcullis audit export`" + `) before.

Rows go in batches, so that writes go on. On Postgres run it as the owner of the
database: a server may not delete what was recorded. Months that became empty are
dropped there.`

// prunedJSON is the answer for scripts, one line for each tenant.
type prunedJSON struct {
	Tenant string    `json:"tenant"` // "" for the rows of none
	Before time.Time `json:"before"`
	Rows   int64     `json:"rows"`
}

func newAuditPruneCommand(p *process) *cobra.Command {
	var older lifetime
	var tenant string
	var all, system, asJSON bool
	c := &cobra.Command{
		Use:   "prune --older-than DURATION",
		Short: "Delete old audit rows, and anchor what remains",
		Long:  auditPruneLong,
		Example: `  portcullis audit export --until 365d > audit-2025.jsonl
  portcullis audit prune --older-than 365d --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if older == 0 {
				return usagef("--older-than: say how old a row must be to go, such as 365d")
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				of, err := pruned(ctx, d, tenant, all, system)
				if err != nil {
					return err
				}
				before := time.Now().Add(-time.Duration(older))
				for _, t := range of {
					rows, err := pruneTenant(ctx, p, d, t, before)
					if err != nil {
						return err
					}
					if err := printPruned(p, prunedJSON{t.Name, before.UTC(), rows}, asJSON); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().Var(&older, "older-than", "how old a row must be to go, such as 365d")
	tenantFlag(c, &tenant)
	c.Flags().BoolVar(&system, "system", false, "the rows of no tenant")
	c.Flags().BoolVar(&all, "all", false, "the rows of all tenants, and of none")
	c.MarkFlagsMutuallyExclusive("tenant", "system", "all")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// pruned are the tenants that are asked for; number 0 is none.
func pruned(ctx context.Context, d desk, tenant string, all, system bool) ([]store.Tenant, error) {
	switch {
	case system:
		return []store.Tenant{{}}, nil
	case !all:
		t, err := d.tenant(ctx, tenant)
		return []store.Tenant{t}, err
	}
	ids, err := d.AuditTenants(ctx)
	if err != nil {
		return nil, err
	}
	names, err := tenantNames(ctx, d)
	if err != nil {
		return nil, err
	}
	out := make([]store.Tenant, 0, len(ids))
	for _, id := range ids {
		name := names[id]
		if name == "" && id != 0 { // a tenant that was deleted
			name = fmt.Sprintf("number %d", id)
		}
		out = append(out, store.Tenant{ID: id, Name: name})
	}
	return out, nil
}

func pruneTenant(ctx context.Context, p *process, d desk, t store.Tenant, before time.Time) (int64, error) {
	shown := newProgress(p.stderr)
	defer shown.end()
	for rows := int64(0); ; {
		n, _, err := d.PruneAudit(ctx, d.by, t.ID, before)
		rows += n
		switch {
		case err != nil && rows > 0:
			return rows, fmt.Errorf("%w (%s went before that)", err, count(int(rows), "row"))
		case err != nil:
			return 0, err
		case n == 0:
			return rows, nil
		}
		shown.show(fmt.Sprintf("%d rows are gone", rows), 0, 0)
	}
}

func printPruned(p *process, out prunedJSON, asJSON bool) error {
	if asJSON {
		return printJSON(p.stdout, out)
	}
	of := "tenant " + out.Tenant
	if out.Tenant == "" {
		of = "no tenant"
	}
	_, err := fmt.Fprintf(p.stdout, "pruned %s of %s from before %s\n", count(int(out.Rows), "row"), of, showTime(out.Before, ""))
	return err
}
