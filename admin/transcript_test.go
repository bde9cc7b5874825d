package admin_test

import (
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/testkit/transcript"
)

// TestTranscripts plays testdata/*.txtar on every store, each in a fresh house.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			for _, b := range backends {
				t.Run(b.name, func(t *testing.T) {
					h := newHouse(t, options{open: b.open, openTenancy: transcript.OpenTenancy(file)})
					transcript.Play(t, transcript.Server{Addr: h.addr, Keys: h.keys}, file)
				})
			}
		})
	}
}
