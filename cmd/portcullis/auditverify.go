package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/chain"
	"portcullis/internal/store"
)

const auditVerifyLong = `Checks that the audit is what was written: every row of every tenant, from where its
chain begins to its end, while writes go on. A row that was edited, removed, moved,
or written by other hands is named, with its id and its number in the chain. The
process needs the key that the chain's secret is under: AUTH_AUDIT_KEY, else
AUTH_ENCRYPTION_KEY.

What the database alone cannot tell is a tail that was cut off, cleanly, with the
chain's end set back to it. --checkpoint does: FILE has signed checkpoints, one JSON
object a line, as ` + "`portcullis audit checkpoint`" + ` prints them, or the log of admin
processes, which has one a minute for each chain that moved; its other lines are
passed over. Keep either where the database's writers cannot write.

The exit code is 0 where all is well, and 1 where something was found, or where the
audit is in no chain.`

// auditVerifyJSON is the last line of --json; the lines before it are faults.
type auditVerifyJSON struct {
	Event       string  `json:"event"`     // verified
	Recording   bool    `json:"recording"` // false: the audit is off
	Chained     bool    `json:"chained"`   // false: nothing can be verified
	Tenants     int64   `json:"tenants"`   // the rows of no tenant count as one
	Rows        int64   `json:"rows"`
	Faults      int64   `json:"faults"`
	Checkpoints int     `json:"checkpoints"` // that were in the file
	Seconds     float64 `json:"seconds"`
	Rate        float64 `json:"rows_per_second"`
}

// auditFaultJSON is a fault.
type auditFaultJSON struct {
	Event  string          `json:"event"`  // fault
	Tenant string          `json:"tenant"` // "" for the rows of none
	ID     int64           `json:"tenant_id"`
	Kind   chain.FaultKind `json:"kind"`
	Row    int64           `json:"row"`    // 0 where there is none to name
	Number int64           `json:"number"` // in the chain, 0 for none
	Detail string          `json:"detail"`
}

func newAuditVerifyCommand(p *process) *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Find what was edited, removed or reordered in the audit",
		Long:  auditVerifyLong,
		Example: `  portcullis audit verify
  portcullis audit verify --checkpoint /var/log/portcullis.jsonl
  portcullis audit verify --checkpoint - --json < checkpoints.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var points []chain.Checkpoint
			if file != "" {
				var err error
				if points, err = readCheckpointFile(p, file); err != nil {
					return usagef("--checkpoint: %w", err)
				}
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				return verifyAudit(ctx, p, d, points, file != "", asJSON)
			})
		},
	}
	c.Flags().StringVar(&file, "checkpoint", "", "the `file` with the checkpoints that were kept; - is standard input")
	c.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON for each fault and one at the end, for scripts")
	p.addSettings(c, storeSettings)
	return c
}

func verifyAudit(ctx context.Context, p *process, d desk, points []chain.Checkpoint, given, asJSON bool) error {
	state, err := d.AuditState(ctx)
	if err != nil {
		return err
	}
	names, err := tenantNames(ctx, d)
	if err != nil {
		return err
	}
	about, err := rowsToVerify(ctx, d)
	if err != nil {
		return err
	}
	var told error
	began, shown := time.Now(), newProgress(p.stderr)
	done, err := store.VerifyAudit(ctx, d.Store, store.Verification{
		Points: points,
		Found: func(f chain.Fault) {
			shown.end()
			told = errors.Join(told, printFault(p, f, names, asJSON))
		},
		Rows: func(n int64) {
			shown.show(fmt.Sprintf("verified %d of about %d rows (%d%%), %.0f rows/s", n, max(n, about), percent(n, max(n, about)), perSecond(n, began)), 0, 0)
		},
	})
	shown.end()
	unchained := errors.Is(err, store.ErrChain) && !state.Chained
	if err != nil && !unchained {
		return err
	}
	out := auditVerifyJSON{
		Event: "verified", Recording: state.Enabled, Chained: !unchained, Tenants: done.Tenants, Rows: done.Rows, Faults: done.Faults, Checkpoints: len(points),
		Seconds: round(time.Since(began).Seconds()), Rate: round(perSecond(done.Rows, began)),
	}
	switch {
	case told != nil:
		return unavailablef("write the answer: %w", told)
	case asJSON:
		if err := printJSON(p.stdout, out); err != nil {
			return err
		}
	case unchained:
		return &failure{code: exitNo, err: err}
	default:
		printVerified(p, out, given)
	}
	if unchained || out.Faults > 0 {
		return answerNo()
	}
	return nil
}

func printVerified(p *process, out auditVerifyJSON, given bool) {
	what := fmt.Sprintf("%s of %s in %.1f s, %.0f rows/s", count(int(out.Rows), "row"), count(int(out.Tenants), "chain"), out.Seconds, out.Rate)
	if out.Faults > 0 {
		fmt.Fprintf(p.stdout, "verified %s: %s\n", what, count(int(out.Faults), "fault"))
		return
	}
	fmt.Fprintf(p.stdout, "verified %s: all is as it was written\n", what)
	if !out.Recording {
		fmt.Fprintln(p.stderr, "warning: the audit is off: what is done now is not recorded (AUTH_ENABLE_AUDIT_LOGGING)")
	}
	if !given {
		fmt.Fprintln(p.stderr, "a tail that was cut off cleanly shows by a checkpoint alone: --checkpoint names a file of them")
	}
}

func printFault(p *process, f chain.Fault, names map[store.TenantID]string, asJSON bool) error {
	id := store.TenantID(f.Tenant)
	if asJSON {
		return printJSON(p.stdout, auditFaultJSON{"fault", names[id], f.Tenant, f.Kind, f.Row, f.Number, f.Detail})
	}
	where := "tenant " + names[id]
	switch {
	case id == 0:
		where = "of no tenant"
	case names[id] == "":
		where = fmt.Sprintf("tenant number %d", id)
	}
	if f.Row != 0 {
		where += fmt.Sprintf(", row %d", f.Row)
	}
	_, err := fmt.Fprintf(p.stdout, "%s: %s: %s\n", where, f.Kind, f.Detail)
	return err
}

// rowsToVerify is about how many rows there are, told from the ends of the chains.
func rowsToVerify(ctx context.Context, s store.AuditChains) (int64, error) {
	heads, err := s.ChainHeads(ctx)
	if err != nil {
		return 0, err
	}
	var rows int64
	for _, h := range heads {
		rows += h.Number
	}
	tenants, err := s.AuditTenants(ctx)
	if err != nil {
		return 0, err
	}
	for _, t := range tenants {
		anchor, _, err := s.ChainAnchor(ctx, t)
		if err != nil {
			return 0, err
		}
		if anchor != nil {
			rows += anchor.Rows - anchor.Number
		}
	}
	return max(rows, 0), nil
}

// tenantNames are the names of all tenants by id.
func tenantNames(ctx context.Context, d desk) (map[store.TenantID]string, error) {
	tenants, err := d.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[store.TenantID]string, len(tenants))
	for _, t := range tenants {
		names[t.ID] = t.Name
	}
	return names, nil
}

func perSecond(n int64, since time.Time) float64 {
	took := time.Since(since).Seconds()
	if took <= 0 {
		return 0
	}
	return float64(n) / took
}
