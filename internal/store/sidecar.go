package store

import "time"

// ForgetSidecarAfter is how long past its staleness bound a silent sidecar is
// kept on the list. Its id is random per process: each restart leaves one.
const ForgetSidecarAfter = 24 * time.Hour

// After is the sidecar after one more of its reports. Reports are merged in the
// order of appending, and of the revision the last word counts, not the highest:
// after a restored backup a sidecar is at a lower one, and the higher number that
// it once reported means another history. LastSeen only moves forward, so that
// a clock that is set back makes the sidecar no less live. A report that leaves
// out the bound or the policy's digest keeps the former. ReportUses changes
// nothing here.
func (s Sidecar) After(r Report) Sidecar {
	if r.Kind == ReportUses {
		return s
	}
	s.ID = r.Sidecar
	s.Applied = r.Applied
	s.Stopped = r.Kind == ReportStopped
	if r.At.After(s.LastSeen) {
		s.LastSeen = r.At
	}
	if r.Staleness > 0 {
		s.Staleness = r.Staleness
	}
	if r.PolicyDigest != "" {
		s.PolicyDigest = r.PolicyDigest
	}
	s.Masters = r.Masters
	return s
}
