package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

func newKeyCommand(p *process) *cobra.Command {
	return newGroupCommand("key", "Client keys: secrets of programs",
		`A client key is the secret of a program: at the gate it is the principal
client:NAME of its tenant, and on the admin API it may do what its scopes say.
Several secrets may be live under one name, so that a new one can be handed out
before the old one is revoked.`,
		newKeyNewCommand(p), newKeyListCommand(p), newKeyRotateCommand(p), newKeyRevokeCommand(p), newKeyEncryptionCommand(p))
}

const keyNewLong = `Makes a client key and prints its secret, alone, on standard output. It is shown
this once: the store keeps a digest. What else there is to say goes to standard
error. A tenant that is not there is made, admitted, with strict users if
AUTH_STRICT_USERS_DEFAULT says so.

Scopes, of the admin API:
  check     permission checks
  manage    checks, listings, roles, memberships, settings
  keys      client and user keys
  tokens    mint tokens for users
  audit     read the audit
  operator  across tenants; no key can give it away, it is made here alone

At the gate a key needs no scope: there it is a principal, and its roles decide.

The command returns once every live sidecar knows the key, or after two seconds
with a word about those that do not; --wait makes that a condition.`

func newKeyNewCommand(p *process) *cobra.Command {
	var tenant, name string
	var scopes []string
	var expires, rotateAfter, wait lifetime
	var asJSON bool
	c := &cobra.Command{
		Use:   "new [NAME]",
		Short: "Make a client key and print its secret once",
		Long:  keyNewLong,
		Example: `  portcullis key new --tenant acme --name ci --scopes check,manage --expires 90d
  portcullis key new --name ci > ci.key      # the file holds the secret and nothing else`,
		Args: named(arg{"name", &name, checkKeyName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTenantName(tenant); err != nil {
				return usagef("--tenant: %w", err)
			}
			wanted, err := parseScopes(scopes)
			if err != nil {
				return usagef("--scopes: %w", err)
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if err := cmp.Or(d.strictly("tenant", tenant), d.strictly("name", name)); err != nil {
					return err
				}
				t, made, err := d.ensureTenant(ctx, tenant)
				if err != nil {
					return err
				}
				d.by.Tenant, d.by.Ack = t.ID, true
				secret := identity.NewClientKey()
				key, r, err := d.CreateKey(ctx, d.by, store.NewKey{
					Tenant: t.ID, Name: name, Digest: identity.KeyDigest(secret), Prefix: string(secret[:8]),
					Scopes: wanted, Expires: expires.expiry(time.Now()), RotateAt: rotateAfter.expiry(time.Now()),
				})
				if err != nil {
					return err
				}
				if err := printNewKey(p, t, made, key, string(secret[:]), r, asJSON); err != nil {
					return err
				}
				return settle(ctx, p, d, r.Revision.Number, time.Duration(wait))
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&name, "name", "", "the client's `name`, its id as a principal")
	c.Flags().StringSliceVar(&scopes, "scopes", []string{string(store.ScopeCheck)}, "what it may do on the admin API, comma-separated")
	c.Flags().Var(&expires, "expires", "for how long it opens anything, such as 90d (default: until it is revoked)")
	rotateAfterFlag(c, &rotateAfter)
	waitFlag(c, &wait)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, makeSettings)
	return c
}

// newKeyPatience is how long `key new` waits for sidecars that nobody asked it to
// wait for.
const newKeyPatience = 2 * time.Second

// settle waits until every live sidecar knows the new key, since the next command
// is likely to use it and would be told that it is bad. Without --wait that is as
// good as can be had in a moment, and a sidecar that is silent only gets a word.
func settle(ctx context.Context, p *process, d desk, revision int64, wait time.Duration) error {
	if wait != 0 {
		_, err := waitApplied(ctx, d, revision, wait)
		return err
	}
	if _, err := waitApplied(ctx, d, revision, newKeyPatience); err != nil {
		fmt.Fprintf(p.stderr, "the key may be refused for a moment: %v\n", err)
	}
	return nil
}

func parseScopes(words []string) ([]store.Scope, error) {
	known := make([]string, 0, len(store.AllScopes))
	for _, s := range store.AllScopes {
		known = append(known, string(s))
	}
	var out []store.Scope
	for _, w := range words {
		if w = strings.TrimSpace(w); !slices.Contains(known, w) {
			return nil, fmt.Errorf("%q is no scope: use %s", shorten(w), strings.Join(known, ", "))
		}
		if !slices.Contains(out, store.Scope(w)) {
			out = append(out, store.Scope(w))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("is empty: use one of %s", strings.Join(known, ", "))
	}
	return out, nil
}

// ensureTenant finds the tenant, or makes it, admitted.
func (d desk) ensureTenant(ctx context.Context, name string) (_ store.Tenant, made bool, err error) {
	t, err := d.TenantByName(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return t, false, err
	}
	t, _, err = d.CreateTenant(ctx, d.by, store.NewTenant{Name: name, Admitted: true, StrictUsers: d.strictUsers})
	if errors.Is(err, store.ErrExists) { // made by another process in between
		t, err = d.TenantByName(ctx, name)
		return t, false, err
	}
	return t, err == nil, err
}

type newKeyJSON struct {
	Secret        string    `json:"secret"`
	Tenant        string    `json:"tenant"`
	TenantCreated bool      `json:"tenant_created"`
	Revision      int64     `json:"revision"`
	Key           clientKey `json:"key"`
}

func printNewKey(p *process, t store.Tenant, made bool, key store.ClientKey, secret string, r store.Result, asJSON bool) error {
	if asJSON {
		return printJSON(p.stdout, newKeyJSON{secret, t.Name, made, r.Revision.Number, describeKey(key, time.Now())})
	}
	if made {
		strict := ""
		if t.StrictUsers {
			strict = ", with strict users"
		}
		fmt.Fprintf(p.stderr, "tenant %q was not there: made, and admitted%s\n", t.Name, strict)
	}
	fmt.Fprintf(p.stderr, "key %q of tenant %q: scopes %s, expires %s (revision %d); the secret is shown this once:\n",
		key.Name, t.Name, joinScopes(key.Scopes), showTime(key.Expires, "never"), r.Revision.Number)
	if !t.Admitted {
		fmt.Fprintf(p.stderr, "tenant %q is not admitted: the key matches no rule at the gate\n", t.Name)
	}
	if _, err := fmt.Fprintln(p.stdout, secret); err != nil {
		return unavailablef("write the secret: %w: it is lost: run `portcullis key revoke --tenant %s --name %s` and make another", err, t.Name, key.Name)
	}
	return nil
}

func joinScopes(scopes []store.Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}

// clientKey is a key in JSON. It holds nothing that opens anything.
type clientKey struct {
	Name     string        `json:"name"`
	State    string        `json:"state"` // live, expired or revoked
	Prefix   string        `json:"prefix"`
	Scopes   []store.Scope `json:"scopes"`
	Created  time.Time     `json:"created"`
	Expires  *time.Time    `json:"expires"`
	Revoked  *time.Time    `json:"revoked"`
	LastUsed *time.Time    `json:"last_used"`
	RotateAt *time.Time    `json:"rotate_at"` // when it is to be replaced; null: not planned
	Overdue  bool          `json:"overdue"`   // it is live, and that time has passed
}

func describeKey(k store.ClientKey, now time.Time) clientKey {
	out := clientKey{
		Name: k.Name, State: "live", Prefix: k.Prefix, Scopes: k.Scopes, Created: k.Created.UTC(),
		Expires: jsonTime(k.Expires), Revoked: jsonTime(k.Revoked), LastUsed: jsonTime(k.LastUsed),
		RotateAt: jsonTime(k.RotateAt),
	}
	switch {
	case !k.Revoked.IsZero():
		out.State = "revoked"
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		out.State = "expired"
	default:
		out.Overdue = !k.RotateAt.IsZero() && !now.Before(k.RotateAt)
	}
	return out
}

func newKeyListCommand(p *process) *cobra.Command {
	var tenant string
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List a tenant's client keys",
		Long: `Lists a tenant's client keys, live ones and former ones. PREFIX is how the secret
begins. LAST USED is written in batches and lags by some seconds. Keys that are live
past the date on which they were to be replaced are named on standard error.`,
		Example: "  portcullis key list --tenant acme\n  portcullis key list --tenant acme --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				// What sidecars have reported and no admin process has folded in yet.
				if err := d.FoldReports(ctx); err != nil {
					return err
				}
				keys, err := d.KeyList(ctx, t.ID)
				if err != nil {
					return err
				}
				now := time.Now()
				out := make([]clientKey, 0, len(keys))
				rows := make([][]string, 0, len(keys))
				for _, k := range keys {
					about := describeKey(k, now)
					out = append(out, about)
					rows = append(rows, []string{k.Name, about.State, k.Prefix + "...", joinScopes(k.Scopes),
						showTime(k.Created, ""), showTime(k.Expires, "never"), showTime(k.RotateAt, "not planned"), showTime(k.LastUsed, "never")})
					if about.Overdue {
						fmt.Fprintf(p.stderr, "key %q (%s...) was to be replaced by %s: run `portcullis key rotate %s --tenant %s --overlap 24h`\n",
							k.Name, k.Prefix, showTime(k.RotateAt, ""), k.Name, t.Name)
					}
				}
				if asJSON {
					return printJSON(p.stdout, out)
				}
				return printTable(p.stdout, []string{"NAME", "STATE", "PREFIX", "SCOPES", "CREATED", "EXPIRES", "ROTATE BY", "LAST USED"}, rows)
			})
		},
	}
	tenantFlag(c, &tenant)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

func newKeyRevokeCommand(p *process) *cobra.Command {
	var tenant, name string
	var flags writeFlags
	c := &cobra.Command{
		Use:   "revoke [NAME]",
		Short: "Revoke every secret of a client, and its memberships",
		Long: `Revokes every live secret of the name, and deletes the client's memberships, so
that a later client of that name begins with nothing. It cannot be undone.`,
		Example: "  portcullis key revoke --tenant acme --name ci --wait",
		Args:    named(arg{"name", &name, checkKeyName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				d.by.Tenant, d.by.Ack = t.ID, flags.wait != 0
				n, r, err := d.RevokeKeys(ctx, d.by, t.ID, name)
				if errors.Is(err, store.ErrNotFound) {
					return refusedf("--name: tenant %q never had a client key %q (see `portcullis key list --tenant %[1]s`)", tenant, name)
				}
				if err != nil {
					return err
				}
				return flags.report(ctx, p, d, tenant, r,
					fmt.Sprintf("client %q of tenant %q: %s revoked", name, tenant, count(n, "secret")),
					fmt.Sprintf("client %q of tenant %q had no live secret", name, tenant))
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&name, "name", "", "the client's `name`")
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}
