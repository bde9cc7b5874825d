package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Input is what Load reads besides the flags.
type Input struct {
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Dir is where .env is looked for; "" is the working directory.
	Dir string
	// EnvFile is read instead of .env, and must exist; the flag --env-file wins
	// over it.
	EnvFile string
}

// Warning is something that does not stop the start and should be mended.
type Warning struct {
	Name string // the variable, "" where it is about none
	Text string
}

// String returns "NAME: text".
func (w Warning) String() string {
	if w.Name == "" {
		return w.Text
	}
	return w.Name + ": " + w.Text
}

// Problem is one reason not to start. Its text holds no secret.
type Problem struct {
	Name string // the variable, "" where it is about none
	Text string
}

// Error returns "NAME: text".
func (p Problem) Error() string {
	if p.Name == "" {
		return p.Text
	}
	return p.Name + ": " + p.Text
}

// Problems is the error of Load: everything that is wrong, in the order of the
// table.
type Problems []Problem

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads the settings without a command line.
func Load(in Input) (*Config, []Warning, error) { return NewSettings().Load(in) }

// Load reads the settings: defaults, then .env, the environment and the flags
// that were given to AddFlags and parsed since, each over the one before. The
// error is a Problems; the Config is nil then, the warnings are not.
func (s *Settings) Load(in Input) (*Config, []Warning, error) {
	l := &loader{settings: s, environ: environment(in.Environ)}
	l.readEnvFile(in)
	l.findUnknown()
	cfg := &Config{}
	for _, setting := range s.table {
		l.parse(cfg, setting)
	}
	l.crossCheck(cfg)
	if len(l.problems) > 0 {
		return nil, l.warnings, l.problems
	}
	return cfg, l.warnings, nil
}

// loader holds what one Load gathers.
type loader struct {
	settings *Settings
	environ  map[string]string
	envFile  map[string]string
	envName  string // how messages call the .env file
	problems Problems
	warnings []Warning
}

func (l *loader) problem(name, format string, args ...any) {
	l.problems = append(l.problems, Problem{name, fmt.Sprintf(format, args...)})
}

func (l *loader) warn(name, format string, args ...any) {
	l.warnings = append(l.warnings, Warning{name, fmt.Sprintf(format, args...)})
}

// environment turns os.Environ's form into a map. Of a name that comes twice the
// first counts, as for os.Getenv.
func environment(environ []string) map[string]string {
	out := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if _, twice := out[name]; ok && !twice {
			out[name] = value
		}
	}
	return out
}

// found is a value with where it came from.
type found struct {
	value  string
	source string // for messages, "" where the name is set nowhere
}

// look returns the value of the highest source that has the name.
func (l *loader) look(name string) found {
	if f := l.settings.flags[name]; f != nil && f.isSet {
		return found{f.text, "flag --" + flagName(name)}
	}
	if value, ok := l.environ[name]; ok {
		return found{value, "the environment"}
	}
	if value, ok := l.envFile[name]; ok {
		return found{value, l.envName}
	}
	return found{}
}

// parse reads one setting into cfg, and notes where it came from.
func (l *loader) parse(cfg *Config, s Setting) {
	at := l.look(s.Name)
	if s.Secret {
		var ok bool
		if at, ok = l.secret(s, at); !ok {
			return
		}
	}
	value, source := at.value, at.source
	if source == "" {
		value, source = s.Default, "default"
	} else if value == "" && s.Default != "" {
		l.problem(s.Name, "is set to nothing in %s: want %s; take it out for the default, %s", source, s.Want, s.Default)
		return
	}
	entry := Entry{Name: s.Name, Value: value, Source: source}
	if s.Secret && value != "" {
		entry.Value = redacted
	}
	cfg.dump = append(cfg.dump, entry)
	if err := s.parse(cfg, value); err != nil {
		l.invalid(s, value, source, err)
	}
}

