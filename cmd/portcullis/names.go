package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"portcullis/internal/identity"
	"portcullis/policy"
)

// What a name may be is what the policy file and the tokens admit: a name that
// could never match anything is refused where it is typed.

func checkTenantName(s string) error { return checkName(s, 64, "_.-") }
func checkRoleName(s string) error   { return checkName(s, 64, "_-") }
func checkKeyName(s string) error    { return checkName(s, 64, "_.-") }

func checkPermissionName(s string) error { return checkName(s, 128, "_.:/-") }

func checkName(s string, most int, marks string) error {
	good := s != "" && len(s) <= most
	for i := 0; good && i < len(s); i++ {
		c := s[i]
		good = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(marks, c) >= 0
	}
	if !good {
		return fmt.Errorf("%q will not do: use 1 to %d letters, digits and %s", shorten(s), most, strings.Join(strings.Split(marks, ""), " "))
	}
	return nil
}

// checkPrincipalID admits what a token may carry as its subject.
func checkPrincipalID(s string) error {
	good := s != "" && len(s) <= identity.MaxSubjectSize
	for i := 0; good && i < len(s); i++ {
		good = s[i] > ' ' && s[i] < 0x7f
	}
	if !good {
		return fmt.Errorf("%q will not do: use 1 to %d visible ASCII characters", shorten(s), identity.MaxSubjectSize)
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// kindFlag is a flag that names a kind of principal.
type kindFlag policy.Kind

func (k *kindFlag) Set(text string) error {
	kind, ok := policy.ParseKind(text)
	if !ok {
		return fmt.Errorf("%q is no kind: use user, client or workload", shorten(text))
	}
	*k = kindFlag(kind)
	return nil
}

func (k *kindFlag) Type() string   { return "kind" }
func (k *kindFlag) String() string { return policy.Kind(*k).String() }

// arg is a name that a command takes as a flag or, shorter, bare.
type arg struct {
	flag  string
	value *string
	check func(string) error
}

// named fills the names that were not given as flags from the bare arguments, in
// order, and checks them all. An argument too many, or a name that is missing or
// will not do, is a usage error that names the flag.
func named(args ...arg) cobra.PositionalArgs {
	return func(cmd *cobra.Command, bare []string) error {
		for _, a := range args {
			if !cmd.Flags().Changed(a.flag) && len(bare) > 0 {
				*a.value, bare = bare[0], bare[1:]
			}
		}
		if len(bare) > 0 {
			return usagef("%q is one argument too many (see `%s --help`)", shorten(bare[0]), cmd.CommandPath())
		}
		for _, a := range args {
			if *a.value == "" && !cmd.Flags().Changed(a.flag) {
				return usagef("--%s is missing (see `%s --help`)", a.flag, cmd.CommandPath())
			}
			if err := a.check(*a.value); err != nil {
				return usagef("--%s: %w", a.flag, err)
			}
		}
		return nil
	}
}
