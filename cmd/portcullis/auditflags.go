package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/auditfilter"
	"portcullis/internal/store"
)

// auditFlags say whose audit a command reads, and which rows of it.
type auditFlags struct {
	tenant  string
	system  bool
	actions []string
}

const auditFlagsLong = `--action takes an action, such as ADD_MEMBERSHIP, or a verb for all of its
meaning: delete is every DELETE_ and REMOVE_ action. It may be repeated; a row
needs one of them. --since and --until take how long ago, such as 24h or 7d, or a
time such as 2026-01-02T15:04:05Z. --system reads what belongs to no tenant:
failed authentications, signing keys, encryption, the audit's own state.`

func (f *auditFlags) add(c *cobra.Command) {
	tenantFlag(c, &f.tenant)
	c.Flags().BoolVar(&f.system, "system", false, "the rows that belong to no tenant")
	c.MarkFlagsMutuallyExclusive("tenant", "system")
	c.Flags().StringArrayVar(&f.actions, auditfilter.FieldAction, nil, "only this `action`, or those of this verb: "+strings.Join(auditfilter.Verbs(), ", ")+"; repeatable")
	c.Flags().String(auditfilter.FieldEntity, "", "only what is about this `kind` of thing, such as role, membership or client_key")
	c.Flags().String(auditfilter.FieldSubject, "", "only what is about this `principal`: a user's id, client:ID or workload:ID")
	c.Flags().String(auditfilter.FieldActor, "", "only what this `actor` did, such as client:ci or cli")
	c.Flags().String(auditfilter.FieldOutcome, "", "only this `outcome`: done, unchanged, missing, denied or error")
	c.Flags().String(auditfilter.FieldSince, "", "only rows of this `time` and later")
	c.Flags().String(auditfilter.FieldUntil, "", "only rows before this `time`")
	c.Flags().Int64(auditfilter.FieldBefore, 0, "only rows with a smaller `id`: the next page of a listing")
}

// query reads the flags that were given, with one of the readers of auditfilter.
func (f *auditFlags) query(cmd *cobra.Command, read func(map[string][]string, time.Time) (store.AuditQuery, error)) (store.AuditQuery, error) {
	texts := map[string][]string{}
	for _, field := range []string{
		auditfilter.FieldEntity, auditfilter.FieldSubject, auditfilter.FieldActor, auditfilter.FieldOutcome, auditfilter.FieldSince,
		auditfilter.FieldUntil, auditfilter.FieldBefore, auditfilter.FieldLimit, auditfilter.FieldOffset,
	} {
		if cmd.Flags().Changed(field) {
			texts[field] = []string{cmd.Flags().Lookup(field).Value.String()}
		}
	}
	if slices.Contains(f.actions, "") {
		return store.AuditQuery{}, usagef("--action: it is empty: give an action, a verb, or leave it out")
	}
	texts[auditfilter.FieldAction] = f.actions
	q, err := read(texts, time.Now())
	if err != nil {
		return q, usagef("--%w", err)
	}
	return q, nil
}

// whose is the tenant that is read; 0 is none.
func (f *auditFlags) whose(ctx context.Context, d desk) (store.TenantID, error) {
	if f.system {
		return 0, nil
	}
	t, err := d.tenant(ctx, f.tenant)
	return t.ID, err
}
