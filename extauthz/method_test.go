package extauthz

import "testing"

// Methods are compared exactly, so `get` would pass by a rule for GET and find a
// wider one, while many servers read both as GET. Envoy takes such a method over
// HTTP/2. No registered method has a small letter.
func TestMethodInSmallLettersIsAmbiguous(t *testing.T) {
	g := newGate(t, nil)
	ann := bearer(g.token("ann"))
	for _, method := range []string{"get", "Get", "geT", "connect", "x"} {
		g.expect("ambiguous_request", request{method: method, path: "/root/a", headers: ann})
		g.expect("ambiguous_request", request{method: method, path: "/healthz"})
	}
	for _, method := range []string{"GET", "M-SEARCH", "PURGE", "VERSION_CONTROL", "BASELINE-CONTROL", "X"} {
		g.expect("ok", request{method: method, path: "/root/a", headers: ann})
	}
}
