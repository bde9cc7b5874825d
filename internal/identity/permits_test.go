package identity

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/policy"
)

// Never more run than there are permits, never more wait than may, and the rest is
// told at once.
func TestPermitsAreBounded(t *testing.T) {
	p := newPermits(2, 3)
	var running, most, refused atomic.Int64
	hold := make(chan struct{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if !p.acquire(nil) {
				refused.Add(1)
				return
			}
			defer p.release()
			now := running.Add(1)
			for {
				old := most.Load()
				if now <= old || most.CompareAndSwap(old, now) {
					break
				}
			}
			<-hold
			running.Add(-1)
		})
	}
	for refused.Load() < 45 || running.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if most.Load() != 2 || refused.Load() != 45 {
		t.Errorf("%d ran at once, %d were refused", most.Load(), refused.Load())
	}
	// Who waits past the deadline goes, and leaves the place.
	p.acquire(nil)
	p.acquire(nil)
	past := make(chan time.Time)
	close(past)
	for range 10 {
		if p.acquire(past) {
			t.Fatal("a third permit")
		}
	}
	if p.waiting.Load() != 0 {
		t.Error("a place in the queue was lost")
	}
}

// Where the pool is full a token is denied as overloaded, not as invalid; tokens of
// our own do not need it.
func TestFullPoolSheds(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, _, _ := newVerifiers(t, func(c *VerifiersConfig) { c.Workers, c.Queue, c.Wait = 1, 1, 50*time.Millisecond }, p.entry())
	token := outsideToken()
	mustAccept(t, v, token)
	v.permits.acquire(nil)
	mustRefuse(t, v, token, policy.ReasonOverloaded, "too many signatures")
	mustAccept(t, v, signed(goodHeader, object(nil)))
	if testutil.ToFloat64(v.metrics.shed) == 0 {
		t.Error("not counted")
	}
	v.permits.release()
	mustAccept(t, v, token)
}

// A flood of distinct junk signatures changes no verdict on good tokens: those are
// accepted, or shed, and never called invalid.
func TestVerdictsUnderFlood(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, _, _ := newVerifiers(t, func(c *VerifiersConfig) { c.Workers, c.Queue = 2, 8 }, p.entry())
	mustAccept(t, v, outsideToken())
	stop := make(chan struct{})
	var flood sync.WaitGroup
	for worker := range 16 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				junk := outsideSigned(jwt.SigningMethodES256, "other256", withKid("ES256", "e"), outsideObject("jti", fmt.Sprint(worker, n)))
				if _, reason := v.Verify(junk); reason != policy.ReasonInvalidToken && reason != policy.ReasonOverloaded {
					t.Errorf("junk: %v", reason)
					return
				}
			}
		})
	}
	for n := range 200 {
		_, reason := v.Verify(outsideToken("jti", fmt.Sprint("good", n)))
		if reason != policy.ReasonOK && reason != policy.ReasonOverloaded {
			t.Errorf("a good token: %v", reason)
			break
		}
	}
	close(stop)
	flood.Wait()
}

// BenchmarkMisses is what a token costs that no cache holds.
func BenchmarkMisses(b *testing.B) {
	p := newProvider(b, allKeys()...)
	v, _, _ := newVerifiers(b, nil, p.entry())
	for _, try := range []struct{ name, token string }{
		{"HS256", signed(goodHeader, object(nil))},
		{"RS256", outsideSigned(jwt.SigningMethodRS256, "rsa", withKid("RS256", "r"), outsideObject())},
		{"ES256", outsideToken()},
		{"EdDSA", outsideSigned(jwt.SigningMethodEdDSA, "ed", withKid("EdDSA", "d"), outsideObject())},
	} {
		b.Run(try.name, func(b *testing.B) {
			mustAccept(b, v, try.token)
			b.ReportAllocs()
			for b.Loop() {
				v.Verify(try.token)
			}
		})
	}
}
