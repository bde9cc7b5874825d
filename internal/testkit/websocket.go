package testkit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// serveWebSocket speaks as much of RFC 6455 as an echo needs: whole, unfragmented
// frames of less than 64 KiB.
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" {
		http.Error(w, "no Sec-WebSocket-Key", http.StatusBadRequest)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", webSocketAccept(key))
	hello, err := json.Marshal(echoOf(r))
	if err != nil {
		return
	}
	opcode, message := byte(webSocketText), hello
	for {
		if writeFrame(buf, opcode, message, false) != nil || buf.Flush() != nil {
			return
		}
		if opcode, message, err = readFrame(buf.Reader); err != nil || opcode == webSocketClose {
			return
		}
	}
}

const (
	webSocketText  = 1
	webSocketClose = 8
)

func webSocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// WebSocket is the client's end of one; it is for one goroutine.
type WebSocket struct {
	conn net.Conn
	r    *bufio.Reader
}

// DialWebSocket connects to host:port and asks for an upgrade with the given
// target, Host and further headers. Where the server answers with another
// status than 101 it returns no WebSocket and the response, its body read.
func DialWebSocket(ctx context.Context, addr, target, host string, header http.Header) (*WebSocket, *http.Response, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	var req bytes.Buffer
	fmt.Fprintf(&req, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", target, host, key)
	_ = header.Write(&req)
	req.WriteString("\r\n")
	ws := &WebSocket{conn: conn, r: bufio.NewReader(conn)}
	resp, err := ws.upgrade(req.Bytes(), key)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, resp, err
	}
	return ws, resp, nil
}

func (ws *WebSocket) upgrade(req []byte, key string) (*http.Response, error) {
	if _, err := ws.conn.Write(req); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(ws.r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, err
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != webSocketAccept(key) {
		return nil, fmt.Errorf("upgraded by something else: Sec-WebSocket-Accept is %q", got)
	}
	return resp, nil
}

// Send sends one text message of less than 64 KiB.
func (ws *WebSocket) Send(text string) error {
	return writeFrame(ws.conn, webSocketText, []byte(text), true)
}

// Receive reads one text message of less than 64 KiB.
func (ws *WebSocket) Receive() (string, error) {
	_, message, err := readFrame(ws.r)
	return string(message), err
}

// Close ends the connection without a closing handshake.
func (ws *WebSocket) Close() error { return ws.conn.Close() }

// writeFrame writes one whole message of less than 64 KiB; a client
// masks what it sends.
func writeFrame(w io.Writer, opcode byte, message []byte, mask bool) error {
	if len(message) > 0xffff {
		return errors.New("message of 64 KiB or more")
	}
	frame := []byte{0x80 | opcode}
	if len(message) < 126 {
		frame = append(frame, byte(len(message)))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(len(message)))
	}
	if mask {
		frame[1] |= 0x80
		frame = append(frame, 0, 0, 0, 0) // a mask of zeros leaves the message as it is
	}
	_, err := w.Write(append(frame, message...))
	return err
}

// readFrame reads one frame of less than 64 KiB and unmasks it.
func readFrame(r *bufio.Reader) (opcode byte, message []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := int(head[1] & 0x7f)
	switch size {
	case 126:
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	case 127:
		return 0, nil, errors.New("frame of 64 KiB or more")
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	message = make([]byte, size)
	if _, err := io.ReadFull(r, message); err != nil {
		return 0, nil, err
	}
	for i := range message {
		message[i] ^= mask[i%4]
	}
	return head[0] & 0xf, message, nil
}
