package testkit

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed" // the provider's script and its lock
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oidcVersion is that of the npm package oidc-provider in oidc/package.json.
const oidcVersion = "9.13.3"

// What the provider's script knows of its one client and resource.
const (
	OIDCAudience    = "urn:blog"
	oidcClient      = "blog"
	oidcSecret      = "a secret of the test"
	oidcRedirection = "http://127.0.0.1/callback"
)

var (
	//go:embed oidc/package.json
	oidcPackage []byte
	//go:embed oidc/package-lock.json
	oidcLock []byte
	//go:embed oidc/provider.mjs
	oidcScript []byte
)

// FindOIDC returns the folder of an OpenID provider, which npm installs into
// .tools by its lock, once. Install scripts do not run.
func FindOIDC() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("the OpenID provider needs %s: %w", program, err)
		}
	}
	tools, err := ToolsDir()
	if err != nil {
		return "", err
	}
	// A changed lock is another folder.
	sum := sha256.Sum256(append(append([]byte{}, oidcPackage...), oidcLock...))
	dir := filepath.Join(tools, fmt.Sprintf("oidc-provider-%s-%x", oidcVersion, sum[:4]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", fmt.Errorf("install the OpenID provider: %w", err)
	}
	unlock, err := lockFile(filepath.Join(tools, ".oidc-provider.lock"))
	if err != nil {
		return "", fmt.Errorf("install the OpenID provider: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(tools, ".oidc-provider-")
	if err != nil {
		return "", fmt.Errorf("install the OpenID provider: %w", err)
	}
	defer os.RemoveAll(tmp)
	for name, text := range map[string][]byte{"package.json": oidcPackage, "package-lock.json": oidcLock} {
		if err := os.WriteFile(filepath.Join(tmp, name), text, 0o644); err != nil {
			return "", fmt.Errorf("install the OpenID provider: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = tmp
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install oidc-provider %s with npm: %w: %s", oidcVersion, err, lastLine(out))
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("install the OpenID provider: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("install the OpenID provider: %w", err)
	}
	return dir, nil
}

// OIDC is a real OpenID provider, run for one test.
type OIDC struct {
	Issuer string // its `iss`, the same after a restart

	tb      testing.TB
	modules string
	dir     string
	port    string
	cmd     *exec.Cmd
	exited  <-chan error
}

// RunOIDC starts a provider with a new key. Where none can be had it skips the test
// with the reason, or fails it under PORTCULLIS_REQUIRE_OIDC=1.
func RunOIDC(tb testing.TB) *OIDC {
	tb.Helper()
	modules, err := FindOIDC()
	if err != nil {
		Unavailable(tb, "PORTCULLIS_REQUIRE_OIDC", err)
	}
	o := &OIDC{tb: tb, modules: modules, dir: tb.TempDir(), port: "0"}
	if err := os.WriteFile(filepath.Join(o.dir, "provider.mjs"), oidcScript, 0o600); err != nil {
		tb.Fatal(err)
	}
	o.start()
	tb.Cleanup(o.Stop)
	return o
}

// Rotate restarts the provider with a new key before the ones it had: what it signs
// from now on has the new one.
func (o *OIDC) Rotate() {
	o.tb.Helper()
	o.Stop()
	o.start("--rotate")
}

// Stop ends the provider.
func (o *OIDC) Stop() {
	if o.cmd != nil {
		_ = o.cmd.Process.Kill()
		<-o.exited
		o.cmd = nil
	}
}

func (o *OIDC) start(flags ...string) {
	o.tb.Helper()
	args := append([]string{filepath.Join(o.dir, "provider.mjs"), o.port, filepath.Join(o.dir, "keys.json"), o.modules}, flags...)
	cmd := exec.Command("node", args...)
	var stderr safeBuffer
	cmd.Stderr = &stderr
	out, in, err := os.Pipe()
	if err != nil {
		o.tb.Fatal(err)
	}
	cmd.Stdout = in
	exited, err := StartBound(cmd)
	in.Close()
	if err != nil {
		o.tb.Fatalf("start the OpenID provider: %v", err)
	}
	o.cmd, o.exited = cmd, exited
	if err := out.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		o.tb.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	var ready struct{ Issuer string }
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		o.tb.Fatalf("the OpenID provider did not start: %v\n%s", err, stderr.String())
	}
	// It goes on writing; a closed pipe would end it.
	if err := out.SetReadDeadline(time.Time{}); err != nil {
		o.tb.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		out.Close()
	}()
	o.Issuer = ready.Issuer
	u, err := url.Parse(ready.Issuer)
	if err != nil {
		o.tb.Fatal(err)
	}
	o.port = u.Port()
}

// Login logs a user in by the authorization code flow with PKCE, through the
// provider's own pages, and returns the access token.
func (o *OIDC) Login(user string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), oidcRedirection) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	const verifier = "a-verifier-of-the-test-with-at-least-43-characters"
	challenge := sha256.Sum256([]byte(verifier))
	ask := url.Values{
		"client_id": {oidcClient}, "response_type": {"code"}, "redirect_uri": {oidcRedirection}, "scope": {"openid read"}, "resource": {OIDCAudience},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	resp, err := browser.Get(o.Issuer + "/auth?" + ask.Encode())
	// Two pages: the login, then the consent.
	for _, answer := range []url.Values{{"prompt": {"login"}, "login": {user}, "password": {"x"}}, {"prompt": {"consent"}}} {
		if err != nil {
			return "", fmt.Errorf("log in: %w", err)
		}
		page, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.Contains(resp.Request.URL.Path, "/interaction/") {
			return "", fmt.Errorf("log in: %s at %s: %.300s", resp.Status, resp.Request.URL.Path, page)
		}
		resp, err = browser.PostForm(resp.Request.URL.String(), answer)
	}
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil || back.Query().Get("code") == "" {
		return "", fmt.Errorf("log in: no code: %s", resp.Status)
	}
	req, err := http.NewRequest(http.MethodPost, o.Issuer+"/token", strings.NewReader(url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {oidcRedirection}, "code_verifier": {verifier}, "resource": {OIDCAudience},
	}.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(oidcClient), url.QueryEscape(oidcSecret))
	resp, err = browser.Do(req)
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	defer resp.Body.Close()
	var got struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&got); err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	if got.AccessToken == "" {
		return "", errors.New("log in: no access token: " + got.Error)
	}
	return got.AccessToken, nil
}
