package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// CORS says which web pages may use the admin API.
type CORS struct {
	Enabled   bool     // AUTH_ALLOW_CORS
	Origins   []string // each as a browser writes it
	AnyOrigin bool     // `*`, in debug mode only; then there are no Origins
}

const wantOrigins = "origins joined by commas, such as https://app.example.com,https://admin.example.com:8443"

// parseOrigins reads AUTH_CORS_ORIGINS.
func parseOrigins(c *CORS, v string) error {
	if v == "" {
		return nil
	}
	if v == "*" {
		c.AnyOrigin = true
		return nil
	}
	for part := range strings.SplitSeq(v, ",") {
		origin := strings.TrimSpace(part)
		if origin == "*" {
			return errors.New("`*` stands alone")
		}
		if err := checkOrigin(origin); err != nil {
			return err
		}
		if slices.Contains(c.Origins, origin) {
			return errors.New("an origin comes twice")
		}
		c.Origins = append(c.Origins, origin)
	}
	return nil
}

// checkOrigin refuses what no browser sends as an Origin: it would never match. The
// error says what to write, and quotes nothing that is no origin.
func checkOrigin(text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "null":
		return errors.New("null is the origin of every sandboxed page and file, so it can stand for nobody")
	case strings.Contains(text, "*"):
		return errors.New("an origin is written in full, without wildcards")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Opaque != "":
		return errors.New("an origin is a scheme, a host and perhaps a port, such as https://app.example.com")
	}
	host, port := u.Hostname(), u.Port()
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return errors.New("a host is written in ASCII, an international one as xn--")
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	exact := u.Scheme + "://" + strings.ToLower(host)
	if port != "" && port != map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		exact += ":" + port
	}
	if text != exact {
		return errors.New("a browser writes that origin as " + exact)
	}
	return nil
}

// checkCORS holds the settings of CORS against one another.
func (l *loader) checkCORS(c *Config) {
	const name = "AUTH_CORS_ORIGINS"
	named := c.CORS.AnyOrigin || len(c.CORS.Origins) > 0
	switch {
	case c.CORS.Enabled && l.look(name).value == "":
		l.problem(name, "is missing, and AUTH_ALLOW_CORS is true: name the origins of the pages that may use the admin API")
	case c.CORS.AnyOrigin && !c.DebugMode:
		l.problem(name, "is *, which lets every web page read the answers: name the origins, or set AUTH_DEBUG_MODE=true for development")
	case c.CORS.AnyOrigin && c.CORS.Enabled:
		l.warn(name, "is *: every web page may read the answers; not for production")
	case named && !c.CORS.Enabled:
		l.warn(name, "has no effect, since AUTH_ALLOW_CORS is not true")
	}
	for _, origin := range c.CORS.Origins {
		host, plain := strings.CutPrefix(origin, "http://")
		if u, err := url.Parse(origin); plain && err == nil && !loopback(u.Hostname()) && c.CORS.Enabled {
			l.warn(name, "http://%s is in the clear: whoever sits on the way can put a page of his own there", host)
		}
	}
}