func (l *loader) invalid(s Setting, value, source string, err error) {
	text := "the value from " + source + " is not valid"
	if !s.Secret && !strings.Contains(value, "-----BEGIN") {
		text = fmt.Sprintf("%s, from %s, is not valid", quote(value), source)
	}
	if detail := err.Error(); detail != "" {
		text += " (" + detail + ")"
	}
	text += ": want " + s.Want
	if strings.HasPrefix(value, "tcp://") {
		text += "; Kubernetes injects such values for a Service of that name: rename the Service, or set enableServiceLinks: false in the pod"
	}
	l.problem(s.Name, "%s", text)
}

// quote quotes a value for a message, shortened.
func quote(value string) string {
	const most = 80
	if len(value) > most {
		return fmt.Sprintf("%q and more", value[:most])
	}
	return fmt.Sprintf("%q", value)
}

// maxSecretFile bounds a secret's file, in bytes.
const maxSecretFile = 64 << 10

// secret resolves a secret and its _FILE twin. Both at once are a problem even
// if they come from different sources: an operator who sees the one changed
// would not know that the other counts.
func (l *loader) secret(s Setting, at found) (found, bool) {
	twin := s.Name + FileSuffix
	file := l.look(twin)
	switch {
	case file.source == "" || file.value == "":
		if strings.HasPrefix(at.source, "flag ") && at.value != "" && (s.onCommandLine == nil || !s.onCommandLine(at.value)) {
			l.problem(s.Name, "holds a secret, and stands on the command line, which the process list shows: use --%s, the environment or .env, and replace the secret", flagName(twin))
			return found{}, false
		}
		return at, true
	case at.value != "":
		l.problem(s.Name, "is set in %s and %s in %s: set one of them", at.source, twin, file.source)
		return found{}, false
	}
	value, err := readSecretFile(file.value)
	if err != nil {
		l.problem(twin, "from %s: %v", file.source, err)
		return found{}, false
	}
	return found{value, fmt.Sprintf("the file that %s names (%s)", twin, file.source)}, true
}

// readSecretFile returns a file's content without one newline at its end.
func readSecretFile(path string) (string, error) {
	content, err := readBounded(path, maxSecretFile)
	if err != nil {
		return "", err
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return value, nil
}

// home expands a leading ~/ by the HOME of the environment that Load was given.
func (l *loader) home(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	home := l.environ["HOME"]
	if home == "" {
		return "", fmt.Errorf("%s needs HOME, which is not set", path)
	}
	return filepath.Join(home, rest), nil
}

// names are all names that have a meaning in this version.
func (l *loader) names() []string {
	var out []string
	for _, s := range l.settings.table {
		out = append(out, s.Name)
		if s.Secret {
			out = append(out, s.Name+FileSuffix)
		}
	}
	return out
}

// findUnknown looks for names that begin with AUTH_ and mean nothing. They are a
// problem in .env, which is ours, and a warning in the environment, which others
// write too.
func (l *loader) findUnknown() {
	known := l.names()
	for _, name := range sortedNames(l.envFile) {
		if !slices.Contains(known, name) {
			l.problem(name, "is no setting, in %s%s", l.envName, suggestion(name, known))
		}
	}
	for _, name := range sortedNames(l.environ) {
		switch {
		case slices.Contains(known, name):
		case injectedByKubernetes(name):
			l.warn(name, "is no setting and is ignored; Kubernetes injects such names for a Service called %s", serviceOf(name))
		default:
			l.warn(name, "is no setting and is ignored%s", suggestion(name, known))
		}
	}
}

// sortedNames returns the names that claim to be ours, in whatever case.
func sortedNames(values map[string]string) []string {
	var out []string
	for name := range values {
		if strings.HasPrefix(strings.ToUpper(name), "AUTH_") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// readBounded reads a whole file of at most limit bytes. The error names the path.
// The size is not asked beforehand, since a pipe has none.
func readBounded(path string, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return content, nil
}
