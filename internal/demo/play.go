package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what came of a scene.
type result struct {
	status  int
	reason  string
	subject string
	took    time.Duration
}

// play sends every scene's request and prints the table. It returns how many went
// otherwise than expected.
func (b *blog) play(ctx context.Context, w io.Writer) (wrong int, err error) {
	send := b.throughEnvoy
	if b.envoy == nil {
		if send, err = b.directly(); err != nil {
			return 0, err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\n\tREQUEST\t\tEXPECTED\tGOT\tREASON\tTHE UPSTREAM SEES\tTIME")
	scenes := b.scenes()
	for _, s := range scenes {
		if s.method == "" {
			s.method = "GET"
		}
		if b.envoy == nil && s.rawReason != "" {
			s.status, s.reason, s.grpc = s.rawStatus, s.rawReason, false
		}
		if b.envoy == nil && s.grpc {
			s.status, s.grpc = 200, false
		}
		if s.before != nil {
			if err := s.before(ctx); err != nil {
				return wrong, err
			}
		}
		r, err := send(ctx, s)
		if err != nil {
			return wrong, fmt.Errorf("%s: %w", s.what, err)
		}
		mark := "ok"
		if r.status != s.status || r.reason != s.reason || r.subject != s.subject {
			mark = "WRONG"
			wrong++
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\t%s\t%s\t%.1f ms\n", mark, s.method, s.path, s.what,
			statusWord(s, s.status), statusWord(s, r.status), r.reason, r.subject, float64(r.took.Microseconds())/1000)
	}
	if err := t.Flush(); err != nil {
		return wrong, err
	}
	how := "through Envoy"
	if b.envoy == nil {
		how = "asked of the gRPC listener, without Envoy"
	}
	if wrong > 0 {
		fmt.Fprintf(w, "\n%d of %d requests, %s, went otherwise than expected.\n", wrong, len(scenes), how)
		return wrong, nil
	}
	_, err = fmt.Fprintf(w, "\nAll %d requests, %s, went as expected.\n", len(scenes), how)
	return wrong, err
}

func statusWord(s scene, status int) string {
	if s.grpc {
		return "gRPC " + strconv.Itoa(status)
	}
	return strings.TrimSpace(strconv.Itoa(status))
}
