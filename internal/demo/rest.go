package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"portcullis/internal/testkit"
)

// atRest shows how what was just written lies in the database, and looks for it in
// every byte of the database's files.
func (b *blog) atRest(ctx context.Context, w io.Writer) error {
	store := filepath.Join(b.dir, storeFile)
	rows, err := testkit.SQLite(ctx, store, `SELECT m.principal_id FROM memberships m JOIN roles r ON r.id = m.role_id WHERE r.name = 'editor' AND m.key_id <> 0`)
	if err != nil {
		return err
	}
	if len(rows) != 1 || strings.Contains(rows[0], "amy") {
		return errors.New("amy's membership does not lie sealed in the database")
	}
	files, err := filepath.Glob(store + "*")
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, name := range []string{"view_content", "edit_content"} {
			if bytes.Contains(content, []byte(name)) {
				return fmt.Errorf("the permission %s can be read in %s", name, filepath.Base(file))
			}
		}
	}
	_, err = fmt.Fprintf(w, "\nThe editor amy, as she lies in the database (memberships.principal_id):\n%s\nNo permission's name is in any byte of its %d files.\n", rows[0], len(files))
	return err
}
