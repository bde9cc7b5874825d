package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// stage is parts of a process that run side by side and end together. A process
// is a row of stages, ended from the last to the first.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	parts  sync.WaitGroup
	failed chan<- error
}

// newStage makes an empty stage. A part that ends before it was asked to is told
// to failed, which must have room for one error; what does not fit is dropped.
func newStage(failed chan<- error) *stage {
	ctx, cancel := context.WithCancel(context.Background())
	return &stage{ctx: ctx, cancel: cancel, failed: failed}
}

// run starts a part, which must return once its context ends.
func (s *stage) run(name string, part func(context.Context) error) {
	s.parts.Go(func() {
		err := part(s.ctx)
		if err == nil && s.ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		select {
		case s.failed <- fmt.Errorf("%s: %w", name, err):
		default:
		}
	})
}

// end asks every part to return, and waits until all have.
func (s *stage) end() {
	s.cancel()
	s.parts.Wait()
}
