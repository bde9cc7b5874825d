package identity

// Step is one step of a token's examination.
type Step struct {
	Name   string // such as "signature"
	OK     bool
	Detail string // what was found, or why the step failed; nothing secret
}

// trace keeps the steps of one examination for people to read. A nil trace keeps
// nothing and costs nothing.
type trace struct{ steps []Step }

// step begins a step; the one before it has passed.
func (t *trace) step(name string) {
	if t != nil {
		t.steps = append(t.steps, Step{Name: name, OK: true})
	}
}

// found says what the step found. Callers that build a text ask first whether
// there is a trace.
func (t *trace) found(detail string) {
	if t != nil && len(t.steps) > 0 {
		t.steps[len(t.steps)-1].Detail = detail
	}
}

// end marks the last step as failed where the token was refused.
func (t *trace) end(refusal *Refusal) {
	if t != nil && refusal != nil && len(t.steps) > 0 {
		last := &t.steps[len(t.steps)-1]
		last.OK, last.Detail = false, refusal.Detail
	}
}
