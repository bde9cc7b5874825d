package authdata

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

var (
	errScheme = errors.New("the URL cannot be read: give the path of Auth's SQLite file, sqlite:///path, or postgres://user:password@host:5432/database")

	errPostgresURL = errors.New("the URL cannot be read (it is not repeated here, for it may hold a password): " +
		"the form is postgres://user:password@host:5432/database, with special characters in the password percent-encoded")
)

// location is where the database is: exactly one is set.
type location struct {
	path string // absolute
	url  string // of Postgres, in libpq's form
}

// locate reads a URL. Its errors repeat nothing that may hold a password.
func locate(raw string) (location, error) {
	scheme, rest, isURL := strings.Cut(raw, "://")
	if !isURL {
		return locateFile(raw)
	}
	dialect, _, _ := strings.Cut(strings.ToLower(scheme), "+") // postgresql+psycopg2
	switch dialect {
	case "sqlite":
		if !strings.HasPrefix(rest, "/") {
			return location{}, errors.New("the URL of an SQLite file has three slashes and an absolute path: sqlite:///home/auth/.auth.sqlite3")
		}
		return locateFile(rest)
	case "postgres", "postgresql":
		// An @ behind the authority is the rest of a password with an unescaped slash,
		// question mark or hash in it.
		if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.Contains(rest[i:], "@") {
			return location{}, errPostgresURL
		}
		if _, err := url.Parse("postgres://" + rest); err != nil {
			return location{}, errPostgresURL
		}
		return location{url: "postgres://" + rest}, nil
	}
	return location{}, errScheme
}

func locateFile(path string) (location, error) {
	if path == "" {
		return location{}, errScheme
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return location{}, fmt.Errorf("find the current directory: %w", err)
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil && strings.ContainsAny(path, "@="):
		// A connection string in one of its other forms.
		return location{}, errScheme
	case errors.Is(err, os.ErrNotExist):
		return location{}, fmt.Errorf("%s does not exist: name Auth's own file, by its absolute path", path)
	case err != nil:
		return location{}, fmt.Errorf("look at the file: %w", err)
	case info.Mode()&os.ModeSymlink != 0:
		return location{}, fmt.Errorf("%s is a symbolic link: name the file itself, beside which SQLite keeps its log", path)
	case !info.Mode().IsRegular():
		return location{}, fmt.Errorf("%s is not a regular file", path)
	}
	return location{path: path}, nil
}
