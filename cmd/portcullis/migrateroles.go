package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"portcullis/internal/config"
	"portcullis/internal/store/postgres"
)

// printedDatabase is the database that --print-roles writes about where no URL
// names another.
const printedDatabase = "portcullis"

// roleFlags are the flags of migrate that are about Postgres's roles.
type roleFlags struct {
	roles   postgres.GroupRoles
	print   bool
	subnets []string

	parsed []netip.Prefix // subnets, once check has run
}

func (f *roleFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.roles.Admin, "admin-role", f.roles.Admin, "the role of admin processes")
	flags.StringVar(&f.roles.Sidecar, "sidecar-role", f.roles.Sidecar, "the role of sidecars")
	flags.BoolVar(&f.print, "print-roles", false, "print the SQL that makes the roles and their users, for a DBA, and do nothing else")
	flags.StringArrayVar(&f.subnets, "subnet", nil, "with --print-roles: let the users in from here, as in 10.0.3.0/24 or fd00:1::/64; may be given again")
}

func (f *roleFlags) check() error {
	for _, role := range []struct{ flag, name string }{{"--admin-role", f.roles.Admin}, {"--sidecar-role", f.roles.Sidecar}} {
		if err := postgres.CheckRoleName(role.name); err != nil {
			return usagef("%s: %w", role.flag, err)
		}
	}
	if err := f.roles.Check(); err != nil {
		return usagef("--sidecar-role: %w", err)
	}
	if len(f.subnets) > 0 && !f.print {
		return usagef("--subnet: is for --print-roles alone")
	}
	f.parsed = nil
	for _, text := range f.subnets {
		subnet, err := postgres.ParseSubnet(text)
		if err != nil {
			return usagef("--subnet: %w", err)
		}
		f.parsed = append(f.parsed, subnet)
	}
	return nil
}

// printSQL needs no database: only its name.
func (f *roleFlags) printSQL(p *process, cfg *config.Config) error {
	database := printedDatabase
	if onPostgres(cfg) {
		var err error
		if database, err = postgres.DatabaseName(cfg.DatabaseURL.Reveal()); err != nil {
			return usagef("%w", err)
		}
	}
	text, err := postgres.RoleSQL(postgres.RoleSQLConfig{Database: database, Roles: f.roles, Subnets: f.parsed})
	if err != nil {
		return usagef("%w", err)
	}
	fmt.Fprint(p.stdout, text)
	return nil
}

// ensure makes the roles and gives them their rights, as far as the user may.
func (f *roleFlags) ensure(ctx context.Context, p *process, cfg *config.Config) error {
	done, err := postgres.EnsureRoles(ctx, cfg.DatabaseURL.Reveal(), f.roles, allowance(cfg))
	for _, role := range done.Made {
		fmt.Fprintf(p.stdout, "made the role %s\n", role)
	}
	if err != nil {
		return usageUnlessAway(err)
	}
	for _, statement := range done.Revoked {
		fmt.Fprintf(p.stdout, "took back a right that was too much: %s\n", statement)
	}
	if n := len(done.Granted); n > 0 {
		fmt.Fprintf(p.stdout, "granted %s\n", count(n, "right"))
	}
	if len(done.Missing) > 0 {
		fmt.Fprintf(p.stdout, "MISSING: the %s, and this user may not make roles (CREATEROLE): have a DBA run what "+
			"`portcullis migrate --print-roles` prints; until then admin processes and sidecars can only run as the owner of the schema\n",
			"role "+strings.Join(done.Missing, " and the role "))
	}
	return nil
}
