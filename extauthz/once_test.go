package extauthz

import (
	"sync/atomic"
	"testing"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/policy"
)

// shedding is a verifier whose pool is full.
type shedding struct{ asked atomic.Int64 }

func (v *shedding) Verify(string) (*identity.Token, policy.Reason) {
	v.asked.Add(1)
	return nil, policy.ReasonOverloaded
}

func (v *shedding) Current(*identity.Token) bool { return false }

// A token is judged once for a request, its shadow rule included: a token that
// waits in vain for its turn must not wait twice, and the two verdicts are about the
// same caller.
func TestOneVerificationForEachRequest(t *testing.T) {
	log, verifier := &recorder{}, &shedding{}
	g := bareGate(t, func(cfg *Config) { cfg.Log = log }, func(cfg *cache.Config) {
		rules, err := policy.Compile([]byte(conditionPolicy))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Policy, cfg.Verifier = rules, verifier
	})
	g.run()
	for _, try := range []struct{ want, path string }{{"overloaded", "/posts/1"}, {"overloaded", "/dept"}, {"ok", "/open"}} {
		verifier.asked.Store(0)
		log.records = nil
		g.expect(try.want, request{path: try.path, headers: bearer(g.token("ann"))})
		if n := verifier.asked.Load(); n != 1 {
			t.Errorf("%s: the token was verified %d times", try.path, n)
		}
		if rec := log.records[0]; rec.ShadowRule != "" && rec.ShadowReason != policy.ReasonOverloaded {
			t.Errorf("%s: the shadow's verdict is %s", try.path, rec.ShadowReason)
		}
	}
}
