package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/config"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

const rotateSigningLong = `Makes another private key of AUTH_JWT_PRIVATE_KEY sign our own tokens, without a
token refused. The list has the key that signs and the next one, one after the
other in PEM; give it to every admin process and restart them first:

  openssl genpkey -algorithm ed25519 > next.pem      # or as the key that signs was made
  cat next.pem >> signing.pem

Every admin process must have the next key: one that lacks it issues no token once
it signs. The command publishes the next key's public half, waits until every live
sidecar has it, and then makes the key sign. The former key verifies until its last
token has expired, a day at most; then take it out of the list. A run that is cut
off is taken up where it stood.

  --list          shows the public keys: which signs, and until when others verify
  --withdraw KID  takes a key out at once, for when others may know it: every token
                  that it signed is refused, and it is denied for a year, so that no
                  restart brings it back`

// signingFlags are what rotate signing is asked for.
type signingFlags struct {
	list     bool
	withdraw string
	kid      string
	force    bool
	wait     lifetime
	json     bool
}

func newRotateSigningCommand(p *process) *cobra.Command {
	flags := signingFlags{wait: lifetime(30 * time.Second)}
	c := &cobra.Command{
		Use:   "signing",
		Short: "Replace the key that signs our own tokens",
		Long:  rotateSigningLong,
		Example: `  portcullis rotate signing --list
  AUTH_JWT_PRIVATE_KEY_FILE=signing.pem portcullis rotate signing
  portcullis rotate signing --withdraw NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for flag, id := range map[string]string{"--kid": flags.kid, "--withdraw": flags.withdraw} {
				if id != "" && checkTokenWord(id) != nil {
					return usagef("%s: %q is no key id: use one that `portcullis rotate signing --list` shows", flag, shorten(id))
				}
			}
			return withSettings(p, cmd, func(ctx context.Context, cfg *config.Config, d desk) error {
				switch {
				case flags.list:
					return listSigning(ctx, p, d, flags.json)
				case flags.withdraw != "":
					return withdrawSigning(ctx, p, cfg, d, flags)
				}
				return rotateSigning(ctx, p, cfg, d, flags)
			})
		},
	}
	c.Flags().BoolVar(&flags.list, "list", false, "show the public keys, and change nothing")
	c.Flags().StringVar(&flags.withdraw, "withdraw", "", "take the key of this `id` out at once")
	c.Flags().StringVar(&flags.kid, "kid", "", "the `id` of the key that is to sign (default: the first behind the one that signs which never did)")
	c.Flags().BoolVar(&flags.force, "force", false, "go on though a live sidecar does not have the key in time; it refuses the new tokens until it has")
	c.MarkFlagsMutuallyExclusive("list", "withdraw", "kid")
	c.Flags().Var(&flags.wait, "wait", "how long live sidecars may take to get the key")
	addJSONFlag(c, &flags.json)
	p.addSettings(c, append(slices.Clone(storeSettings), tokenSettings...))
	return c
}

// signingJSON is a public key in JSON.
type signingJSON struct {
	KeyID     string     `json:"kid"`
	Algorithm string     `json:"algorithm"`
	State     string     `json:"state"` // signs, verifies, published or expired
	Created   time.Time  `json:"created"`
	Signs     *time.Time `json:"signs"`   // since when; null: it never did
	Expires   *time.Time `json:"expires"` // when it verifies no more; null: not retired
}

// signingState is what a key is for, in a list by creation.
func signingState(all []store.SigningKey, k *store.SigningKey, now time.Time) string {
	switch {
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return "expired"
	case k.KeyID == signer(all):
		return "signs"
	case k.Signs.IsZero():
		return "published"
	}
	return "verifies"
}

// signer is the id of the key that was made to sign last; "" for none.
func signer(all []store.SigningKey) string {
	var last store.SigningKey
	for _, k := range all {
		if !k.Signs.IsZero() && k.Expires.IsZero() && (last.KeyID == "" || k.Signs.After(last.Signs)) {
			last = k
		}
	}
	return last.KeyID
}

func listSigning(ctx context.Context, p *process, d desk, asJSON bool) error {
	all, err := d.SigningKeyList(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	out := make([]signingJSON, 0, len(all))
	rows := make([][]string, 0, len(all))
	for i := range all {
		k := &all[i]
		state := signingState(all, k, now)
		out = append(out, signingJSON{k.KeyID, k.Algorithm, state, k.Created.UTC(), jsonTime(k.Signs), jsonTime(k.Expires)})
		rows = append(rows, []string{k.KeyID, k.Algorithm, state, showTime(k.Created, ""), showTime(k.Signs, "never"), showTime(k.Expires, "no end")})
	}
	if asJSON {
		return printJSON(p.stdout, out)
	}
	return printTable(p.stdout, []string{"KID", "ALGORITHM", "STATE", "CREATED", "SIGNS SINCE", "VERIFIES UNTIL"}, rows)
}

// signedWith is the answer of a rotation in JSON.
type signedWith struct {
	KeyID    string     `json:"kid"`
	Former   string     `json:"former"` // "" where none signed
	Until    *time.Time `json:"former_verifies_until"`
	Outcome  string     `json:"outcome"` // done or unchanged
	Revision int64      `json:"revision"`
	Sidecars int        `json:"sidecars"` // that had the key before it signed
}

func rotateSigning(ctx context.Context, p *process, cfg *config.Config, d desk, flags signingFlags) error {
	all, err := d.SigningKeyList(ctx)
	if err != nil {
		return err
	}
	current := signer(all)
	next, err := nextSigner(cfg.JWTPrivateKeys, all, flags.kid)
	if err != nil {
		return err
	}
	if err := mustNotBeDenied(ctx, d, cfg.JWTIssuer, next.KeyID()); err != nil {
		return err
	}
	if next.KeyID() == current {
		if flags.json {
			return printJSON(p.stdout, signedWith{KeyID: current, Outcome: "unchanged"})
		}
		_, err := fmt.Fprintf(p.stdout, "key %s signs already\n", current)
		return err
	}
	public := next.Public()
	d.by.Ack = true
	r, err := d.PublishSigningKey(ctx, d.by, store.SigningKey{KeyID: public.KeyID, Algorithm: public.Algorithm, JWK: string(public.JWK)})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "published %s key %s (revision %d); waiting for the live sidecars\n", public.Algorithm, public.KeyID, r.Revision.Number)
	sidecars, late := waitApplied(ctx, d, r.Revision.Number, time.Duration(flags.wait))
	if late != nil {
		if !flags.force {
			return fmt.Errorf("%w; nothing else was changed: run the command again, or go on with --force", late)
		}
		fmt.Fprintf(p.stderr, "going on all the same: %v\n", late)
	}
	until := time.Now().Add(store.OwnTokenReach)
	if r, err = d.SignWith(ctx, d.by, public.KeyID, until); err != nil {
		return err
	}
	answer := signedWith{KeyID: public.KeyID, Former: current, Outcome: "done", Revision: r.Revision.Number, Sidecars: sidecars}
	if current != "" {
		answer.Until = jsonTime(until)
	}
	if flags.json {
		return printJSON(p.stdout, answer)
	}
	fmt.Fprintf(p.stdout, "key %s signs (revision %d, known to %s)\n", public.KeyID, r.Revision.Number, count(sidecars, "live sidecar"))
	if current != "" {
		fmt.Fprintf(p.stdout, "key %s verifies until %s: take it out of AUTH_JWT_PRIVATE_KEY after that\n", current, showTime(until, ""))
	}
	return nil
}

// nextSigner picks the key that is to sign: the one that is asked for, else the first
// behind the key that signs which never did. So a run that is repeated goes no
// further, and no retired key comes back.
func nextSigner(keys []*identity.PrivateKey, known []store.SigningKey, kid string) (*identity.PrivateKey, error) {
	if len(keys) == 0 {
		return nil, usagef("AUTH_JWT_PRIVATE_KEY is not set: name the file with the key that signs and the next one in AUTH_JWT_PRIVATE_KEY_FILE")
	}
	at := func(id string) int {
		return slices.IndexFunc(keys, func(k *identity.PrivateKey) bool { return k.KeyID() == id })
	}
	if kid != "" {
		if n := at(kid); n >= 0 {
			return keys[n], nil
		}
		return nil, usagef("--kid: AUTH_JWT_PRIVATE_KEY has no key %s: its first is %s", kid, keys[0])
	}
	current := signer(known)
	for _, k := range keys[at(current)+1:] {
		signed := slices.ContainsFunc(known, func(s store.SigningKey) bool { return s.KeyID == k.KeyID() && !s.Signs.IsZero() })
		if !signed {
			return k, nil
		}
	}
	if n := at(current); n > 0 {
		return keys[n], nil // the rotation was made: the keys before it are former ones
	}
	return nil, refusedf("AUTH_JWT_PRIVATE_KEY has no key behind the one that signs: make another (such as `openssl genpkey -algorithm ed25519`), " +
		"put it behind the others in the same file, restart every admin process with it, and run this again")
}

// mustNotBeDenied refuses a key of our own whose tokens are denied.
func mustNotBeDenied(ctx context.Context, s store.Denials, issuer, kid string) error {
	for after := int64(0); ; {
		page, err := s.DenialList(ctx, 0, after, denialPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if e.Issuer == issuer && e.Value == kid {
				return refusedf("AUTH_JWT_PRIVATE_KEY: key %s was withdrawn, and its tokens are denied: put a new key in its place", kid)
			}
			after = e.ID
		}
		if len(page) < denialPage {
			return nil
		}
	}
}

func withdrawSigning(ctx context.Context, p *process, cfg *config.Config, d desk, flags signingFlags) error {
	all, err := d.SigningKeyList(ctx)
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(all, func(k store.SigningKey) bool { return k.KeyID == flags.withdraw })
	signs := signer(all) == flags.withdraw
	d.by.Ack = true
	_, r, err := d.Deny(ctx, d.by, store.NewDenial{
		Kind: store.DenyKey, Issuer: cfg.JWTIssuer, Value: flags.withdraw, Expires: time.Now().Add(longestDenial),
	})
	if err != nil {
		return err
	}
	if known {
		gone, err := d.WithdrawSigningKey(ctx, d.by, flags.withdraw)
		switch {
		case err == nil:
			r = gone
		case !errors.Is(err, store.ErrNotFound): // one that another run has withdrawn is gone
			return err
		}
	}
	sidecars, late := waitApplied(ctx, d, r.Revision.Number, time.Duration(flags.wait))
	if flags.json {
		if err := printJSON(p.stdout, written{Outcome: "done", Revision: r.Revision.Number, Tag: r.Revision.Tag.String(), Applied: late == nil}); err != nil {
			return err
		}
		return late
	}
	fmt.Fprintf(p.stdout, "key %s is withdrawn, and what it signed is refused (revision %d, known to %s)\n", flags.withdraw, r.Revision.Number, count(sidecars, "live sidecar"))
	if signs {
		fmt.Fprintln(p.stdout, "it was the key that signs: put a new one in its place in AUTH_JWT_PRIVATE_KEY and restart the admin processes; until then no token is issued that is admitted")
	}
	return late
}
