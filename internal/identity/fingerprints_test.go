package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// digest is the n-th of an endless row of digests.
func digest(n int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// consistent checks the table's invariants, with nobody writing.
func consistent(t *testing.T, f *Fingerprints) {
	t.Helper()
	table := f.table.Load()
	live, tombstones := 0, 0
	for i := range table.slots {
		switch table.slots[i].Load() {
		case slotEmpty:
		case slotRemoved:
			tombstones++
		default:
			live++
		}
	}
	if live != f.Len() || live+tombstones != table.used || 2*table.used > len(table.slots) {
		t.Fatalf("%d live, %d tombstones in %d slots; Len %d, used %d", live, tombstones, len(table.slots), f.Len(), table.used)
	}
}

func TestFingerprints(t *testing.T) {
	f := NewFingerprints()
	if f.Has(digest(1)) || f.Len() != 0 {
		t.Error("the empty set has something")
	}
	f.Add(digest(1))
	f.Add(digest(1))
	f.Remove(digest(2))
	if !f.Has(digest(1)) || f.Has(digest(2)) || f.Len() != 1 {
		t.Error("one digest, added twice")
	}
	f.Remove(digest(1))
	f.Remove(digest(1))
	if f.Has(digest(1)) || f.Len() != 0 {
		t.Error("the digest was removed")
	}
	consistent(t, f)
}

// The set against a map, through growth, removals and tombstones.
func TestFingerprintsAgainstAMap(t *testing.T) {
	f, model := NewFingerprints(), map[int]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	for step := range 200_000 {
		// The range moves, so that removed ones are rarely added again.
		n := step/20 + rng.IntN(4000)
		if rng.IntN(2) == 0 {
			f.Add(digest(n))
			model[n] = true
		} else {
			f.Remove(digest(n))
			delete(model, n)
		}
	}
	consistent(t, f)
	if f.Len() != len(model) {
		t.Errorf("%d digests, want %d", f.Len(), len(model))
	}
	for n := range 15_000 {
		if f.Has(digest(n)) != model[n] {
			t.Fatalf("%d: %v", n, f.Has(digest(n)))
		}
	}
}

// Keys that come and go for ever must not make the table grow.
func TestTombstonesAreSweptUp(t *testing.T) {
	f := NewFingerprints()
	for n := range 100_000 {
		f.Add(digest(n))
		f.Remove(digest(n - 10))
	}
	consistent(t, f)
	if f.Len() != 10 || f.Bytes() > 2*minSlots*8 {
		t.Errorf("%d digests in %d bytes", f.Len(), f.Bytes())
	}
}

func TestReplace(t *testing.T) {
	f := NewFingerprints()
	f.Add(digest(1))
	f.Replace(func(add func([32]byte)) {
		for n := 2; n < 5000; n++ {
			add(digest(n))
			add(digest(n))
			if f.Has(digest(n)) || !f.Has(digest(1)) {
				t.Fatal("a reader sees a part of the new set")
			}
		}
	})
	consistent(t, f)
	if f.Has(digest(1)) || !f.Has(digest(2)) || !f.Has(digest(4999)) || f.Len() != 4998 {
		t.Errorf("after Replace: %d", f.Len())
	}
	broken := errors.New("the store went away")
	if err := f.Load(func(add func([32]byte)) error { add(digest(1)); return broken }); err != broken {
		t.Errorf("got %v", err)
	}
	if f.Has(digest(1)) || !f.Has(digest(2)) || f.Len() != 4998 {
		t.Error("a load that failed changed the set")
	}
}

// An Add or Remove during Replace is not lost.
func TestWritesDuringReplace(t *testing.T) {
	f := NewFingerprints()
	f.Add(digest(1))
	var writers sync.WaitGroup
	f.Replace(func(add func([32]byte)) {
		add(digest(1))
		for n := range 4 {
			writers.Go(func() { f.Add(digest(10 + n)) })
		}
		writers.Go(func() { f.Remove(digest(1)) })
		runtime.Gosched()
	})
	writers.Wait()
	if f.Has(digest(1)) || !f.Has(digest(10)) || !f.Has(digest(13)) || f.Len() != 4 {
		t.Errorf("after both: %d", f.Len())
	}
}

// What is in the set all along is found at every moment, and what is never in it
// never is, whatever writers do.
func TestReadersBesideWriters(t *testing.T) {
	f := NewFingerprints()
	const steady = 2000
	for n := range steady {
		f.Add(digest(n))
	}
	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for n := 0; !stop.Load(); n++ {
				if !f.Has(digest(n % steady)) {
					t.Errorf("%d was lost", n%steady)
					return
				}
				if f.Has(digest(-1 - n%steady)) {
					t.Errorf("%d was never added", -1-n%steady)
					return
				}
			}
		})
	}
	for w := range 3 {
		writers.Go(func() {
			base := steady * (w + 1)
			for round := range 10 {
				for n := range steady / 2 {
					f.Add(digest(base + n))
				}
				for n := range steady / 2 {
					f.Remove(digest(base + n))
				}
				if w == 0 && round%3 == 0 {
					f.Replace(func(add func([32]byte)) {
						for n := range steady {
							add(digest(n))
						}
					})
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	consistent(t, f)
	if f.Len() != steady {
		t.Errorf("%d left, want %d", f.Len(), steady)
	}
}

// Two processes place a digest differently, so nobody can prepare keys that fill
// one stretch of the table.
func TestFingerprintsAreKeyed(t *testing.T) {
	a, b := NewFingerprints(), NewFingerprints()
	same := 0
	for n := range 100 {
		d := digest(n)
		if a.fingerprint(&d) == b.fingerprint(&d) {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d of 100 fingerprints are equal in two sets", same)
	}
}

func TestHasAllocatesNothing(t *testing.T) {
	f := NewFingerprints()
	f.Add(digest(1))
	d := digest(1)
	if n := testing.AllocsPerRun(100, func() { f.Has(d) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// The table takes 16 to 24 bytes for each fingerprint at every size, once it is
// past its least one. (The benchmark prints what a million take.)
func TestMemory(t *testing.T) {
	f := NewFingerprints()
	for n := range 100_000 {
		f.Add(digest(n))
		if each := float64(f.Bytes()) / float64(n+1); n > minSlots && (each < 16 || each > 24.1) {
			t.Fatalf("%d fingerprints take %.1f bytes each", n+1, each)
		}
	}
}

func BenchmarkFingerprints(b *testing.B) {
	for _, size := range []int{1000, 1_000_000} {
		f := NewFingerprints()
		f.Replace(func(add func([32]byte)) {
			for n := range size {
				add(digest(n))
			}
		})
		const asked = 1 << 14
		for name, first := range map[string]int{"present": 0, "junk": size} {
			digests := make([][32]byte, asked)
			for i := range digests {
				digests[i] = digest(first + i*max(1, size/asked)%size)
			}
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					f.Has(digests[i&(asked-1)])
					i++
				}
				b.ReportMetric(float64(f.Bytes())/1e6, "MB")
			})
		}
	}
}
