package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"portcullis/cache"
	"portcullis/internal/clientaddr"
	"portcullis/internal/store"
	"portcullis/policy"
)

// call is one request on its way through the API. It belongs to one goroutine.
type call struct {
	*http.Request
	id      string // the request id
	began   cache.Instant
	now     time.Time // began as a time
	client  clientaddr.Client
	out     http.Header // of the response
	pattern string      // of the resource; "" where none was found
	route   *route      // nil where none was found
	values  []string    // of the pattern's parameters

	secret   clientSecret                    // the key as the caller sent it, in canonical form
	key      *cache.Key                      // the caller; nil on public routes
	wait     waitPlan                        // of a write
	revision *store.Revision                 // that a write made
	stream   func(http.ResponseWriter) error // writes the body; nil where the answer is at hand
}

// actor is who makes the call, for the audit.
func (c *call) actor() store.Actor {
	return store.Actor{
		Name:      policy.KindClient.String() + ":" + c.key.Name,
		Tenant:    c.key.Tenant,
		Address:   c.client.String(),
		UserAgent: userAgent(c.Request.Header),
		RequestID: c.id,
		Ack:       c.wait.all,
	}
}

// serve answers one request: it writes exactly one response, in full, whatever
// happens on the way. Only a stream may end before its time.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	began := a.cfg.Cache.Now()
	// Beyond what a handler reads before it says 413; it is for those that forget to.
	r.Body = http.MaxBytesReader(w, r.Body, maxBody+1)
	c := &call{Request: r, id: requestID(r.Header), began: began, now: time.Unix(0, began.Wall), out: w.Header()}
	c.client = a.cfg.Proxies.Client(r)
	setSecurityHeaders(c.out, c.client.HTTPS)
	c.out.Set("X-Request-Id", c.id)
	a.setCORS(c)

	status, body := a.answer(c)
	if c.stream != nil {
		a.stream(w, c)
		return
	}
	if body != nil {
		c.out.Set("Content-Type", "application/json")
	}
	c.out.Set("Content-Length", strconv.Itoa(len(body)))
	a.metrics.request(c.pattern, r.Method, status)
	w.WriteHeader(status)
	w.Write(body) // an error means that the caller went away
}

// answer runs the call and renders what came of it. A panic is a 500.
func (a *API) answer(c *call) (status int, body []byte) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		a.reportPanic(c, p)
		status, body = http.StatusInternalServerError, encodeError(http.StatusInternalServerError, messageInternal, c.now)
	}()

	answer, err := a.run(c)
	if err == nil && c.route == nil {
		return http.StatusOK, nil // OPTIONS
	}
	if err == nil && answer.stream != nil {
		c.stream = answer.stream
		return http.StatusOK, nil
	}
	if err == nil {
		if status, body, err = answer.encode(c.route.envelope, c.now); err == nil {
			return status, body
		}
	}
	f := failureOf(err)
	a.report(c, f)
	if errors.Is(f.cause, store.ErrUnreadable) {
		f.message += " The log says which, under request id " + c.id + "."
	}
	a.recordRefusal(c, f)
	if c.oauth() {
		return f.status, encodeOAuthError(f)
	}
	return f.status, f.encode(c.now)
}

// reportPanic counts and logs a panic that was recovered.
func (a *API) reportPanic(c *call, p any) {
	a.metrics.panics.Inc()
	a.cfg.Logger.Error("panic in the admin API", "request_id", c.id, "panic", p, "stack", string(debug.Stack()))
}

// report sets the headers of a failure, counts it and logs its cause.
func (a *API) report(c *call, f *failure) {
	switch f.status {
	case http.StatusUnauthorized:
		scheme := "Bearer"
		if c.oauth() {
			scheme = "Basic"
		}
		c.out.Set("WWW-Authenticate", scheme+` realm="portcullis"`)
	case http.StatusMethodNotAllowed:
		c.out.Set("Allow", strings.Join(f.allow, ", "))
	case http.StatusServiceUnavailable:
		c.out.Set("Retry-After", "1")
	}
	if f.limit != "" {
		a.metrics.limited.WithLabelValues(f.limit).Inc()
	}
	a.noteFailure(c, f)
	if f.status >= http.StatusInternalServerError {
		level := slog.LevelError
		if errors.Is(f.cause, context.Canceled) {
			level = slog.LevelInfo // the caller went away
		}
		a.cfg.Logger.Log(c.Context(), level, "admin request failed", "request_id", c.id, "method", knownMethod(c.Method), "route", c.pattern, "status", f.status, "cause", f.cause)
	}
}

