package sealing

import (
	"testing"
	"time"
)

func TestAValueIsToldOfOnceAMinute(t *testing.T) {
	var teller Teller
	now := time.Unix(1_800_000_000, 0)
	one, other := RoleDescription(1, 7), RoleDescription(2, 7)
	for _, step := range []struct {
		place Place
		after time.Duration
		told  bool
	}{
		{one, 0, true}, {one, 0, false}, {one, 59 * time.Second, false}, {other, 59 * time.Second, true},
		{one, time.Minute, true}, {one, 61 * time.Second, false}, {other, 2 * time.Minute, true},
	} {
		if told := teller.Tell(step.place, now.Add(step.after)); told != step.told {
			t.Errorf("row %d after %s: %v, want %v", step.place.Row, step.after, told, step.told)
		}
	}
	for row := range int64(2 * tellMost) {
		teller.Tell(RoleDescription(row, 7), now.Add(time.Hour))
	}
	if n := len(teller.told); n > tellMost {
		t.Errorf("%d values are remembered", n)
	}
	if !teller.Tell(one, now.Add(2*time.Hour)) {
		t.Error("after a flood nothing is told of any more")
	}
}
