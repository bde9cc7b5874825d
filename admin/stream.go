package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// errStreamPanic stands for a panic that was logged.
var errStreamPanic = errors.New("the handler panicked")

// stream writes the call's answer where that has no length beforehand. One that
// cannot be finished ends with its connection, so that it does not look whole.
func (a *API) stream(w http.ResponseWriter, c *call) {
	c.out.Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	var err error
	if c.Method != http.MethodHead {
		err = a.streamed(w, c)
	}
	if err == nil {
		a.metrics.request(c.pattern, c.Method, http.StatusOK)
		return
	}
	f := failureOf(err)
	a.metrics.request(c.pattern, c.Method, f.status)
	level := slog.LevelInfo // the caller went away, or lost its key
	if f.status >= http.StatusInternalServerError && c.Context().Err() == nil {
		level = slog.LevelError
	}
	a.cfg.Logger.Log(context.WithoutCancel(c.Context()), level, "an admin answer was cut off", "request_id", c.id, "method", knownMethod(c.Method), "route", c.pattern, "status", f.status, "cause", err)
	panic(http.ErrAbortHandler)
}

func (a *API) streamed(w http.ResponseWriter, c *call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.reportPanic(c, p)
			err = errStreamPanic
		}
	}()
	return c.stream(w)
}
