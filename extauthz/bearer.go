package extauthz

import (
	"portcullis/cache"
	"portcullis/policy"
)

// judgedBearer is what became of a request's token under one policy and one set of
// signing keys.
type judgedBearer struct {
	policy  *policy.Policy // nil: it was not judged yet
	signing int64
	token   *cache.Token
	reason  policy.Reason
}

// judgeBearer verifies the token of a request, once for all attempts under one policy
// and the same signing keys, and for the shadow rule: a verification may wait for keys
// and for its turn, and waits in a row would outlast Envoy's patience.
func (c *Core) judgeBearer(k *check, raw []byte) (*cache.Token, policy.Reason) {
	if k.bearer.policy != k.snapshot.Policy || k.bearer.signing != k.snapshot.Signing() {
		token, reason := c.cache.Token(raw, k.now)
		k.bearer = judgedBearer{k.snapshot.Policy, k.snapshot.Signing(), token, reason}
	}
	return k.bearer.token, k.bearer.reason
}

// askDenyList refuses a token that is denied, on every request that carries one and
// whatever else proves the caller. A denied token proves nobody. Where the list could
// not be asked in full, a request that is denied in any case is.
func (c *Core) askDenyList(k *check) (policy.Reason, bool) {
	tenant, _ := k.snapshot.Tenant(k.token.Principal.Tenant)
	reason, end := c.cache.Denied(k.snapshot, tenant, k.token, k.now)
	if end != cache.Found {
		if _, denial, decided := k.decideWithoutStore(); decided && denial.Effect() == policy.Deny {
			return denial, false
		}
	} else if reason == policy.ReasonOK {
		return policy.ReasonOK, false
	}
	k.answer.principal = policy.Principal{}
	return refused(reason), end == cache.Retake
}
