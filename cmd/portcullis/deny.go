package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/config"
	"portcullis/internal/duration"
	"portcullis/internal/store"
	"portcullis/policy"
)

func newDenyCommand(p *process) *cobra.Command {
	return newGroupCommand("deny", "Deny tokens before they expire",
		`The deny-list refuses tokens that would be valid otherwise: one by its jti, all of
a principal's that were issued up to a moment, or all that a key signed. The gate
and the admin API refuse them, cached ones too, as soon as they have heard of it.
An entry stands until the last token that it refuses has expired.`,
		newDenyTokenCommand(p), newDenySubjectCommand(p), newDenyKeyCommand(p), newDenyListCommand(p), newDenyRemoveCommand(p))
}

// longestDenial is how long an entry may stand, as with the API.
const longestDenial = 366 * day

// denyFlags are the flags of every command that adds an entry.
type denyFlags struct {
	issuer string
	lasts  lifetime
	writeFlags
}

func (f *denyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.issuer, "issuer", "", "the `iss` of the tokens (default: AUTH_JWT_ISSUER, our own)")
	c.Flags().Var(&f.lasts, "for", "how long the entry stands: until the last token that it refuses has expired (default: 1d1m for our own tokens, 366d for others)")
	f.writeFlags.add(c)
}

// defaultDenial is how long an entry stands where nobody says: our own tokens live a
// day at most, and those of others for as long as the policy admits, which is up to
// a year.
func defaultDenial(own, issuer string) time.Duration {
	if issuer == own || issuer == "" {
		return store.OwnTokenReach
	}
	return longestDenial
}

// deny adds the entry that fill makes.
func (f *denyFlags) deny(p *process, c *cobra.Command, tenant, sentence string, fill func(cfg *config.Config, d *store.NewDenial)) error {
	if time.Duration(f.lasts) > longestDenial {
		return usagef("--for: %s is more than 366d", duration.Format(time.Duration(f.lasts)))
	}
	if f.issuer != "" && checkIssuer(f.issuer) != nil {
		return usagef("--issuer: %w", checkIssuer(f.issuer))
	}
	cfg, err := p.settings(c)
	if err != nil {
		return err
	}
	return withOpenStore(p, c.Context(), cfg, func(ctx context.Context, d desk) error {
		entry := store.NewDenial{Issuer: cfg.JWTIssuer}
		if c.Flags().Changed("issuer") {
			entry.Issuer = f.issuer
		}
		lasts := time.Duration(f.lasts)
		if lasts == 0 {
			lasts = defaultDenial(cfg.JWTIssuer, entry.Issuer)
		}
		entry.Expires = time.Now().Add(lasts)
		if tenant != "" {
			t, err := d.tenant(ctx, tenant)
			if err != nil {
				return err
			}
			entry.Tenant, d.by.Tenant = t.ID, t.ID
		}
		fill(cfg, &entry)
		d.by.Ack = f.wait != 0
		made, r, err := d.Deny(ctx, d.by, entry)
		if err != nil {
			return err
		}
		return f.report(ctx, p, d, tenant, r,
			fmt.Sprintf("%s are denied until %s: entry %d", sentence, showTime(made.Expires, ""), made.ID),
			fmt.Sprintf("%s were denied already, until %s: entry %d", sentence, showTime(made.Expires, ""), made.ID))
	})
}

// checkTokenWord admits what a token may carry as its jti or kid, checkIssuer what as
// its iss.
func checkTokenWord(s string) error { return checkPrintable(s, 256) }
func checkIssuer(s string) error    { return checkPrintable(s, 1024) }

func checkPrintable(s string, most int) error {
	good := s != "" && len(s) <= most
	for i := 0; good && i < len(s); i++ {
		good = s[i] >= ' ' && s[i] < 0x7f
	}
	if !good {
		return fmt.Errorf("%q will not do: use 1 to %d printable ASCII characters", shorten(s), most)
	}
	return nil
}

