package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

func newUserKeyCommand(p *process) *cobra.Command {
	return newGroupCommand("user-key", "User API keys: secrets of people",
		`A user API key is the secret of one user of one tenant: at the gate, whoever sends
it in x-api-key or as a Bearer token is that user, and the user's roles decide. A
user may have 25 active ones at once.`,
		newUserKeyNewCommand(p), newUserKeyListCommand(p), newUserKeyRevokeCommand(p))
}

// userFlag is the --user of the commands about one user's keys.
func userFlag(c *cobra.Command, user *string) {
	c.Flags().StringVar(user, "user", "", "the user's `id`, as tokens name it")
}

// checkLabel admits what the API admits.
func checkLabel(s string) error {
	good := len(s) <= 64
	for i := 0; good && i < len(s); i++ {
		c := s[i]
		good = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(" _.-", c) >= 0
	}
	if !good {
		return fmt.Errorf("%q will not do: use 1 to 64 letters, digits, spaces and _ . -", shorten(s))
	}
	return nil
}

func checkUserKeyID(s string) error {
	if _, ok := identity.ParseClientKey([]byte(s)); !ok {
		return fmt.Errorf("%q is no key id: use one that `portcullis user-key list` shows", shorten(s))
	}
	return nil
}

func newUserKeyNewCommand(p *process) *cobra.Command {
	var tenant, user, label string
	var expires, wait lifetime
	var asJSON bool
	c := &cobra.Command{
		Use:   "new [USER]",
		Short: "Make a user's API key and print its secret once",
		Long: `Makes an API key of a user and prints its secret, alone, on standard output. It is
shown this once: the store keeps a digest. What else there is to say goes to
standard error. The user need not be known yet: a key gives nobody a role.`,
		Example: `  portcullis user-key new --tenant acme --user amy --label laptop --expires 90d
  portcullis user-key new amy > amy.key      # the file holds the secret and nothing else`,
		Args: named(arg{"user", &user, checkPrincipalID}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLabel(label); err != nil {
				return usagef("--label: %w", err)
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if err := cmp.Or(d.strictly("user", user), d.strictly("label", label)); err != nil {
					return err
				}
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				d.by.Tenant, d.by.Ack = t.ID, wait != 0
				secret := identity.NewUserKey()
				key, r, err := d.CreateUserKey(ctx, d.by, store.NewUserKey{
					Tenant: t.ID, User: user, Digest: identity.UserKeyDigest(secret[:]), Prefix: string(secret[:identity.UserKeyShown]),
					Label: label, Expires: expires.expiry(time.Now()),
				})
				if errors.Is(err, store.ErrKeyCap) {
					return refusedf("user %q of tenant %q has %d active keys, the most there may be: revoke one first (see `portcullis user-key list --tenant %[2]s --user %[1]s`)",
						user, tenant, store.MaxUserKeys)
				}
				if err != nil {
					return err
				}
				if err := printNewUserKey(p, t, key, string(secret[:]), r, asJSON); err != nil || wait == 0 {
					return err
				}
				_, err = waitApplied(ctx, d, r.Revision.Number, time.Duration(wait))
				return err
			})
		},
	}
	tenantFlag(c, &tenant)
	userFlag(c, &user)
	c.Flags().StringVar(&label, "label", "", "what the key is for, in `words`")
	c.Flags().Var(&expires, "expires", "for how long it opens anything, such as 90d (default: until it is revoked)")
	waitFlag(c, &wait)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

type newUserKeyJSON struct {
	Secret   string  `json:"secret"`
	Tenant   string  `json:"tenant"`
	User     string  `json:"user"`
	Revision int64   `json:"revision"`
	Key      userKey `json:"key"`
}

func printNewUserKey(p *process, t store.Tenant, key store.UserKey, secret string, r store.Result, asJSON bool) error {
	if asJSON {
		return printJSON(p.stdout, newUserKeyJSON{secret, t.Name, key.User, r.Revision.Number, describeUserKey(key, time.Now())})
	}
	fmt.Fprintf(p.stderr, "key %s of user %q of tenant %q, expires %s (revision %d); the secret is shown this once:\n",
		key.ID, key.User, t.Name, showTime(key.Expires, "never"), r.Revision.Number)
	if !t.Admitted {
		fmt.Fprintf(p.stderr, "tenant %q is not admitted: the key matches no rule at the gate\n", t.Name)
	}
	if _, err := fmt.Fprintln(p.stdout, secret); err != nil {
		return unavailablef("write the secret: %w: it is lost: run `portcullis user-key revoke --tenant %s --user %s --id %s` and make another", err, t.Name, key.User, key.ID)
	}
	return nil
}

