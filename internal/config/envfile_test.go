package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvFileForms(t *testing.T) {
	for content, want := range map[string]string{
		"AUTH_JWT_ISSUER=plain\n":                             "plain",
		"export AUTH_JWT_ISSUER=exported\n":                   "exported",
		"# comment\n\nAUTH_JWT_ISSUER='single $quoted'":       "single $quoted",
		"AUTH_JWT_ISSUER=\"double\" # comment":                "double",
		"\ufeffAUTH_JWT_ISSUER=after a byte order mark":       "after a byte order mark",
		"OTHER=x\nAUTH_JWT_ISSUER=first\nAUTH_JWT_ISSUER=b\n": "b",
		"AUTH_JWT_ISSUER=crlf\r\n":                            "crlf",
	} {
		if cfg := mustLoad(t, write(t, ".env", content), nil); cfg.JWTIssuer != want {
			t.Errorf("%q: got %q, want %q", content, cfg.JWTIssuer, want)
		}
	}
}

func TestBrokenEnvFilesNameTheLineAndNothingElse(t *testing.T) {
	for content, want := range map[string]string{
		"AUTH_JWT_ISSUER=a\nAUTH_JWT_SECRET_KEY=\"hunter2\n":       "line 2: a quote is opened and not closed",
		"AUTH_JWT_ISSUER=a\r\n\r\nAUTH_CLIENT_KEY='hunter2\r\n":    "line 3: a quote is opened and not closed",
		"AUTH_JWT_ISSUER=a\n\nhunter2-line\nAUTH_JWT_ISSUER=b\n":   "line 3: want NAME=value",
		"AUTH_JWT_ISSUER=a\nhunter2":                               "a line is no NAME=value",
		"AUTH_JWT_ISSUER=a\x00hunter2":                             "it holds a zero byte",
		"{\"AUTH_JWT_SECRET_KEY\": \"hunter2hunter2hunter2hunter2": "line 1: want NAME=value",
	} {
		_, _, err := load(t, write(t, ".env", content), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%q: the content is shown: %v", content, err)
		}
	}
}

// godotenv expands $NAME outside single quotes, to nothing if need be. A secret
// must not be changed by that in silence.
func TestDollarInASecret(t *testing.T) {
	const secret = "pa$$word-A$B${C}-0123456789-0123456789"
	for _, line := range []string{"AUTH_JWT_SECRET_KEY=" + secret, `AUTH_JWT_SECRET_KEY="` + secret + `"`, "B=x\nexport AUTH_JWT_SECRET_KEY=" + secret, `AUTH_JWT_SECRET_KEY=a\$A` + secret} {
		_, _, err := load(t, write(t, ".env", line+"\n"), nil)
		wantProblem(t, err, "AUTH_JWT_SECRET_KEY: the value in ")
	}
	cfg := mustLoad(t, write(t, ".env", "PRICE=a$B\nAUTH_JWT_SECRET_KEY='"+secret+"'\n"), nil)
	if cfg.JWTSecretKey.Reveal() != secret {
		t.Errorf("got %q", cfg.JWTSecretKey.Reveal())
	}
}