func newDenyTokenCommand(p *process) *cobra.Command {
	var tenant, jti string
	var flags denyFlags
	c := &cobra.Command{
		Use:   "token [JTI]",
		Short: "Deny one token by its jti",
		Long: `Denies the token that has this jti. ` + "`portcullis token inspect`" + ` shows the jti of a
token at hand.`,
		Example: "  portcullis deny token --tenant acme --jti 5f0c1d6e --wait",
		Args:    named(arg{"jti", &jti, checkTokenWord}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.deny(p, cmd, tenant, fmt.Sprintf("tokens of tenant %q with jti %q", tenant, jti), func(_ *config.Config, d *store.NewDenial) {
				d.Kind, d.Value = store.DenyToken, jti
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&jti, "jti", "", "the token's `jti`")
	flags.add(c)
	p.addSettings(c, tokenStoreSettings)
	return c
}

func newDenySubjectCommand(p *process) *cobra.Command {
	var tenant, id, before string
	var flags denyFlags
	kind := kindFlag(policy.KindUser)
	c := &cobra.Command{
		Use:   "subject [ID]",
		Short: "Deny a principal's tokens that were issued up to now",
		Long: `Denies every token of the principal that was issued at or before a moment, and
those that do not say when they were issued. A user's refresh tokens end with it.
Tokens that are issued later are admitted: what the principal may do is decided by
its roles (` + "`portcullis member remove`" + `).`,
		Example: `  portcullis deny subject amy --tenant acme --wait
  portcullis deny subject --id amy --before 2026-01-02T15:04:05Z --issuer https://id.example.com`,
		Args: named(arg{"id", &id, checkPrincipalID}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			until := time.Now()
			if before != "" {
				var err error
				if until, err = time.Parse(time.RFC3339, before); err != nil {
					return usagef("--before: %q is no time: write it like 2026-01-02T15:04:05Z", shorten(before))
				}
				if until.After(time.Now().Add(store.TokenSkew)) {
					return usagef("--before: %s is to come: tokens that are not issued yet cannot be denied", before)
				}
			}
			if policy.Kind(kind) != policy.KindUser && cmd.Flags().Changed("issuer") {
				return usagef("--issuer: tokens of clients and workloads are our own alone: leave it out")
			}
			sentence := fmt.Sprintf("tokens of %s %q of tenant %q from before %s", kind.String(), id, tenant, showTime(until, ""))
			return flags.deny(p, cmd, tenant, sentence, func(_ *config.Config, d *store.NewDenial) {
				d.Kind, d.Value, d.Principal, d.Before = store.DenySubject, id, policy.Kind(kind), until
				if d.Principal != policy.KindUser {
					d.Issuer = ""
				}
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&id, "id", "", "the principal's `id`")
	c.Flags().Var(&kind, "kind", "what sort of caller: user, client or workload")
	c.Flags().StringVar(&before, "before", "", "tokens issued at or before this `time` (default: now)")
	flags.add(c)
	p.addSettings(c, tokenStoreSettings)
	return c
}

func newDenyKeyCommand(p *process) *cobra.Command {
	var kid string
	var flags denyFlags
	c := &cobra.Command{
		Use:   "key [KID]",
		Short: "Deny every token that a key signed, in every tenant",
		Long: `Denies every token that this key of an issuer signed, in every tenant. For a key of
our own that others may know, use ` + "`portcullis rotate signing --withdraw`" + `, which
does this as well. Let the entry stand for as long as the key is not replaced at
its issuer.`,
		Example: "  portcullis deny key 2024-01 --issuer https://id.example.com --for 30d --wait",
		Args:    named(arg{"kid", &kid, checkTokenWord}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.deny(p, cmd, "", fmt.Sprintf("tokens that key %q signed", kid), func(_ *config.Config, d *store.NewDenial) {
				d.Kind, d.Value = store.DenyKey, kid
			})
		},
	}
	c.Flags().StringVar(&kid, "kid", "", "the key's `kid`")
	flags.add(c)
	p.addSettings(c, tokenStoreSettings)
	return c
}

// denialJSON is an entry in JSON.
type denialJSON struct {
	ID      int64      `json:"id"`
	Type    string     `json:"type"` // token, subject or key
	Issuer  string     `json:"issuer"`
	Value   string     `json:"value"`          // jti, kid or the principal's id
	Kind    string     `json:"kind,omitempty"` // of a subject
	Before  *time.Time `json:"before,omitempty"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
}

// denyScope is whose list a command is about.
type denyScope struct {
	tenant string
	keys   bool
}

func (s *denyScope) add(c *cobra.Command) {
	tenantFlag(c, &s.tenant)
	c.Flags().BoolVar(&s.keys, "keys", false, "the entries of signing keys, which belong to no tenant")
	c.MarkFlagsMutuallyExclusive("tenant", "keys")
}

func (s *denyScope) id(ctx context.Context, d desk) (store.TenantID, error) {
	if s.keys {
		return 0, nil
	}
	t, err := d.tenant(ctx, s.tenant)
	return t.ID, err
}

// name is the tenant's in JSON, "" for signing keys.
func (s *denyScope) name() string {
	if s.keys {
		return ""
	}
	return s.tenant
}

func newDenyListCommand(p *process) *cobra.Command {
	var of denyScope
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List what is denied and has not expired",
		Long: `Lists the entries of a tenant, or of signing keys. UNTIL is when an entry ends by
itself.`,
		Example: "  portcullis deny list --tenant acme\n  portcullis deny list --keys --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				tenant, err := of.id(ctx, d)
				if err != nil {
					return err
				}
				out := []denialJSON{}
				var rows [][]string
				for after := int64(0); ; {
					page, err := d.DenialList(ctx, tenant, after, denialPage)
					if err != nil {
						return err
					}
					for i := range page {
						e := &page[i]
						about := denialJSON{
							ID: e.ID, Type: e.Kind.String(), Issuer: e.Issuer, Value: e.Value, Kind: e.Principal.String(),
							Before: jsonTime(e.Before), Created: e.Created.UTC(), Expires: e.Expires.UTC(),
						}
						out = append(out, about)
						rows = append(rows, []string{strconv.FormatInt(e.ID, 10), about.Type, about.Kind, e.Value, e.Issuer, showTime(e.Before, ""), showTime(e.Expires, "")})
						after = e.ID
					}
					if len(page) < denialPage {
						break
					}
				}
				if asJSON {
					return printJSON(p.stdout, out)
				}
				return printTable(p.stdout, []string{"ENTRY", "DENIES", "KIND", "VALUE", "ISSUER", "ISSUED BEFORE", "UNTIL"}, rows)
			})
		},
	}
	of.add(c)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// denialPage is how many entries are read at once.
const denialPage = 500

func newDenyRemoveCommand(p *process) *cobra.Command {
	var of denyScope
	var entry string
	var flags writeFlags
	c := &cobra.Command{
		Use:   "remove [ENTRY]",
		Short: "Take an entry away: what it denied is valid again",
		Long: `Takes an entry away, by the number that ` + "`portcullis deny list`" + ` shows. What it
denied is admitted again, unless it has expired.`,
		Example: "  portcullis deny remove 17 --tenant acme --wait",
		Args:    named(arg{"entry", &entry, checkEntry}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				tenant, err := of.id(ctx, d)
				if err != nil {
					return err
				}
				id, err := strconv.ParseInt(entry, 10, 64)
				if err != nil {
					return usagef("--entry: %w", checkEntry(entry))
				}
				d.by.Tenant, d.by.Ack = tenant, flags.wait != 0
				r, err := d.Allow(ctx, d.by, tenant, id)
				if errors.Is(err, store.ErrNotFound) {
					return refusedf("--entry: there is no entry %d there (see `portcullis deny list`)", id)
				}
				if err != nil {
					return err
				}
				return flags.report(ctx, p, d, of.name(), r, fmt.Sprintf("entry %d is taken away", id), fmt.Sprintf("entry %d was not there", id))
			})
		},
	}
	of.add(c)
	c.Flags().StringVar(&entry, "entry", "", "the entry's `number`, as `portcullis deny list` shows it")
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}

func checkEntry(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 1 {
		return fmt.Errorf("%q is no entry's number: use one that `portcullis deny list` shows", shorten(s))
	}
	return nil
}
