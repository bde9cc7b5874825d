package config

import (
	"strings"
	"testing"
)

func TestSecretsAreRefusedOnTheCommandLine(t *testing.T) {
	for _, flag := range []string{
		"--jwt-secret-key=" + aSecret,
		"--client-key=" + aClientKey,
		"--database-url=postgres://app:hunter2@db.example.com/x",
		"--postgresql-url=postgresql://app:hunter2@/x?host=/run/postgresql",
		"--database-url=postgres://app@db.example.com/x?password=hunter2",
		"--database-url=postgres://app@db.example.com/x?p%61ssword=hunter2",
		"--database-url=postgres://app@db.example.com/x?PassWord=hunter2",
		"--database-url=postgres://db.example.com/x?sslkey=/k&sslpassword=hunter2",
		"--database-url=postgres://app:hunter2/y@db.example.com/x", // unescaped
		"--database-url=postgres://app:hunter2@y@db.example.com/x",
		"--database-url=postgres://app@db.example.com/x?%zz=hunter2",
		"--database-url=host=db.example.com password=hunter2",
	} {
		name, _, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		_, _, err := load(t, "", nil, flag)
		wantProblem(t, err, "AUTH_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+
			": holds a secret, and stands on the command line, which the process list shows: use --"+name+"-file, the environment or .env")
		for _, secret := range []string{"hunter2", aSecret, aClientKey} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error repeats the secret: %v", err)
			}
		}
	}
}

func TestADatabaseURLWithoutPasswordMayStandOnTheCommandLine(t *testing.T) {
	for _, url := range []string{
		"postgres://app@db.example.com:5432/x?sslmode=verify-full&passfile=/run/secrets/pgpass",
		"postgres:///x?host=/run/postgresql&user=app",
		"postgres://[::1]:5432/x",
		"postgres://a:5432,b:5432/x",
	} {
		cfg := mustLoad(t, "", nil, "--database-url", url)
		if cfg.DatabaseURL.Reveal() != url || cfg.DatabaseSetting != "AUTH_DATABASE_URL" {
			t.Errorf("got %q from %s", cfg.DatabaseURL.Reveal(), cfg.DatabaseSetting)
		}
	}
}

func TestTheConfigSaysWhichSettingNamedTheStore(t *testing.T) {
	for environ, want := range map[string]string{
		"AUTH_DATABASE_URL=postgres://h/db":   "AUTH_DATABASE_URL",
		"AUTH_POSTGRESQL_URL=postgres://h/db": "AUTH_POSTGRESQL_URL",
		"AUTH_SQLITE_PATH=/x.db":              "",
	} {
		if got := mustLoad(t, "", []string{environ}).DatabaseSetting; got != want {
			t.Errorf("%s: the setting is %q", environ, got)
		}
	}
}
