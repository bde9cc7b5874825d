package decisionlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Line is one line of a decision log, as far as a decision can be asked again.
type Line struct {
	Time       time.Time `json:"time"`
	DecisionID string    `json:"decision_id"`
	Effect     string    `json:"effect"`
	Reason     string    `json:"reason"`
	Rule       string    `json:"rule"`
	Principal  struct {
		Kind   string `json:"kind"`
		Tenant string `json:"tenant"`
		ID     string `json:"id"`
	} `json:"principal"`
	Proof struct {
		Issuer string `json:"issuer"`
		SPIFFE string `json:"spiffe"`
	} `json:"proof"`
	Actor        string   `json:"actor"`
	Roles        []string `json:"roles"`
	PolicyDigest string   `json:"policy_digest"`
	Method       string   `json:"method"`
	Host         string   `json:"host"`
	Path         string   `json:"path"`
	SampleRate   float64  `json:"sample_rate"`
	Truncated    bool     `json:"truncated"`
}

// maxLine is above the longest line that a Log writes, in bytes.
const maxLine = 1 << 20

// Read gives each decision of a log to take, in order, until take returns an error.
// Lines that are no decisions (other logs may go to the same output) are counted
// and passed over. The Line is reused.
func Read(r io.Reader, take func(*Line) error) (others int, err error) {
	reader := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := reader.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = reader.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return others, fmt.Errorf("read the decision log: %w", err)
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			var line Line
			if tooLong || json.Unmarshal(text, &line) != nil || line.DecisionID == "" || line.Effect == "" {
				others++
			} else if failed := take(&line); failed != nil {
				return others, failed
			}
		}
		if err != nil {
			return others, nil
		}
	}
}
