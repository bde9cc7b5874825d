package extauthz

import (
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// coalescing makes one system call of what many checks write. grpc-go flushes a
// response of ours as soon as it is ready, since it is larger than what it would
// wait with; under load that is a write for every check, and a fifth of the time.
// Here a write is taken in at once, and sent after everybody who can run has run:
// on an idle machine that is now.
type coalescing struct {
	net.Listener
}

// Accept returns the next connection, writing as this listener says.
func (l coalescing) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &coalescedConn{Conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	c.room.L = &c.mu
	go c.send()
	return c, nil
}

const (
	// maxPending is how many bytes wait to be sent before a writer has to wait.
	maxPending = 256 << 10
	// closeTimeout bounds how long Close waits for the peer to take what is pending.
	closeTimeout = time.Second
)

// coalescedConn is a connection whose writes return before they are sent. A write
// that fails fails the ones after it and ends the connection.
type coalescedConn struct {
	net.Conn

	wake chan struct{} // something is pending, or the connection closes
	done chan struct{} // closed when send has returned

	mu      sync.Mutex // guards everything below
	room    sync.Cond  // pending shrank, or err was set
	pending []byte
	closing bool
	err     error
}

// Write takes p in. It waits while too much is pending.
func (c *coalescedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	for len(c.pending) > maxPending && c.err == nil && !c.closing {
		c.room.Wait()
	}
	if c.err == nil && c.closing {
		c.err = net.ErrClosed
	}
	if err := c.err; err != nil {
		c.mu.Unlock()
		return 0, err
	}
	c.pending = append(c.pending, p...)
	c.mu.Unlock()
	c.signal()
	return len(p), nil
}

func (c *coalescedConn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// send writes what is pending until the connection closes or a write fails.
func (c *coalescedConn) send() {
	defer close(c.done)
	var spare []byte
	for range c.wake {
		// Let those run who are about to write.
		runtime.Gosched()
		c.mu.Lock()
		out, closing := c.pending, c.closing
		c.pending = spare[:0]
		c.room.Broadcast()
		c.mu.Unlock()
		if len(out) > 0 {
			if _, err := c.Conn.Write(out); err != nil {
				c.mu.Lock()
				c.err = err
				c.pending = nil
				c.room.Broadcast()
				c.mu.Unlock()
				c.Conn.Close()
				return
			}
		}
		if spare = out; cap(spare) > maxPending {
			spare = nil
		}
		if closing {
			return
		}
	}
}

// Close sends what is pending, as far as the peer takes it within a second, and
// closes the connection.
func (c *coalescedConn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.room.Broadcast()
	c.mu.Unlock()
	c.signal()
	select {
	case <-c.done:
	default:
		c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		<-c.done
	}
	return c.Conn.Close()
}

// SyscallConn lets grpc-go wait for bytes without holding a buffer.
func (c *coalescedConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, os.ErrInvalid
}