// userKey is a user's API key in JSON. It holds nothing that opens anything.
type userKey struct {
	ID       string     `json:"key_id"`
	State    string     `json:"state"` // live, expired or revoked
	Prefix   string     `json:"prefix"`
	Label    string     `json:"label"`
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires"`
	Revoked  *time.Time `json:"revoked"`
	LastUsed *time.Time `json:"last_used"`
}

func describeUserKey(k store.UserKey, now time.Time) userKey {
	out := userKey{
		ID: k.ID, State: "live", Prefix: k.Prefix, Label: k.Label, Created: k.Created.UTC(),
		Expires: jsonTime(k.Expires), Revoked: jsonTime(k.Revoked), LastUsed: jsonTime(k.LastUsed),
	}
	switch {
	case !k.Revoked.IsZero():
		out.State = "revoked"
	case !k.Active(now):
		out.State = "expired"
	}
	return out
}

func newUserKeyListCommand(p *process) *cobra.Command {
	var tenant, user string
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [USER]",
		Short: "List a user's API keys",
		Long: `Lists a user's API keys, live ones and former ones, the oldest first. PREFIX is how
the secret begins. LAST USED is written in batches and lags by some seconds.`,
		Example: "  portcullis user-key list --tenant acme --user amy\n  portcullis user-key list amy --json",
		Args:    named(arg{"user", &user, checkPrincipalID}),
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
				keys, err := d.UserKeyList(ctx, t.ID, user)
				if err != nil {
					return err
				}
				now := time.Now()
				out := make([]userKey, 0, len(keys))
				rows := make([][]string, 0, len(keys))
				for _, k := range keys {
					about := describeUserKey(k, now)
					out = append(out, about)
					rows = append(rows, []string{k.ID, about.State, k.Prefix + "...", k.Label,
						showTime(k.Created, ""), showTime(k.Expires, "never"), showTime(k.LastUsed, "never")})
				}
				if asJSON {
					return printJSON(p.stdout, out)
				}
				return printTable(p.stdout, []string{"ID", "STATE", "PREFIX", "LABEL", "CREATED", "EXPIRES", "LAST USED"}, rows)
			})
		},
	}
	tenantFlag(c, &tenant)
	userFlag(c, &user)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

func newUserKeyRevokeCommand(p *process) *cobra.Command {
	var tenant, user, id string
	var flags writeFlags
	c := &cobra.Command{
		Use:   "revoke [USER] [ID]",
		Short: "Revoke one API key of a user",
		Long: `Revokes one API key of a user, by the id that list shows. The user's other keys and
roles stay. It cannot be undone. In a tenant with strict users, a user whose last
active key is revoked may do nothing any more.`,
		Example: "  portcullis user-key revoke --tenant acme --user amy --id 6f9619ff-8b86-4011-b42d-00c04fc964ff --wait",
		Args:    named(arg{"user", &user, checkPrincipalID}, arg{"id", &id, checkUserKeyID}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			id = strings.ToLower(id)
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				d.by.Tenant, d.by.Ack = t.ID, flags.wait != 0
				r, err := d.RevokeUserKey(ctx, d.by, t.ID, user, id)
				if errors.Is(err, store.ErrNotFound) {
					return refusedf("--id: user %q of tenant %q has no key %s (see `portcullis user-key list --tenant %[2]s --user %[1]s`)", user, tenant, id)
				}
				if err != nil {
					return err
				}
				return flags.report(ctx, p, d, tenant, r,
					fmt.Sprintf("key %s of user %q of tenant %q revoked", id, user, tenant),
					fmt.Sprintf("key %s of user %q of tenant %q was revoked already", id, user, tenant))
			})
		},
	}
	tenantFlag(c, &tenant)
	userFlag(c, &user)
	c.Flags().StringVar(&id, "id", "", "the key's `id`")
	flags.add(c)
	p.addSettings(c, storeSettings)
	return c
}
