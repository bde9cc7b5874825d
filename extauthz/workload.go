package extauthz

import "portcullis/policy"

// authenticateWorkload proves a caller that brought no other credential by the
// certificate of its connection, which Envoy has verified: source.principal, which
// is the certificate's first URI name, else its first DNS name, else its subject.
// Only where every rule takes it, and only by the exact SPIFFE id of a workload of
// the policy file. Who is nobody there is told what everybody without a credential
// is told.
func (c *Core) authenticateWorkload(k *check) policy.Reason {
	if !k.demand.AcceptsMTLS() {
		return policy.ReasonMissingCredential
	}
	workload, holder := k.snapshot.Workload(text(k.view.principal))
	if workload == nil {
		return policy.ReasonMissingCredential
	}
	if reason := c.cache.Fresh(k.now); reason != policy.ReasonOK {
		return reason
	}
	k.workload = holder
	k.answer.principal = workload.Principal
	k.answer.actor = "" // it acts for nobody but itself
	return policy.ReasonOK
}
