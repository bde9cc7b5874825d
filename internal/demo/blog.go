package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"portcullis/envoy"
	"portcullis/internal/sealing"
	"portcullis/internal/testkit"
)

//go:embed policy.yaml
var policyText []byte

const (
	tokenSecret = "the demo's token secret, longer than 32 bytes"
	blogHost    = "blog.example.com"
	storeFile   = "auth.sqlite3"
)

// blog is everything that runs.
type blog struct {
	dir      string
	binary   string
	env      []string
	master   string // of the encryption; it ends with the demo, as the database does
	gate     *testkit.Gate
	upstream *testkit.Upstream
	envoy    *testkit.Envoy // nil: none can be had

	// Credentials: users of tenant default, a user of another tenant, a client key.
	amy, bob, old, zed, ci string
}

// raise builds and starts everything. The blog is never nil; fall ends what runs.
func raise(ctx context.Context, stderr io.Writer) (*blog, error) {
	b := &blog{master: sealing.NewMaster()}
	var err error
	// A short path: it holds a unix socket.
	if b.dir, err = os.MkdirTemp("", "pc-"); err != nil {
		return b, err
	}
	envoyBin, err := findEnvoy(stderr)
	if err != nil {
		return b, err
	}
	fmt.Fprintln(stderr, "building portcullis ...")
	b.binary = filepath.Join(b.dir, "portcullis")
	if err := testkit.BuildPortcullis(ctx, b.binary, "-trimpath"); err != nil {
		return b, err
	}
	rules := filepath.Join(b.dir, "policy.yaml")
	if err := os.WriteFile(rules, policyText, 0o600); err != nil {
		return b, err
	}
	b.env = []string{
		"AUTH_SQLITE_PATH=" + filepath.Join(b.dir, storeFile),
		"AUTH_ENABLE_ENCRYPTION=true",
		"AUTH_ENCRYPTION_KEY=" + b.master,
		"AUTH_POLICY_FILE=" + rules,
		"AUTH_JWT_SECRET_KEY=" + tokenSecret,
		"AUTH_EXTAUTHZ_LISTEN=unix://" + filepath.Join(b.dir, "gate.sock"),
		"AUTH_SERVER_PORT=0",
		"AUTH_METRICS_LISTEN=127.0.0.1:0",
		"AUTH_DECISION_LOG=all",
	}
	fmt.Fprintln(stderr, "starting the blog ...")
	if b.gate, err = testkit.StartGate(ctx, testkit.GateConfig{Binary: b.binary, Dir: b.dir, Env: b.env}); err != nil {
		return b, err
	}
	if b.upstream, err = testkit.StartUpstream("127.0.0.1:0"); err != nil {
		return b, err
	}
	if err := b.people(ctx); err != nil {
		return b, err
	}
	if envoyBin == "" {
		return b, nil
	}
	// What an operator would run to configure their own Envoy.
	bootstrap, err := b.cli(ctx, "envoy", "config", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--upstream", b.upstream.Addr(), "--upstream-protocol", "same")
	if err != nil {
		return b, err
	}
	b.envoy, err = testkit.StartEnvoy(ctx, testkit.EnvoyConfig{Binary: envoyBin, Bootstrap: []byte(bootstrap)})
	return b, err
}

// people fills the store by the command line, as an operator would.
func (b *blog) people(ctx context.Context) error {
	for _, line := range []string{
		"role add viewer",
		"role add editor",
		"role add deployer",
		"role inherit editor viewer",
		"permission add viewer view_content",
		"permission add editor edit_content",
		"permission add deployer deploy",
		"member add amy editor",
		"member add bob viewer",
		"member add --kind client --id ci --role deployer",
		"key new --tenant acme --name partner",
		// acme gives its own people whatever it likes.
		"role add --tenant acme boss",
		"permission add --tenant acme boss edit_content",
		"member add --tenant acme zed boss --wait",
	} {
		if _, err := b.cli(ctx, strings.Fields(line)...); err != nil {
			return err
		}
	}
	for to, line := range map[*string]string{
		&b.ci:  "key new --name ci --scopes check",
		&b.amy: "token issue --subject amy",
		&b.bob: "token issue --subject bob",
		&b.zed: "token issue --tenant acme --subject zed",
	} {
		out, err := b.cli(ctx, strings.Fields(line)...)
		if err != nil {
			return err
		}
		*to = out
	}
	var err error
	b.old, err = expiredToken("bob")
	return err
}

// cli runs portcullis in another process on the same store and returns what it
// prints.
func (b *blog) cli(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.binary, args...)
	cmd.Dir, cmd.Env = b.dir, testkit.PortcullisEnv(b.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("portcullis %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// address is where clients send requests: Envoy's listener.
func (b *blog) address() string { return b.envoy.Addr(envoy.ListenerIngress) }

// fall ends what runs and removes what was made.
func (b *blog) fall() error {
	var errs []error
	if b.envoy != nil {
		errs = append(errs, b.envoy.Stop())
	}
	if b.upstream != nil {
		errs = append(errs, b.upstream.Stop())
	}
	if b.gate != nil {
		errs = append(errs, b.gate.Stop())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// invite prints what to try by hand.
func (b *blog) invite(w io.Writer) {
	if b.envoy == nil {
		fmt.Fprintf(w, "\nPortcullis answers on %s until you press Ctrl-C.\n", b.gate.ExtAuthz())
		return
	}
	fmt.Fprintf(w, `
It stays up until you press Ctrl-C. Try:

  curl -i http://%[1]s/posts/1
  curl -i http://%[1]s/me
  curl -i -H 'Authorization: Bearer %[2]s' http://%[1]s/me
  curl -i -X POST -H 'X-Client-Key: %[3]s' http://%[1]s/deploy
  curl -s http://%[4]s/metrics | grep ^portcullis_decisions_total

and change who may do what while it runs:

  export AUTH_SQLITE_PATH=%[5]s/%[6]s AUTH_ENCRYPTION_KEY=%[7]s
  %[5]s/portcullis role list
  %[5]s/portcullis member add carol editor
`, b.address(), b.bob, b.ci, b.gate.Metrics(), b.dir, storeFile, b.master)
}
