package config

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"portcullis/internal/identity"
)

// What values may be, for messages and for the reference.
const (
	wantBool     = "true or false"
	wantFile     = "a path to a file"
	wantListen   = "host:port or unix:///path"
	wantDuration = "a duration such as 90s, 15m, 1h or 30d"
	wantText     = "text without control characters, 1024 bytes at most"
	wantRate     = "a count and a period such as 10/s, 6000/m or 100/h, at most 1000000, or off"
	wantPostgres = "a URL that begins with postgres:// or postgresql://"
)

const day = 24 * time.Hour

// errValue says that a value is not what Want asks for, and no more.
var errValue = errors.New("")

// hush replaces an error whose text quotes the value.
func hush(err error) error {
	if err != nil {
		return errValue
	}
	return nil
}

// Listen is an address to listen on.
type Listen struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or an absolute path
}

// String returns the address as a setting names it.
func (l Listen) String() string {
	if l.Network == "unix" {
		return "unix://" + l.Address
	}
	return l.Address
}

// Local reports whether only this machine can connect: a unix socket, or a
// loopback address.
func (l Listen) Local() bool {
	if l.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(l.Address)
	return err == nil && loopback(host)
}

// loopback reports whether the host is surely of this machine. Of names only
// localhost is; no name is resolved.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// maxSocketPath is what sockaddr_un holds on Linux, less its closing zero. macOS
// holds four fewer.
const maxSocketPath = 103

// parseListen reads addresses joined by commas.
func parseListen(v string) ([]Listen, error) {
	var out []Listen
	for part := range strings.SplitSeq(v, ",") {
		l, err := parseAddress(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, l) && !strings.HasSuffix(l.Address, ":0") {
			return nil, errors.New("an address comes twice")
		}
		out = append(out, l)
	}
	return out, nil
}

func parseAddress(v string) (Listen, error) {
	if path, ok := strings.CutPrefix(v, "unix://"); ok {
		switch {
		case !strings.HasPrefix(path, "/") || path == "/" || hasControl(path):
			return Listen{}, errors.New("the path of a unix socket is absolute: unix:///path")
		case len(path) > maxSocketPath:
			return Listen{}, errors.New("the path of a unix socket has 103 bytes at most")
		}
		return Listen{Network: "unix", Address: path}, nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return Listen{}, errValue
	}
	if _, err := parsePort(port); err != nil {
		return Listen{}, errors.New("the port is a number from 0 to 65535")
	}
	if host != "" {
		if host, err = parseHost(host); err != nil {
			return Listen{}, err
		}
	}
	return Listen{Network: "tcp", Address: net.JoinHostPort(host, port)}, nil
}

// parseHost reads an IP address, an IPv6 one with or without brackets, or a name.
func parseHost(v string) (string, error) {
	bare := v
	if strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") {
		bare = v[1 : len(v)-1]
	}
	if _, err := netip.ParseAddr(bare); err == nil {
		return bare, nil
	}
	if v == "" || len(v) > 253 {
		return "", errValue
	}
	digitsAndDots := true
	for i := range len(v) {
		switch c := v[i]; {
		case '0' <= c && c <= '9', c == '.':
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
			digitsAndDots = false
		default:
			return "", errValue
		}
	}
	if digitsAndDots { // 127.0.1 or 300.1.1.1: meant as an address
		return "", errValue
	}
	return v, nil
}

func parsePort(v string) (int, error) { return parseInt(v, 0, 65535) }

func parseInt(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most || strings.HasPrefix(v, "+") {
		return 0, errValue
	}
	return n, nil
}

func hasControl(v string) bool {
	return strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// parseFile reads a path. What looks like the file's content is refused, so that
// a pasted key does not end in a message about a missing file.
func parseFile(dst *string, v string) error {
	if hasControl(v) || strings.HasPrefix(v, "-----BEGIN") {
		return errors.New("it is the path of a file, not its content")
	}
	*dst = v
	return nil
}

func parseText(dst *string, v string) error {
	if hasControl(v) || len(v) > 1024 {
		return errValue
	}
	*dst = v
	return nil
}

func oneOf[T ~string](dst *T, v string, words ...T) error {
	if !slices.Contains(words, T(v)) {
		return errValue
	}
	*dst = T(v)
	return nil
}

// parseTenants reads `all` as nil, or names.
func parseTenants(v string) ([]string, error) {
	if v == "all" {
		return nil, nil
	}
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		name := strings.TrimSpace(part)
		switch {
		case name == "all":
			return nil, errors.New("`all` stands alone")
		case !identity.ValidTenant(name):
			return nil, errors.New("a tenant's name is 1 to 64 of letters, digits, _ . -")
		case slices.Contains(out, name):
			return nil, errors.New("a tenant comes twice")
		}
		out = append(out, name)
	}
	return out, nil
}

// ParseDuration reads what time.ParseDuration reads, and whole days: 90d. A
// negative duration is an error.
func ParseDuration(v string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, err := parseInt(days, 0, 36500)
		if err != nil {
			return 0, errors.New("want " + wantDuration)
		}
		return time.Duration(n) * day, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, errors.New("want " + wantDuration)
	}
	return d, nil
}

func parseDuration(dst *time.Duration, v string, least, most time.Duration) error {
	d, err := ParseDuration(v)
	if err != nil || d < least || d > most {
		return errValue
	}
	*dst = d
	return nil
}

// sizeUnits are in order of matching: a suffix comes after those that end in it.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// parseSize reads a whole number of bytes with or without a unit: 64MiB, 64 MB.
func parseSize(v string, least, most int64) (int64, error) {
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(v, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(digits, " "), 10, 64)
		if err != nil || strings.HasPrefix(digits, "+") || n < 0 || n > math.MaxInt64/unit.bytes {
			return 0, errValue
		}
		if n *= unit.bytes; n < least || n > most {
			return 0, errValue
		}
		return n, nil
	}
	return 0, errValue
}
