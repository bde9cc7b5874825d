package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/chain"
)

func newAuditCheckpointCommand(p *process) *cobra.Command {
	c := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print where the audit's chains end, signed",
		Long: `Prints a checkpoint of each chain, one JSON object a line: the tenant's number, the
number and the link of the last row, the time, and a MAC with the audit's key. Keep
them where the database's writers cannot write, and give them to ` + "`portcullis audit\nverify --checkpoint`" + `: a row that a checkpoint knows of can no longer be cut off.

Admin processes log the same every minute.`,
		Example: `  portcullis audit checkpoint >> /mnt/worm/portcullis-checkpoints.jsonl`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if _, err := d.ChainKey(ctx); err != nil {
					return err
				}
				points, err := readCheckpoints(ctx, d.Store, time.Now())
				if err != nil {
					return err
				}
				for i := range points {
					if err := printJSON(p.stdout, &points[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	p.addSettings(c, storeSettings)
	return c
}

// longestLine is how long a line of a file of checkpoints may be: a log has long ones.
const longestLine = 1 << 20

// readCheckpointFile reads the checkpoints of a file, or of standard input.
func readCheckpointFile(p *process, file string) ([]chain.Checkpoint, error) {
	if file == "-" {
		return parseCheckpoints(p.stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseCheckpoints(f)
}

// parseCheckpoints reads lines of JSON. One with a link or a MAC is to be a checkpoint,
// and an error where it is none; other lines are a log's, and passed over. A file
// without any checkpoint is an error.
func parseCheckpoints(r io.Reader) ([]chain.Checkpoint, error) {
	var points []chain.Checkpoint
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		var has struct {
			Link json.RawMessage `json:"link"`
			MAC  json.RawMessage `json:"mac"`
		}
		if err := json.Unmarshal(line, &has); err != nil {
			return nil, fmt.Errorf("line %d is no JSON: %w", n, err)
		}
		if has.Link == nil && has.MAC == nil {
			continue
		}
		var point chain.Checkpoint
		if err := json.Unmarshal(line, &point); err != nil {
			return nil, fmt.Errorf("line %d is no checkpoint: %w", n, err)
		}
		points = append(points, point)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(points) == 0 {
		return nil, errors.New("it holds no checkpoint: `portcullis audit checkpoint` prints them, and admin processes log them as JSON")
	}
	return points, nil
}