// run takes the call through its steps, in the order that the package's doc
// gives.
func (a *API) run(c *call) (reply, error) {
	res, underAPI, err := a.locate(c)
	if err != nil {
		return reply{}, err
	}
	if c.Method == http.MethodOptions && res != nil {
		c.out.Set("Allow", strings.Join(res.methods, ", "))
		a.preflight(c, res)
		return reply{}, nil
	}
	var r *route
	if res != nil {
		r = res.routes[c.Method]
	}
	switch {
	case underAPI && c.Method != http.MethodOptions:
		// Every path under /api asks for a key first, so that without one nobody
		// learns which paths there are.
		if c.key, err = a.authenticate(c); err != nil {
			return a.stranger(c, res, err)
		}
		err = a.limitKey(c, c.key, r) // before the scope, whose refusals have audit rows
	case r == nil || !c.oauth(): // an OAuth client proves itself in the handler
		err = a.limitPublic(c)
	}
	if err != nil {
		return reply{}, err
	}
	if res == nil {
		return reply{}, &failure{status: http.StatusNotFound, message: "No such path."}
	}
	if r == nil {
		return reply{}, methodNotAllowed(res.methods)
	}
	c.route = r
	if r.scope != "" {
		if c.key == nil {
			return reply{}, errors.New("route " + r.pattern + " has a scope and is not under /api")
		}
		if !permits(c.key.Scopes, r.scope) {
			return reply{}, missingScope(r.scope)
		}
	}
	if err := a.admit(c); err != nil {
		return reply{}, err
	}
	return a.handle(c)
}

// stranger answers a request under /api without a valid key.
func (a *API) stranger(c *call, res *resource, err error) (reply, error) {
	refused := a.limitStranger(c, err)
	answer, err := a.retired(c, res, refused)
	if err != refused {
		a.forgive(c) // a key that was rotated away, and its reply
	}
	return answer, err
}

// locate finds the resource of the request's path; res is nil if there is none.
func (a *API) locate(c *call) (res *resource, underAPI bool, err error) {
	escaped := c.URL.EscapedPath()
	if len(escaped) > maxPath || len(c.URL.RawQuery) > maxQuery {
		return nil, false, &failure{status: http.StatusRequestURITooLong, message: "The path or the query is too long."}
	}
	segments, ok := splitPath(escaped)
	if !ok {
		return nil, false, nil
	}
	if res, c.values = a.router.find(segments); res != nil {
		c.pattern = res.pattern
	}
	return res, segments[0] == "api", nil
}

// admit checks what the route's row says about names, the body's size, and what
// a write's query asks for.
func (a *API) admit(c *call) error {
	for i, rule := range c.route.names {
		if message := rule.check(c.values[i]); message != "" {
			return badRequest(message)
		}
		if rule.word && c.Method != http.MethodDelete {
			if err := a.strictly(rule.what, c.values[i]); err != nil {
				return err
			}
		}
	}
	if c.ContentLength > maxBody {
		return &failure{status: http.StatusRequestEntityTooLarge, message: messageBodyTooBig}
	}
	if !c.route.writes {
		return nil
	}
	var err error
	c.wait, err = parseWait(c.URL.RawQuery)
	return err
}

// handle runs the handler within the store's time, then settles a write.
func (a *API) handle(c *call) (reply, error) {
	ctx, cancel := context.WithTimeout(c.Context(), a.cfg.StoreTimeout)
	defer cancel()
	outer := c.Request
	c.Request = outer.WithContext(ctx)
	answer, err := c.route.handle(c)
	c.Request = outer
	if c.revision != nil { // a refusal may be a write too: a reused refresh token
		a.settle(c)
	}
	return answer, err
}
