package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"portcullis/internal/store"
)

// wakeWithin is how long a commit may take to wake a waiter in this suite. It
// takes some 25 ms at most; the rest is for a busy machine.
const wakeWithin = 5 * time.Second

func testWait(t *testing.T, h Harness) {
	// settle waits until nothing is left to tell.
	settle := func(k *kit) {
		k.Helper()
		for {
			ctx, cancel := context.WithTimeout(k.ctx, 120*time.Millisecond)
			err := k.Wait(ctx)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				return
			}
			if err != nil {
				k.Fatalf("wait: %v", err)
			}
		}
	}
	// until waits until the store is at want.
	until := func(k *kit, want store.Revision) {
		k.Helper()
		ctx, cancel := context.WithTimeout(k.ctx, wakeWithin)
		defer cancel()
		for k.head() != want {
			if err := k.Wait(ctx); err != nil {
				k.Fatalf("wait for revision %d, at %d: %v", want.Number, k.head().Number, err)
			}
		}
	}

	for _, from := range []string{"this handle", "another process"} {
		t.Run("a commit of "+from+" wakes", func(t *testing.T) {
			k := newKit(t, h)
			writer := k
			if from == "another process" {
				writer = k.second()
			}
			settle(k)
			for i := range 9 {
				woke := make(chan error, 1)
				ctx, cancel := context.WithTimeout(k.ctx, wakeWithin)
				go func() { woke <- k.Wait(ctx) }()
				time.Sleep(time.Duration(i) * 8 * time.Millisecond)
				writer.role(k.tenant, fmt.Sprint("role", i))
				if err := <-woke; err != nil {
					t.Errorf("commit %d: %v", i, err)
				}
				cancel()
				settle(k)
			}
		})
	}

	t.Run("a commit between two waits is not lost", func(t *testing.T) {
		k := newKit(t, h)
		second := k.second()
		settle(k)
		for i, writer := range []*kit{k, second, k, second} {
			writer.role(k.tenant, fmt.Sprint("role", i))
			time.Sleep(60 * time.Millisecond)
			ctx, cancel := context.WithTimeout(k.ctx, wakeWithin)
			if err := k.Wait(ctx); err != nil {
				t.Errorf("wait after the commit: %v", err)
			}
			cancel()
			settle(k)
		}
	})

	t.Run("a commit before the first wait is not lost", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		k.second().role(k.tenant, "editor")
		ctx, cancel := context.WithTimeout(k.ctx, wakeWithin)
		defer cancel()
		if err := k.Wait(ctx); err != nil {
			t.Error(err)
		}
		if k.head() == before {
			t.Error("the head is what it was")
		}
	})

	t.Run("no wake-up is lost in a storm", func(t *testing.T) {
		k := newKit(t, h)
		second := k.second()
		last := make(chan store.Revision, 1)
		go func() {
			var r store.Result
			for i := range 60 {
				var err error
				if r, err = []*kit{k, second}[i%2].PutRole(k.ctx, k.by, k.tenant, fmt.Sprint("role", i), nil); err != nil {
					t.Errorf("write: %v", err)
				}
				time.Sleep(time.Duration(i%7) * time.Millisecond)
			}
			last <- r.Revision
		}()
		for done := false; !done; {
			select {
			case want := <-last:
				until(k, want)
				done = true
			default:
				ctx, cancel := context.WithTimeout(k.ctx, wakeWithin)
				if err := k.Wait(ctx); err != nil && len(last) == 0 {
					t.Errorf("wait while writes go on: %v", err)
				}
				cancel()
			}
		}
	})

	t.Run("a wait ends with its context", func(t *testing.T) {
		k := newKit(t, h)
		settle(k)
		ctx, cancel := context.WithCancel(k.ctx)
		ended := make(chan error, 1)
		go func() { ended <- k.Wait(ctx) }()
		time.Sleep(20 * time.Millisecond)
		cancel()
		select {
		case err := <-ended:
			k.wantErr(err, context.Canceled)
		case <-time.After(wakeWithin):
			t.Fatal("it goes on")
		}
		// And the next one hears as before.
		writer := k.second()
		woke := make(chan error, 1)
		next, stop := context.WithTimeout(k.ctx, wakeWithin)
		defer stop()
		go func() { woke <- k.Wait(next) }()
		writer.role(k.tenant, "editor")
		if err := <-woke; err != nil {
			t.Errorf("wait after a wait that was given up: %v", err)
		}
	})
}
