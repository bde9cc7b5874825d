package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/joho/godotenv"
)

// maxEnvFile bounds a .env file, in bytes.
const maxEnvFile = 1 << 20

// readEnvFile reads --env-file, or Input.EnvFile, or else .env where there is
// one.
func (l *loader) readEnvFile(in Input) {
	path := in.EnvFile
	if l.settings.envFile.isSet {
		path = l.settings.envFile.text
		if path == "" {
			l.problem("", "flag --env-file is empty: want a path")
			return
		}
	}
	named := path != ""
	if !named {
		path = filepath.Join(in.Dir, ".env")
	}
	l.envName = path
	content, err := readBounded(path, maxEnvFile)
	if errors.Is(err, os.ErrNotExist) && !named {
		return
	}
	if err != nil {
		l.problem("", "settings file: %v", err)
		return
	}
	values, problem := parseEnvFile(content)
	if problem != "" {
		l.problem("", "settings file %s: %s", path, problem)
		return
	}
	l.envFile = values
	secrets := false
	for _, s := range l.settings.table {
		if !s.Secret {
			continue
		}
		secrets = secrets || values[s.Name] != ""
		if expands(content, s.Name, values[s.Name]) {
			l.problem(s.Name, "the value in %s holds a $ that would be expanded: put it between single quotes", path)
		}
	}
	if info, err := os.Stat(path); secrets && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		l.warn("", "settings file %s holds secrets, and its mode %#o lets others read it: chmod 600", path, info.Mode().Perm())
	}
}

// parseEnvFile reads a .env file. The problem quotes nothing of the file, as
// godotenv's own errors would.
func parseEnvFile(content []byte) (values map[string]string, problem string) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if bytes.IndexByte(content, 0) >= 0 {
		return nil, "it holds a zero byte, so it is no text"
	}
	values, err := godotenv.Parse(bytes.NewReader(content))
	if err != nil {
		return nil, describe(content, err.Error())
	}
	if _, ok := values[""]; ok {
		return nil, "a line is no NAME=value"
	}
	return values, ""
}

// describe says where godotenv gave up, from what its message quotes.
func describe(content []byte, message string) string {
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	if _, rest, ok := strings.Cut(message, "unterminated quoted value "); ok {
		at := bytes.Index(content, []byte(rest))
		return fmt.Sprintf("line %d: a quote is opened and not closed", 1+bytes.Count(content[:max(at, 0)], []byte{'\n'}))
	}
	if _, rest, ok := strings.Cut(message, " near "); ok {
		if near, err := strconv.Unquote(rest); err == nil && bytes.HasSuffix(content, []byte(near)) {
			before := content[:len(content)-len(near)]
			return fmt.Sprintf("line %d: want NAME=value", 1+bytes.Count(before, []byte{'\n'}))
		}
	}
	return "a line is no NAME=value"
}

// expands reports whether godotenv's expansion of $NAME changed the value: it
// reads the file again with every dollar sign taken out of its sight.
func expands(content []byte, name, value string) bool {
	const stand = "\ue000"
	if bytes.IndexByte(content, '$') < 0 || value == "" && !bytes.Contains(content, []byte(name)) {
		return false
	}
	literal, problem := parseEnvFile(bytes.ReplaceAll(content, []byte("$"), []byte(stand)))
	return problem != "" || strings.ReplaceAll(literal[name], stand, "$") != value
}