func TestWhichEnvFile(t *testing.T) {
	dir := write(t, ".env", "AUTH_JWT_ISSUER=dot\n")
	other := filepath.Join(write(t, "other", "AUTH_JWT_ISSUER=other\n"), "other")
	third := filepath.Join(write(t, "third", "AUTH_JWT_ISSUER=third\n"), "third")
	if cfg := mustLoad(t, dir, nil); cfg.JWTIssuer != "dot" {
		t.Errorf("got %q", cfg.JWTIssuer)
	}
	if cfg := mustLoad(t, dir, nil, "--env-file", other); cfg.JWTIssuer != "other" {
		t.Errorf("got %q", cfg.JWTIssuer)
	}
	cfg, _, err := Load(Input{Dir: dir, EnvFile: third, Environ: []string{"HOME=/"}})
	if err != nil || cfg.JWTIssuer != "third" {
		t.Errorf("got %v, %v", cfg, err)
	}
	for _, args := range [][]string{{"--env-file", filepath.Join(dir, "absent")}, {"--env-file="}, {"--env-file", dir}} {
		if _, _, err := load(t, dir, nil, args...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		t.Helper()
		f, err := os.CreateTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	for _, end := range []string{"", "\n", "\r\n"} {
		if cfg := mustLoad(t, "", []string{"AUTH_JWT_SECRET_KEY_FILE=" + file(aSecret+end)}); cfg.JWTSecretKey.Reveal() != aSecret {
			t.Errorf("ending in %q: got %q", end, cfg.JWTSecretKey.Reveal())
		}
	}
	cfg := mustLoad(t, "", nil, "--client-key-file", file(aClientKey+"\n"), "--postgresql-url-file="+file("postgres://h/db"))
	if cfg.ClientKey.Reveal() != aClientKey || cfg.DatabaseURL.Reveal() != "postgres://h/db" {
		t.Errorf("got %q, %q", cfg.ClientKey.Reveal(), cfg.DatabaseURL.Reveal())
	}
	for what, try := range map[string]struct {
		environ []string
		want    string
	}{
		"both":        {[]string{"AUTH_JWT_SECRET_KEY=" + aSecret, "AUTH_JWT_SECRET_KEY_FILE=" + file(aSecret)}, "AUTH_JWT_SECRET_KEY: is set in the environment and AUTH_JWT_SECRET_KEY_FILE in the environment: set one"},
		"absent":      {[]string{"AUTH_JWT_SECRET_KEY_FILE=" + filepath.Join(dir, "absent")}, "AUTH_JWT_SECRET_KEY_FILE: from the environment: open "},
		"a directory": {[]string{"AUTH_JWT_SECRET_KEY_FILE=" + dir}, "AUTH_JWT_SECRET_KEY_FILE: "},
		"empty":       {[]string{"AUTH_JWT_SECRET_KEY_FILE=" + file("\n")}, "AUTH_JWT_SECRET_KEY_FILE: "},
		"huge":        {[]string{"AUTH_JWT_SECRET_KEY_FILE=" + file(strings.Repeat("k", maxSecretFile+1))}, "AUTH_JWT_SECRET_KEY_FILE: "},
		"short":       {[]string{"AUTH_JWT_SECRET_KEY_FILE=" + file("short")}, "AUTH_JWT_SECRET_KEY: the value from the file that AUTH_JWT_SECRET_KEY_FILE names (the environment) is not valid (it has 5 bytes)"},
		"two stores":  {[]string{"AUTH_DATABASE_URL_FILE=" + file("postgres://a/db"), "AUTH_POSTGRESQL_URL=postgres://b/db"}, "AUTH_DATABASE_URL: and AUTH_POSTGRESQL_URL name different stores"},
	} {
		_, _, err := load(t, "", try.environ)
		t.Log(what, err)
		wantProblem(t, err, try.want)
	}
	// Where the sources differ it is still a question which one counts.
	_, _, err := load(t, write(t, ".env", "AUTH_JWT_SECRET_KEY="+aSecret+"\n"), []string{"AUTH_JWT_SECRET_KEY_FILE=" + file(aSecret)})
	wantProblem(t, err, "AUTH_JWT_SECRET_KEY: is set in ")
}

func TestWarningsAboutWhereSecretsAre(t *testing.T) {
	dir := write(t, ".env", "AUTH_JWT_SECRET_KEY="+aSecret+"\n")
	if _, warnings, _ := load(t, dir, nil); len(warnings) > 0 {
		t.Errorf("mode 0600: %v", warnings)
	}
	if err := os.Chmod(filepath.Join(dir, ".env"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings, _ := load(t, dir, nil)
	wantWarning(t, warnings, "settings file "+filepath.Join(dir, ".env")+" holds secrets, and its mode 0644")
}
