package decisionlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// batchSize is how many bytes are gathered before they are written, should more
	// lines be waiting.
	batchSize = 64 << 10
	// rotateEvery is how often the path is compared with the open file.
	rotateEvery = time.Second
	// complainEvery spaces the messages about write errors.
	complainEvery = 10 * time.Second
)

// write is Run's loop: it gathers the lines that wait, and writes them as soon as
// no more do.
func (l *Log) write(ctx context.Context) error {
	rotate := time.NewTicker(rotateEvery)
	defer rotate.Stop()
	for {
		select {
		case ln := <-l.queue:
			l.gather(ln)
		case <-rotate.C:
			l.out.reopenIfRotated()
		case <-ctx.Done():
			for {
				select {
				case ln := <-l.queue:
					l.gather(ln)
				default:
					return l.out.close()
				}
			}
		}
	}
}

// gather batches the line and those that wait behind it, and writes the batch.
func (l *Log) gather(ln *line) {
	for {
		l.out.add(ln.buf)
		l.lines.Put(ln)
		if len(l.out.batch) >= batchSize {
			break
		}
		select {
		case ln = <-l.queue:
			continue
		default:
		}
		break
	}
	l.out.flush()
}

// output is where the lines go. Only Run's loop uses it.
type output struct {
	path   string // "" for a writer that is not ours to open
	file   *os.File
	writer io.Writer

	batch   []byte // whole lines
	lines   int    // in batch
	midLine bool   // the last write ended inside a line

	written, errors prometheus.Counter
	logger          *slog.Logger
	complained      time.Time
}

// open opens the file, and on success replaces the one that was open.
func (o *output) open() error {
	file, err := os.OpenFile(o.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if o.file != nil {
		if err := o.file.Close(); err != nil {
			o.complain("close the rotated decision log", err)
		}
	}
	o.file, o.writer, o.midLine = file, file, false
	return nil
}

// reopenIfRotated opens the path again if it no longer names the open file. Where
// that fails, the former file is written on, and the next second tries again.
func (o *output) reopenIfRotated() {
	if o.file == nil {
		return
	}
	ours, err := o.file.Stat()
	if err != nil {
		o.complain("look at the decision log", err)
		return
	}
	if named, err := os.Stat(o.path); err == nil && os.SameFile(ours, named) {
		return
	}
	if err := o.open(); err != nil {
		o.complain("reopen the decision log", err)
	}
}

// add puts a line into the batch.
func (o *output) add(ln []byte) {
	if len(o.batch) == 0 && o.midLine {
		o.batch = append(o.batch, '\n')
	}
	o.batch = append(o.batch, ln...)
	o.lines++
}

// flush writes the batch. Lines that could not be written are counted and gone:
// keeping them would only move the loss to the queue.
func (o *output) flush() {
	if len(o.batch) == 0 {
		return
	}
	n, err := o.writer.Write(o.batch)
	if err == nil && n < len(o.batch) {
		err = io.ErrShortWrite
	}
	lost := 0
	if n > 0 {
		o.midLine = o.batch[n-1] != '\n'
	}
	if err != nil {
		lost = min(o.lines, bytes.Count(o.batch[n:], []byte{'\n'}))
		o.complain("write the decision log", err)
	}
	o.written.Add(float64(o.lines - lost))
	o.errors.Add(float64(lost))
	o.batch, o.lines = o.batch[:0], 0
}

// close closes the file, if it is ours.
func (o *output) close() error {
	if o.file == nil {
		return nil
	}
	err := o.file.Close()
	o.file = nil
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the decision log: %w", err)
	}
	return nil
}

func (o *output) complain(what string, err error) {
	if now := time.Now(); now.Sub(o.complained) >= complainEvery {
		o.complained = now
		o.logger.Error("could not "+what, "error", err)
	}
}
