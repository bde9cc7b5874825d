package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/duration"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// longestOverlap is how long two secrets may both work, as with the API.
const longestOverlap = 30 * day

func newKeyRotateCommand(p *process) *cobra.Command {
	var tenant, name string
	var overlap, expires, rotateAfter, wait lifetime
	var asJSON bool
	c := &cobra.Command{
		Use:   "rotate [NAME]",
		Short: "Replace a client's secrets by a new one",
		Long: `Makes a new secret of the client, with the scopes of its latest live one, prints it
as ` + "`portcullis key new`" + ` does, and retires the former ones: at once, or after
--overlap, within which both work. Memberships, tokens and the audit stay with the
client.`,
		Example: "  portcullis key rotate ci --tenant acme --overlap 24h --rotate-after 90d > ci.key",
		Args:    named(arg{"name", &name, checkKeyName}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if time.Duration(overlap) > longestOverlap {
				return usagef("--overlap: %s is more than 30d", duration.Format(time.Duration(overlap)))
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				now := time.Now()
				former, err := d.liveKey(ctx, t, name, now)
				if err != nil {
					return err
				}
				d.by.Tenant, d.by.Ack = t.ID, true
				secret := identity.NewClientKey()
				rotation := store.KeyRotation{
					Tenant: t.ID, Name: name, Presented: former.Digest, Overlap: time.Duration(overlap),
					New: store.NewKey{
						Tenant: t.ID, Name: name, Digest: identity.KeyDigest(secret), Prefix: string(secret[:8]),
						Scopes: former.Scopes, Expires: again(now, expires, former.Created, former.Expires), RotateAt: again(now, rotateAfter, former.Created, former.RotateAt),
					},
					ReplayUntil: now, // nobody retries: the secret is on standard output
				}
				rand.Read(rotation.ReplayID[:])
				key, r, err := d.RotateKey(ctx, d.by, rotation)
				if err != nil {
					return err
				}
				if err := printNewKey(p, t, false, key, string(secret[:]), r, asJSON); err != nil {
					return err
				}
				return settle(ctx, p, d, r.Revision.Number, time.Duration(wait))
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&name, "name", "", "the client's `name`")
	c.Flags().Var(&overlap, "overlap", "how long the former secrets go on working, up to 30d (default: not at all)")
	c.Flags().Var(&expires, "expires", "for how long the new secret opens anything, such as 90d (default: as long as the former one)")
	rotateAfterFlag(c, &rotateAfter)
	waitFlag(c, &wait)
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// again is the end of a new secret: after what was asked for, else after as long as
// the former one was to live; zero for one without an end.
func again(now time.Time, asked lifetime, created, end time.Time) time.Time {
	if asked != 0 || end.IsZero() {
		return asked.expiry(now)
	}
	return now.Add(end.Sub(created))
}

// rotateAfterFlag is the --rotate-after of commands that make a client key.
func rotateAfterFlag(c *cobra.Command, after *lifetime) {
	c.Flags().Var(after, "rotate-after", "when it is to be replaced, such as 90d: `portcullis key list` warns from then on")
}

// liveKey is the latest live secret of a client.
func (d desk) liveKey(ctx context.Context, t store.Tenant, name string, now time.Time) (store.ClientKey, error) {
	keys, err := d.KeyList(ctx, t.ID)
	if err != nil {
		return store.ClientKey{}, err
	}
	var latest store.ClientKey
	for _, k := range keys {
		if k.Name == name && describeKey(k, now).State == "live" && k.ID > latest.ID {
			latest = k
		}
	}
	if latest.ID == 0 {
		return latest, refusedf("--name: tenant %q has no live client key %q: make one with `portcullis key new` (see `portcullis key list --tenant %[1]s`)", t.Name, name)
	}
	return latest, nil
}
