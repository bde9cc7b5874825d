package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/duration"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

func newTokenCommand(p *process) *cobra.Command {
	return newGroupCommand("token", "Tokens: sign our own, examine any", `Tokens are JWTs: our own, signed with AUTH_JWT_SECRET_KEY, which the gate verifies
with the same secret, or with AUTH_JWT_PRIVATE_KEY; and those of the outside
issuers that the policy file names. They name a principal; what it may do is decided by its roles when it asks.`, newTokenIssueCommand(p), newTokenInspectCommand(p))
}

type tokenJSON struct {
	Token   string    `json:"token"`
	Tenant  string    `json:"tenant"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
}

func newTokenIssueCommand(p *process) *cobra.Command {
	var tenant, subject string
	var expires lifetime
	var asJSON bool
	kind := kindFlag(policy.KindUser)
	c := &cobra.Command{
		Use:   "issue [SUBJECT]",
		Short: "Sign a token and print it",
		Long: `Signs a token for a principal and prints it, alone, on standard output. It needs
AUTH_JWT_SECRET_KEY or, where AUTH_JWT_ALGORITHM is RS256, ES256 or EdDSA,
AUTH_JWT_PRIVATE_KEY, whose first key for that algorithm signs; and _ISSUER and
_AUDIENCE as the gate has them. The store is not asked, so the principal need not
be known to it.`,
		Example: `  portcullis token issue --tenant default --subject amy
  curl -H "Authorization: Bearer $(portcullis token issue --subject amy --expires 5m)" http://127.0.0.1:10000/me`,
		Args: named(arg{"subject", &subject, checkPrincipalID}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTenantName(tenant); err != nil {
				return usagef("--tenant: %w", err)
			}
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			issuer, err := identity.NewIssuer(identity.IssuerConfig{
				Secret: []byte(cfg.JWTSecretKey.Reveal()), Algorithm: cfg.JWTAlgorithm, Keys: cfg.JWTPrivateKeys,
				Issuer: cfg.JWTIssuer, Audience: cfg.JWTAudience,
			})
			if errors.Is(err, identity.ErrNoSecret) {
				return usagef("AUTH_JWT_SECRET_KEY is not set: there is nothing to sign with; the gate must have the same one")
			}
			if errors.Is(err, identity.ErrNoPrivateKey) {
				return usagef("AUTH_JWT_PRIVATE_KEY is not set: there is nothing to sign %s with", cfg.JWTAlgorithm)
			}
			if err != nil {
				return usagef("%w", err)
			}
			ttl := time.Duration(expires)
			if ttl == 0 {
				ttl = cfg.JWTAccessTokenLifetime
			}
			if ttl > identity.MaxTokenLifetime {
				return usagef("--expires: %s is more than 24h, the longest that a token of our own may live: exchange for a refresh token, or issue another", duration.Format(ttl))
			}
			token, err := issuer.Issue(policy.Principal{Tenant: tenant, Kind: policy.Kind(kind), ID: subject}, ttl)
			if err != nil {
				return usagef("%w", err)
			}
			if asJSON {
				end := time.Now().Add(ttl).UTC().Truncate(time.Second)
				return printJSON(p.stdout, tokenJSON{token, tenant, kind.String(), subject, end})
			}
			_, err = fmt.Fprintln(p.stdout, token)
			return err
		},
	}
	c.Flags().StringVar(&tenant, "tenant", store.DefaultTenant, "the tenant that the principal is of")
	c.Flags().StringVar(&subject, "subject", "", "who the token is for: the principal's `id`")
	c.Flags().Var(&kind, "kind", "what sort of caller: user, client or workload")
	c.Flags().Var(&expires, "expires", "for how long, such as 15m (default: AUTH_JWT_ACCESS_TOKEN_EXPIRE_MINUTES)")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, tokenSettings)
	return c
}
