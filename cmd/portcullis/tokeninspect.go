package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/identity"
	"portcullis/policy"
)

// inspectWait is how long an inspection may wait for an issuer's keys.
const inspectWait = 10 * time.Second

const tokenInspectLong = `Examines a token as the gate would, under the same settings and policy file, and
says of every step whether it passed. A token of an outside issuer is held against
keys that are fetched now; so the answer is that of a gate that starts now.

It shows the header and the claims, and never the signature: what is printed is no
credential. Whether the user may do anything is for their roles to say: ask
` + "`portcullis check`" + `. Give - to read the token from standard input, so that it
stays out of the shell's history.

Exit codes: 0 the token is accepted, 1 it is not.`

type inspectStep struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// inspection is what `token inspect` found.
type inspection struct {
	Accepted bool            `json:"accepted"`
	Reason   string          `json:"reason"`
	Steps    []inspectStep   `json:"steps"`
	Header   json.RawMessage `json:"header,omitempty"` // not verified where the token is refused, as the next
	Claims   json.RawMessage `json:"claims,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	Kind     string          `json:"kind,omitempty"`
	Subject  string          `json:"subject,omitempty"`
	Roles    []string        `json:"roles,omitempty"`
	Expires  *time.Time      `json:"expires,omitempty"`
}

func newTokenInspectCommand(p *process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "inspect TOKEN",
		Short:   "Say step by step why a token is accepted or not",
		Long:    tokenInspectLong,
		Example: "  portcullis token inspect - --policy-file policy.yaml < token.jwt\n  portcullis token issue amy | portcullis token inspect - --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("want one token, or - to read it from standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			token := args[0]
			if token == "-" {
				text, err := io.ReadAll(io.LimitReader(p.stdin, identity.MaxTokenSize+3))
				if err != nil {
					return usagef("read the token: %w", err)
				}
				token = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
			}
			keys := &identity.OwnKeys{}
			if err := keys.SetKeys(identity.PublicKeys(cfg.JWTPrivateKeys)); err != nil {
				return usagef("AUTH_JWT_PRIVATE_KEY: %w", err)
			}
			verifiers, err := newVerifiers(cfg, keys, identity.VerifiersConfig{Wait: inspectWait, Logger: p.quietLogger(cfg)})
			if err != nil {
				return usagef("%w", err)
			}
			if cfg.PolicyFile != "" {
				rules, err := policy.Load(cfg.PolicyFile)
				if err != nil {
					return usagef("AUTH_POLICY_FILE: %w", err)
				}
				if err := verifiers.Check(rules.Issuers()); err != nil {
					return usagef("AUTH_POLICY_FILE: %s: %w", cfg.PolicyFile, err)
				}
				verifiers.Apply(rules.Issuers())
			}
			found := inspect(verifiers, token)
			if asJSON {
				return answerJSON(p.stdout, found, found.Accepted)
			}
			return answer(p.stdout, found.text(), found.Accepted)
		},
	}
	addJSONFlag(c, &asJSON)
	p.addSettings(c, append([]string{"AUTH_POLICY_FILE"}, tokenSettings...))
	return c
}

func inspect(verifiers *identity.Verifiers, token string) inspection {
	steps, verified, reason := verifiers.Inspect(token)
	if reason == policy.ReasonOK && verified.Principal.Kind == policy.KindWorkload {
		// The gate says so too: a workload is proved by mTLS alone.
		steps = append(steps, identity.Step{Name: "kind", Detail: "a workload is proved by mTLS, not by a token"})
		verified, reason = nil, policy.ReasonInvalidToken
	}
	out := inspection{Accepted: verified != nil, Reason: reason.String()}
	for _, s := range steps {
		out.Steps = append(out.Steps, inspectStep{s.Name, s.OK, s.Detail})
	}
	if parts := strings.Split(token, "."); len(parts) == 3 && len(token) <= identity.MaxTokenSize {
		out.Header, out.Claims = segmentJSON(parts[0]), segmentJSON(parts[1])
	}
	if verified != nil {
		of := verified.Principal
		out.Tenant, out.Kind, out.Subject, out.Roles = of.Tenant, of.Kind.String(), of.ID, verified.Roles
		out.Expires = jsonTime(time.Unix(0, verified.Expires))
	}
	return out
}

// segmentJSON decodes a segment of a token, nil where it is no JSON.
func segmentJSON(segment string) json.RawMessage {
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil || !json.Valid(text) {
		return nil
	}
	return text
}

// text is the inspection for people.
func (i *inspection) text() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range i.Steps {
		word := "ok"
		if !s.OK {
			word = "FAILED"
		}
		detail := ""
		if s.Detail != "" {
			detail = visible(s.Detail)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Step, word, detail)
	}
	tw.Flush()
	lines := strings.Split(b.String(), "\n")
	for n := range lines {
		lines[n] = strings.TrimRight(lines[n], " ")
	}
	text := strings.Join(lines, "\n")
	note := ""
	if !i.Accepted {
		note = ", not verified"
	}
	if i.Header != nil {
		text += "\nheader" + note + ":  " + visible(string(i.Header)) + "\n"
	}
	if i.Claims != nil {
		text += "claims" + note + ":  " + visible(string(i.Claims)) + "\n"
	}
	if !i.Accepted {
		return text + "\nrefused: " + i.Reason + "\n"
	}
	text += fmt.Sprintf("\naccepted: %s %s of tenant %s, until %s\n", i.Kind, visible(i.Subject), i.Tenant, showTime(*i.Expires, ""))
	if len(i.Roles) > 0 {
		text += "roles from the token: " + visible(strings.Join(i.Roles, ", ")) + "\n"
	}
	return text
}
