package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/config"
	"portcullis/internal/duration"
	"portcullis/internal/input"
	"portcullis/internal/store"
)

// desk is an open store as a command on the host works on it: beside whatever
// serves from it.
type desk struct {
	store.Store
	by          store.Actor
	strictUsers bool // of the tenants that the command makes
	strictInput bool // refuse SQL keywords in what the command makes
}

// withStore opens the store that the settings name, gives it to work, and closes
// it.
func withStore(p *process, cmd *cobra.Command, work func(ctx context.Context, d desk) error) error {
	return withSettings(p, cmd, func(ctx context.Context, cfg *config.Config, d desk) error {
		if err := warnInClear(ctx, p, cfg, d); err != nil {
			return err
		}
		return work(ctx, d)
	})
}

// withSettings is withStore for work that looks at the settings itself.
func withSettings(p *process, cmd *cobra.Command, work func(ctx context.Context, cfg *config.Config, d desk) error) error {
	cfg, err := p.settings(cmd)
	if err != nil {
		return err
	}
	return withOpenStore(p, cmd.Context(), cfg, func(ctx context.Context, d desk) error { return work(ctx, cfg, d) })
}

// withOpenStore is withStore for a command that has its settings already.
func withOpenStore(p *process, ctx context.Context, cfg *config.Config, work func(ctx context.Context, d desk) error) (err error) {
	if err := p.printTransport(cfg); err != nil {
		return err
	}
	s, err := openStore(ctx, cfg, p.quietLogger(cfg))
	if err != nil {
		return err
	}
	defer func() {
		if closing := s.Close(); err == nil && closing != nil {
			err = unavailablef("close the store: %w", closing)
		}
	}()
	return work(ctx, desk{Store: s, by: store.Actor{Name: "cli"}, strictUsers: cfg.StrictUsersDefault, strictInput: cfg.StrictInput})
}

// tenant finds a tenant by name.
func (d desk) tenant(ctx context.Context, name string) (store.Tenant, error) {
	if err := checkTenantName(name); err != nil {
		return store.Tenant{}, usagef("--tenant: %w", err)
	}
	t, err := d.TenantByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return t, refusedf("--tenant: there is no tenant %q (see `portcullis tenant list`; `portcullis key new` makes one)", name)
	}
	return t, err
}

// strictly refuses a text that holds an SQL keyword, where AUTH_STRICT_INPUT asks for
// it. Only what makes something asks: what is there can always be listed and removed.
func (d desk) strictly(flag, text string) error {
	if keyword := input.SQLKeyword(text); d.strictInput && keyword != "" {
		return usagef("--%s: holds the SQL keyword %s as a word, which AUTH_STRICT_INPUT refuses: join it to another word with _", flag, keyword)
	}
	return nil
}

// tenantFlag is the --tenant of every command about a tenant.
func tenantFlag(c *cobra.Command, tenant *string) {
	c.Flags().StringVar(tenant, "tenant", store.DefaultTenant, "the tenant")
}

// writeFlags are the flags of every command that writes.
type writeFlags struct {
	json bool
	wait lifetime
}

const defaultWait = 10 * time.Second

func (f *writeFlags) add(c *cobra.Command) {
	addJSONFlag(c, &f.json)
	waitFlag(c, &f.wait)
}

// waitFlag is the --wait of every command that writes.
func waitFlag(c *cobra.Command, wait *lifetime) {
	c.Flags().Var(wait, "wait", "return only once every live sidecar has applied the change; exit 3 if that takes longer")
	c.Flags().Lookup("wait").NoOptDefVal = duration.Format(defaultWait)
}

// written is the answer of a command that wrote, in JSON.
type written struct {
	Tenant   string `json:"tenant"`
	Outcome  string `json:"outcome"` // done or unchanged
	Revision int64  `json:"revision"`
	Tag      string `json:"tag"`
	Applied  bool   `json:"applied,omitempty"` // --wait: every live sidecar has it
}

// report says what a write did, and waits for the sidecars where it was asked to.
// done and unchanged are the sentences for people.
func (f *writeFlags) report(ctx context.Context, p *process, d desk, tenant string, r store.Result, done, unchanged string) error {
	answer := written{Tenant: tenant, Outcome: "done", Revision: r.Revision.Number, Tag: r.Revision.Tag.String()}
	sentence := done
	if r.Outcome == store.OutcomeUnchanged {
		answer.Outcome, sentence = "unchanged", unchanged
	}
	sidecars := 0
	var late error
	if f.wait != 0 {
		sidecars, late = waitApplied(ctx, d, r.Revision.Number, time.Duration(f.wait))
		answer.Applied = late == nil
	}
	if f.json {
		if err := printJSON(p.stdout, answer); err != nil {
			return err
		}
		return late
	}
	note := ""
	if f.wait != 0 && late == nil {
		note = fmt.Sprintf(", applied by %s", count(sidecars, "live sidecar"))
	}
	fmt.Fprintf(p.stdout, "%s (revision %d%s)\n", sentence, r.Revision.Number, note)
	return late
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
