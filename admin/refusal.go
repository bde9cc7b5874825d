package admin

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"time"
)

// What net/http cannot read as a request (a broken percent-encoding, a control
// byte in the request line, headers beyond its limit) it refuses itself, in
// plain text and without the headers of every response, and no handler sees it.
// plainListener gives those refusals the API's form. It works on connections in
// the clear only: over TLS net/http insists on its own connection type, and the
// same requests get the same status in plain text.

type plainListener struct{ net.Listener }

func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plainConn{c}, nil
}

type plainConn struct{ net.Conn }

// refusalHeaders is what net/http writes after the status line of a refusal, and
// nothing else writes there: a handler's response begins with other headers.
var refusalHeaders = []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// Write passes p on; a refusal, which comes in one piece, in the API's form.
func (c plainConn) Write(p []byte) (int, error) {
	status, ok := refusalStatus(p)
	if !ok {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(refusal(status, time.Now())); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite lets net/http end its side first, so that the caller gets to read
// the refusal.
func (c plainConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// refusalStatus reads the status of a refusal.
func refusalStatus(p []byte) (status int, ok bool) {
	line, rest, found := bytes.Cut(p, []byte("\r\n"))
	if !found || !bytes.HasPrefix(rest, refusalHeaders) {
		return 0, false
	}
	_, line, _ = bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(line, []byte(" "))
	status, err := strconv.Atoi(string(code))
	if err != nil || status < 400 {
		return 0, false
	}
	if status >= 500 {
		// An HTTP version or a transfer encoding that is not known: the caller's
		// doing, and what a caller can cause is no fault of ours.
		status = http.StatusBadRequest
	}
	return status, true
}

func refusal(status int, now time.Time) []byte {
	body := encodeError(status, "This is not a request that can be read: "+http.StatusText(status)+".", now)
	h := http.Header{}
	setSecurityHeaders(h, false)
	h.Set("X-Request-Id", requestID(nil))
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Connection", "close")
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n")
	h.Write(&b) // a Buffer takes everything
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
