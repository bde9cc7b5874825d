package ratelimit

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"
)

const second = int64(time.Second)

func rate(t testing.TB, text string) Rate {
	t.Helper()
	r, err := ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestABucketIsEmptiedAndFills(t *testing.T) {
	l := New[string](rate(t, "5/m"), 0)
	now := 100 * second
	for i := range 5 {
		s := l.Take("a", now)
		if want := (State{OK: true, Remaining: 4 - i, Reset: time.Duration(i+1) * 12 * time.Second}); s != want {
			t.Fatalf("take %d: %+v, want %+v", i+1, s, want)
		}
	}
	if s := l.Take("b", now); !s.OK {
		t.Error("another key pays for it")
	}
	// A refusal costs nothing: however many come, the wait gets shorter and ends.
	for after := range int64(12) {
		s := l.Take("a", now+after*second)
		if want := (State{Reset: time.Duration(60-after) * time.Second, Wait: time.Duration(12-after) * time.Second}); s != want {
			t.Fatalf("after %d s: %+v, want %+v", after, s, want)
		}
	}
	if s := l.Take("a", now+12*second-1); s.OK || s.Wait != 1 {
		t.Errorf("a nanosecond early: %+v", s)
	}
	if s := l.Take("a", now+12*second); !s.OK || s.Remaining != 0 {
		t.Errorf("at its time: %+v", s)
	}
	if s := l.Take("a", now+12*second); s.OK {
		t.Error("one filled in, two taken")
	}
	if s := l.Take("a", now+1000*second); s.Remaining != 4 {
		t.Errorf("a bucket holds no more than it does: %+v", s)
	}
}

func TestOffLimitsNothing(t *testing.T) {
	l := New[int](Rate{}, 1)
	for i := range 1000 {
		if s := l.Take(i%3, 0); !s.OK || s.Wait != 0 {
			t.Fatalf("%+v", s)
		}
	}
	l.GiveBack(1)
	if l.Len() != 0 {
		t.Error("it keeps buckets")
	}
}

// Whatever the rate, a period from full has Count, and two have no more than twice
// that, less one for where they touch.
func TestNoPeriodHasMore(t *testing.T) {
	for _, text := range []string{"1/s", "3/s", "7/m", "6000/m", "999999/s", "100/h"} {
		r := rate(t, text)
		l := New[int](r, 0)
		got, period := 0, int64(r.Period)
		for now := int64(0); now < 2*period; now += max(1, period/int64(4*r.Count)) {
			for l.Take(0, now).OK {
				got++
			}
			if now < l.step && got > r.Count {
				t.Fatalf("%s: %d at once", text, got)
			}
		}
		if got > 3*r.Count || got < 2*r.Count {
			t.Errorf("%s: %d in two periods", text, got)
		}
	}
}

func TestWhatIsGivenBackCanBeTaken(t *testing.T) {
	l := New[string](rate(t, "2/m"), 1)
	for _, key := range []string{"own", "beyond"} {
		l.Take(key, 0)
		l.Take(key, 0)
		if l.Take(key, 0).OK {
			t.Fatalf("%s: a third", key)
		}
		l.GiveBack(key)
		if !l.Take(key, 0).OK || l.Take(key, 0).OK {
			t.Errorf("%s: one was given back", key)
		}
	}
	// A bucket that made way was full: nothing is owed to it.
	n := New[string](rate(t, "2/m"), 0)
	n.Take("a", 0)
	n.Take("b", 100*second)
	n.GiveBack("a")
	if s := n.Take("a", 100*second); s.Remaining != 1 {
		t.Errorf("it holds more than it does: %+v", s)
	}
}

// A flood of keys takes no more memory than that, and gets nobody more than the
// rate: neither the keys that have a bucket nor those that came too late.
func TestAFloodOfKeysGetsRoundNothing(t *testing.T) {
	const most = 1000
	l := New[int](rate(t, "5/m"), most)
	taken := map[int]int{}
	for round := range 20 {
		for key := range 10 * most {
			if l.Take(key, int64(round)).OK {
				taken[key]++
			}
		}
	}
	if l.Len() != most {
		t.Fatalf("%d keys have a bucket", l.Len())
	}
	all := 0
	for key, n := range taken {
		all += n
		if n > 5 {
			t.Errorf("key %d: %d", key, n)
		}
	}
	if all > 5*(most+shared) {
		t.Errorf("%d in all", all)
	}
	// Those that have a bucket are not touched by the flood.
	for key := range most {
		if taken[key] != 5 {
			t.Fatalf("key %d: %d", key, taken[key])
		}
	}
	// A key does not get a new bucket on top of its shared one.
	late := -1
	for key := most; key < 10*most; key++ {
		if taken[key] == 5 {
			late = key
		}
	}
	if late < 0 {
		t.Fatal("no late key had a shared bucket alone")
	}
	now := 60*second + 30 // the own buckets are full; of the shared one all but a moment is back
	more := 0
	for range 10 {
		if l.Take(late, now-50*second).OK {
			more++
		}
	}
	if more > 1 {
		t.Errorf("a late key took %d more within its minute", more)
	}
}

// A late key whose turn comes takes what it owes along.
func TestALateKeyTakesItsDebtAlong(t *testing.T) {
	l := New[string](rate(t, "5/m"), 1)
	l.Take("first", 0) // full again after 12 s
	for range 5 {
		if !l.Take("late", 0).OK {
			t.Fatal("the shared bucket was not full")
		}
	}
	if s := l.Take("late", 12*second); !s.OK || s.Remaining != 0 || l.Len() != 1 {
		t.Fatalf("%+v with %d buckets: one is back after 12 s, and no more", s, l.Len())
	}
	if l.Take("late", 12*second).OK {
		t.Error("a bucket of its own began full")
	}
}

func TestTheTableEmptiesAgain(t *testing.T) {
	l := New[int](rate(t, "5/m"), 5000)
	for key := range 5000 {
		l.Take(key, 0)
	}
	for i := range 5000 {
		l.Take(10_000+i, 100*second+int64(i)*20*second)
	}
	if n := l.Len(); n > 10 {
		t.Errorf("%d buckets are left of a flood long ago", n)
	}
}

// The limiter against a plain one that remembers every take.
func TestAgainstAPlainCount(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := rate(t, "4/s")
	l := New[int](r, 0)
	level := map[int]float64{} // of each bucket, and when it was so
	at := map[int]int64{}
	now := int64(0)
	for range 20_000 {
		now += int64(random.IntN(100)) * int64(time.Millisecond)
		key := random.IntN(5)
		if _, ok := level[key]; !ok {
			level[key] = 4
		}
		level[key] = min(4, level[key]+float64(now-at[key])/float64(second)*4)
		at[key] = now
		want := level[key] >= 1-1e-9
		if want {
			level[key]--
		}
		if got := l.Take(key, now); got.OK != want {
			t.Fatalf("at %d key %d: %+v, want %t (%f)", now, key, got, want, level[key])
		}
	}
}

func TestConcurrentTakesAreCounted(t *testing.T) {
	l := New[string](rate(t, "100/h"), 2)
	var mu sync.Mutex
	var ran sync.WaitGroup
	got := map[string]int{}
	for range 8 {
		ran.Go(func() {
			for i := range 300 {
				key := strconv.Itoa(i % 3)
				if l.Take(key, 5).OK {
					mu.Lock()
					got[key]++
					mu.Unlock()
				}
			}
		})
	}
	ran.Wait()
	for key, n := range got {
		if n != 100 {
			t.Errorf("key %s: %d", key, n)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]Rate{
		"off": {}, "6000/m": {6000, time.Minute}, "10/s": {10, time.Second}, "100/h": {100, time.Hour}, "1000000/s": {1_000_000, time.Second},
	} {
		if got := rate(t, text); got != want || got.String() != text {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, text := range []string{
		"", "0", "5", "/m", "0/m", "-1/m", "+1/m", "05/m", "5/", "5/d", "5/min", "5 /m", "5/ m", " 5/m", "5/m ", "1000001/s", "9999999999999999999999/s",
		"5.5/m", "1e3/m", "5/m/s", "OFF", "Off", "none", "5/M", "٥/m",
	} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("%q is %v", text, r)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, text := range []string{"off", "5/m", "6000/m", "1000000/s", "0/h", "5/d", "01/s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err != nil {
			if r != (Rate{}) {
				t.Errorf("%v beside an error", r)
			}
			return
		}
		if r.String() != text {
			t.Fatalf("%q is shown as %q", text, r)
		}
		if !r.Limits() {
			return
		}
		// What is admitted counts: never more at once, and one after its wait.
		l := New[int](r, 1)
		if l.step < 1 || l.full < int64(r.Period) || l.full > int64(r.Period)+int64(r.Count) {
			t.Fatalf("%q: %d in %d", text, l.step, l.full)
		}
		if r.Count > 1000 {
			return
		}
		for range r.Count {
			if !l.Take(0, 7).OK {
				t.Fatalf("%q refuses too early", text)
			}
		}
		s := l.Take(0, 7)
		if s.OK || !l.Take(0, 7+int64(s.Wait)).OK {
			t.Fatalf("%q: %+v", text, s)
		}
	})
}
