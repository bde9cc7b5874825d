package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// CORS says which web pages may read the API's answers. The zero CORS is none:
// then no response carries a word of it.
//
// No answer ever allows credentials: the API takes keys from the Authorization
// header, which a page sets itself, and nothing that a browser adds on its own.
type CORS struct {
	// Origins are the pages' origins, each as a browser writes it, compared byte by byte.
	Origins []string
	// AnyOrigin takes every origin but null. It is for development.
	AnyOrigin bool
}

// What a page may send beyond what every page may, what it may read, and for how
// many seconds a browser may remember the answer to a preflight.
const (
	corsRequestHeaders  = "Authorization, Content-Type, Idempotency-Key, X-Request-Id"
	corsResponseHeaders = "Link, Retry-After, WWW-Authenticate, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, " +
		"X-Auth-Revision, X-Auth-Wait, X-Auth-Wait-Lagging, X-Request-Id, X-Total-Count"
	corsMaxAge = "600"
)

func (c CORS) enabled() bool { return c.AnyOrigin || len(c.Origins) > 0 }

func (c CORS) check() error {
	if c.AnyOrigin && len(c.Origins) > 0 {
		return errors.New("admin: Config.CORS names origins beside AnyOrigin")
	}
	for _, origin := range c.Origins {
		if origin == "null" || strings.Contains(origin, "*") {
			return errors.New("admin: Config.CORS: " + origin + " is no origin to allow")
		}
	}
	return nil
}

// setCORS lets the page of an allowed origin read the response, refusals too. Vary
// is set on every response, so that no cache gives one origin's answer to another.
func (a *API) setCORS(c *call) {
	if !a.cfg.CORS.enabled() {
		return
	}
	c.out.Add("Vary", "Origin")
	if origin := a.cfg.CORS.admits(c.Header["Origin"]); origin != "" {
		c.out.Set("Access-Control-Allow-Origin", origin)
		c.out.Set("Access-Control-Expose-Headers", corsResponseHeaders)
	}
}

// admits returns what to answer the request's Origin headers, "" for nothing.
func (c CORS) admits(origins []string) string {
	switch {
	case len(origins) != 1 || origins[0] == "null" || origins[0] == "":
		return ""
	case c.AnyOrigin:
		return "*"
	case slices.Contains(c.Origins, origins[0]):
		return origins[0]
	}
	return ""
}

// preflight adds to the answer of OPTIONS what a browser asks before it sends a
// page's request. Whoever is not allowed gets the plain answer.
func (a *API) preflight(c *call, res *resource) {
	if !a.cfg.CORS.enabled() {
		return
	}
	c.out.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	if c.out.Get("Access-Control-Allow-Origin") == "" || c.Header.Get("Access-Control-Request-Method") == "" {
		return
	}
	methods := slices.DeleteFunc(slices.Clone(res.methods), func(m string) bool { return m == http.MethodOptions })
	c.out.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	c.out.Set("Access-Control-Allow-Headers", corsRequestHeaders)
	c.out.Set("Access-Control-Max-Age", corsMaxAge)
}
