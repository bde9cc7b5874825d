package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// client keeps a number of calls under way on one connection, one goroutine for
// all of them, so that the load costs little beside what it measures.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	framer  *http2.Framer
	headers []byte // the block of the next call
	later   []byte // the block of the calls after it
	decoder *hpack.Decoder
	status  string // grpc-status of the block being decoded

	next    uint32 // next stream id
	calls   map[uint32]*callState
	window  int64  // what the server lets us send on the connection
	unacked uint32 // received and not yet given back
	corpus  *requests
	waiting []waitingCall // calls that the window has no room for
}

type waitingCall struct {
	which int
	since time.Time
}

type callState struct {
	which int
	sent  time.Time
	body  []byte
}

const checkPath = "/envoy.service.auth.v3.Authorization/Check"

func dial(ctx context.Context, socket string) (*client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, w: bufio.NewWriterSize(conn, 256<<10), next: 1, calls: make(map[uint32]*callState), window: 65535}
	c.r = bufio.NewReaderSize(conn, 256<<10)
	c.framer = http2.NewFramer(c.w, c.r)
	c.framer.SetReuseFrames()
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			c.status = f.Value
		}
	})
	c.headers, c.later = headerBlocks()
	if _, err := c.w.WriteString(http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		return nil, err
	}
	if err := c.framer.WriteWindowUpdate(0, 1<<30); err != nil {
		return nil, err
	}
	return c, c.w.Flush()
}

// headerBlocks encodes the request's header fields as a client does that lives
// long: the first block fills the server's table, every later one refers to it and
// so is the same bytes each time.
func headerBlocks() (first, later []byte) {
	var out bytes.Buffer
	e := hpack.NewEncoder(&out)
	block := func() []byte {
		out.Reset()
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", checkPath}, {":authority", "gate"},
			{"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", "envoy"},
		} {
			e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return bytes.Clone(out.Bytes())
	}
	first = block()
	return first, block()
}

// sample is what one run of load gave.
type sample struct {
	latencies []time.Duration
	took      time.Duration
}

// load keeps streams calls under way for the given time, taking the requests of
// corpus in turn from start, and checks every verdict with judge.
func (c *client) load(ctx context.Context, corpus *requests, judge func(*request, []byte) error, streams int, length time.Duration, start int) (sample, error) {
	var s sample
	c.corpus = corpus
	began := time.Now()
	stop := began.Add(length)
	if err := c.conn.SetDeadline(stop.Add(10 * time.Second)); err != nil {
		return s, err
	}
	which := start
	for range streams {
		if err := c.send(which, time.Now()); err != nil {
			return s, err
		}
		which++
	}
	if err := c.w.Flush(); err != nil {
		return s, err
	}
	for len(c.calls)+len(c.waiting) > 0 {
		done, err := c.read()
		if err != nil {
			return s, err
		}
		if done != nil {
			now := time.Now()
			s.latencies = append(s.latencies, now.Sub(done.sent))
			if c.status != "0" {
				return s, fmt.Errorf("grpc-status %q", c.status)
			}
			if err := judge(&corpus.all[done.which%len(corpus.all)], done.body); err != nil {
				return s, err
			}
			if now.Before(stop) && ctx.Err() == nil {
				if err := c.send(which, now); err != nil {
					return s, err
				}
				which++
			}
		}
		if err := c.flushIfIdle(); err != nil {
			return s, err
		}
	}
	s.took = time.Since(began)
	return s, ctx.Err()
}

// flushIfIdle sends what is written once everything received was read, so that
// one write carries many calls.
func (c *client) flushIfIdle() error {
	if c.w.Buffered() == 0 {
		return nil
	}
	if c.r.Buffered() > 0 && c.w.Buffered() < 128<<10 {
		return nil
	}
	return c.w.Flush()
}

func (c *client) send(which int, now time.Time) error {
	req := c.corpus.all[which%len(c.corpus.all)].bytes
	if c.window < int64(len(req)) {
		// Rare: the call begins now, and waits for the server's window.
		c.waiting = append(c.waiting, waitingCall{which, now})
		return nil
	}
	id := c.next
	c.next += 2
	c.calls[id] = &callState{which: which, sent: now}
	c.window -= int64(len(req))
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headers, EndHeaders: true}); err != nil {
		return err
	}
	c.headers = c.later
	return c.framer.WriteData(id, true, req)
}

// read reads one frame; it returns a call when the frame ended one.
func (c *client) read() (*callState, error) {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return nil, err
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return nil, c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return nil, c.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
			waiting := c.waiting
			c.waiting = nil
			for _, k := range waiting {
				if err := c.send(k.which, k.since); err != nil {
					return nil, err
				}
			}
		}
	case *http2.DataFrame:
		if k := c.calls[f.StreamID]; k != nil {
			k.body = append(k.body, f.Data()...)
		}
		c.unacked += f.Length
		if c.unacked > 1<<20 {
			n := c.unacked
			c.unacked = 0
			return nil, c.framer.WriteWindowUpdate(0, n)
		}
	case *http2.HeadersFrame:
		c.status = ""
		if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
			return nil, err
		}
		if !f.HeadersEnded() {
			return nil, errors.New("a header block in several frames")
		}
		if f.StreamEnded() {
			k := c.calls[f.StreamID]
			delete(c.calls, f.StreamID)
			return k, nil
		}
	case *http2.RSTStreamFrame:
		return nil, fmt.Errorf("stream reset: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		return nil, fmt.Errorf("connection ended by the server: %v", f.ErrCode)
	}
	return nil, nil
}

func (c *client) close() { c.conn.Close() }

// message cuts the gRPC frame off a body.
func message(body []byte) ([]byte, error) {
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
		return nil, fmt.Errorf("a response of %d bytes that is no gRPC message", len(body))
	}
	return body[5:], nil
}
