package postgres

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// listenPing is how often a silent LISTEN connection is asked whether it is
	// alive: a peer that vanished sends no notification, and no error either.
	listenPing        = 15 * time.Second
	listenPingTimeout = 5 * time.Second

	listenRetryFirst = 50 * time.Millisecond
	listenRetryLast  = 5 * time.Second

	// listenSettled is how long an attempt must have lasted for the next failure
	// to be news, and no part of the same outage. It is longer than a connection
	// attempt can hang.
	listenSettled = 30 * time.Second
)

// listener owns the connection that listens for commits. It is made on the first
// Wait, so that a process that never waits holds none.
type listener struct {
	cfg   *pgx.ConnConfig
	ping  time.Duration // see listenPing
	log   *slog.Logger
	ctx   context.Context // ends with the store
	wake  chan struct{}   // holds one wake-up: more say no more
	up    atomic.Bool     // LISTEN is in force
	start sync.Once
	done  chan struct{} // closed when run has returned
}

func newListener(ctx context.Context, cfg *pgx.ConnConfig, log *slog.Logger) *listener {
	return &listener{cfg: cfg, ping: listenPing, log: log, ctx: ctx, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// stop waits until the connection is gone. The context must have ended.
func (l *listener) stop() {
	l.start.Do(func() { close(l.done) }) // it never ran, and never will
	<-l.done
}

// Wait implements store.Reader. Through a pooler in transaction mode LISTEN has
// no effect: Wait then returns only when the connection is made anew, and the
// caller polls beneath it.
func (s *Store) Wait(ctx context.Context) error {
	l := s.listener
	l.start.Do(func() {
		go func() {
			defer close(l.done)
			l.run()
		}()
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return errClosed
	case <-l.wake:
		return nil
	}
}

// run listens until the store is closed.
func (l *listener) run() {
	retry := listenRetryFirst
	for failures := 0; ; failures++ {
		began := time.Now()
		err := l.listen()
		if l.ctx.Err() != nil {
			return
		}
		if time.Since(began) > listenSettled {
			failures, retry = 0, listenRetryFirst
		}
		wait := retry/2 + rand.N(retry) // a fleet must not come back as one
		level := slog.LevelDebug
		if failures == 0 {
			level = slog.LevelWarn // once for each outage
		}
		l.log.Log(l.ctx, level, "not listening for changes, polling alone finds them", "error", err, "retry_in", wait)
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(wait):
		}
		retry = min(2*retry, listenRetryLast)
	}
}

// listen connects and passes on notifications until the connection breaks.
func (l *listener) listen() error {
	ctx, cancel := context.WithTimeout(l.ctx, 2*connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, l.cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it is given up either way
	}()
	if _, err := conn.Exec(ctx, sqlListen); err != nil {
		return err
	}
	l.up.Store(true)
	defer l.up.Store(false)
	l.log.Info("listening for changes")
	// What was committed while nobody listened is found by whoever looks now.
	l.signal()
	for {
		wait, cancel := context.WithTimeout(l.ctx, l.ping)
		_, err := conn.WaitForNotification(wait)
		silent := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			l.signal()
		case l.ctx.Err() != nil:
			return l.ctx.Err()
		case !silent:
			return err
		default:
			ping, cancel := context.WithTimeout(l.ctx, listenPingTimeout)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

func (l *listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
