package extauthz

import "portcullis/policy"

// shadowVerdict is what a shadow rule would have decided; rule is nil where none
// matches.
type shadowVerdict struct {
	rule   *policy.Rule
	reason policy.Reason
}

// shadow asks the shadow rule of a request that has been decided. The rule stands in
// for the path rule; everything else is as it was. It works on a check of its own,
// so that nothing of it reaches the answer, with the token as it was judged before, and
// within the same budget: what the
// store does not give before the check's time is up is a fault of the shadow's
// verdict. A panic changes no verdict.
func (c *Core) shadow(k *check) (sound bool) {
	if k.snapshot == nil || k.err != nil || k.answer.reason.Effect() == policy.Fault {
		return true
	}
	rule := k.snapshot.Policy.MatchShadow(text(k.view.method), text(k.host), text(k.path))
	if rule == nil {
		return true
	}
	defer func() {
		if !sound {
			c.panicked("shadow", recover())
		}
	}()
	s := &check{now: k.now, view: k.view, received: k.received, path: k.path, host: k.host, flags: k.flags,
		snapshot: k.snapshot, bearer: k.bearer, last: true, shadowing: true}
	reason, retake := c.findDemand(s), false
	if s.demand.Path == nil {
		return true // the route's own names stand in for path rules
	}
	if reason == policy.ReasonOK && !s.demand.Anonymous() {
		if reason, retake = c.authenticate(s); reason == policy.ReasonOK && !retake {
			reason, retake = c.authorize(s)
		}
	}
	if retake {
		reason = policy.ReasonStoreUnavailable
	}
	k.shadow = shadowVerdict{rule: rule, reason: reason}
	c.metrics.shadows.WithLabelValues(rule.Name, reason.Effect().String(), reason.String()).Inc()
	return true
}

// wantsLine reports whether the decision log takes the decision: for its own effect,
// or for a denial by a shadow rule, which is what someone who tries a rule out looks
// for.
func (c *Core) wantsLine(k *check) bool {
	return c.log.Wants(k.answer.reason.Effect()) ||
		k.shadow.rule != nil && k.shadow.reason.Effect() == policy.Deny && c.log.Wants(policy.Deny)
}
