package rotation

import "time"

// batchTime is how long one batch should hold the database, and leastBatch how few
// rows it is worth a transaction.
const (
	batchTime  = 40 * time.Millisecond
	leastBatch = 25
)

// pace fits the size of the batches to what the database bears beside its other
// work: a batch that took too long halves the next, a quick one lets it grow.
type pace struct {
	batch, most int
}

// heed takes in how long the last batch took.
func (p *pace) heed(took time.Duration) {
	switch {
	case took > batchTime:
		p.batch = max(p.batch/2, min(leastBatch, p.most))
	case took < batchTime/2:
		p.batch = min(p.batch+p.batch/4+1, p.most)
	}
}
