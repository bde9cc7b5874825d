package admin

import (
	"net/http"
	"time"
)

// Timeouts bound every phase of a connection, so that nobody holds one by being
// slow. A zero field is its default.
type Timeouts struct {
	// Header is how long a TLS handshake may take, and then each request's header;
	// 5 s.
	Header time.Duration
	// Request is how long a request may take to come in, from its first byte to the
	// last of its body; 15 s.
	Request time.Duration
	// Write is how long the caller may take to receive what one write of the answer
	// hands over, an ordinary answer being one write; 30 s.
	Write time.Duration
	// Idle is how long a connection may stand between requests; 2 min.
	Idle time.Duration
}

func (t Timeouts) negative() bool { return t.Header < 0 || t.Request < 0 || t.Write < 0 || t.Idle < 0 }

func (t *Timeouts) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		unset time.Duration
	}{
		{&t.Header, 5 * time.Second}, {&t.Request, 15 * time.Second},
		{&t.Write, 30 * time.Second}, {&t.Idle, 2 * time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.unset
		}
	}
}

// timeWrites is next, with the time of each write bounded. The server's own
// WriteTimeout runs from the request's header on, so it must hold the longest
// ?wait=all as well: too long for a caller that does not read.
func timeWrites(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&timedWriter{ResponseWriter: w, timeout: timeout}, r)
	})
}

type timedWriter struct {
	http.ResponseWriter
	timeout time.Duration
}

func (w *timedWriter) Write(p []byte) (int, error) {
	// A connection that cannot be given a deadline has been closed.
	if err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
