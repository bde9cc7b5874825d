package extauthz

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// coalescedPair is a coalesced connection and the peer that it talks to.
func coalescedPair(t *testing.T) (ours net.Conn, peer *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l := coalescing{inner}
	t.Cleanup(func() { l.Close() })
	dialed, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	ours, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, dialed.(*net.UnixConn)
}

func TestWritesArriveWholeAndInOrderBeforeTheClose(t *testing.T) {
	ours, peer := coalescedPair(t)
	var want bytes.Buffer
	go func() {
		for i := range 2000 {
			chunk := bytes.Repeat([]byte{byte(i)}, i%1500)
			if n, err := ours.Write(chunk); n != len(chunk) || err != nil {
				t.Errorf("write %d: %d, %v", i, n, err)
			}
			// The caller may use its buffer again at once.
			clear(chunk)
		}
		if err := ours.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 2000 {
		want.Write(bytes.Repeat([]byte{byte(i)}, i%1500))
	}
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), want.Len(), err)
	}
}

func TestPeerThatDoesNotReadHoldsTheWriterUpAndNoLongerThanTheClose(t *testing.T) {
	ours, _ := coalescedPair(t)
	written := make(chan int, 1)
	go func() {
		total := 0
		for {
			n, err := ours.Write(make([]byte, 32<<10))
			total += n
			if err != nil {
				written <- total
				return
			}
		}
	}()
	select {
	case n := <-written:
		t.Fatalf("the writer failed after %d bytes", n)
	case <-time.After(200 * time.Millisecond):
		// It waits, and has not piled up what the peer does not take.
	}
	began := time.Now()
	ours.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the close took %v", took)
	}
	select {
	case n := <-written:
		if n > 8<<20 {
			t.Errorf("%d bytes were taken in", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("the writer still waits")
	}
}

func TestWriteFailsOnceThePeerIsGone(t *testing.T) {
	ours, peer := coalescedPair(t)
	peer.Close()
	for end := time.Now().Add(10 * time.Second); ; {
		if _, err := ours.Write(make([]byte, 1<<10)); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("writes to a peer that is gone go on succeeding")
		}
		time.Sleep(time.Millisecond)
	}
	ours.Close()
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("a write after the close succeeded")
	}
}
