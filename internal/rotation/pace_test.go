package rotation

import (
	"testing"
	"time"
)

func TestBatchesFollowWhatTheDatabaseBears(t *testing.T) {
	const slow, fair, quick = 2 * batchTime, batchTime * 3 / 4, batchTime / 4
	p := pace{batch: 500, most: 500}
	for _, step := range []struct {
		took time.Duration
		want int
	}{
		{quick, 500}, {fair, 500}, {slow, 250}, {slow, 125}, {fair, 125}, {quick, 157}, {slow, 78}, {slow, 39},
		{slow, leastBatch}, {slow, leastBatch}, {quick, 32},
	} {
		if p.heed(step.took); p.batch != step.want {
			t.Fatalf("after a batch of %s: %d rows, want %d", step.took, p.batch, step.want)
		}
	}
	for range 100 {
		p.heed(quick)
	}
	if p.batch != 500 {
		t.Errorf("the batch grew to %d, want 500", p.batch)
	}
	few := pace{batch: 7, most: 7}
	for range 10 {
		few.heed(slow)
	}
	if few.batch != 7 {
		t.Errorf("a batch of 7 became one of %d", few.batch)
	}
}
