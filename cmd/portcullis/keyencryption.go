package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"portcullis/internal/sealing"
)

const keyEncryptionLong = `Makes a master key for AUTH_ENCRYPTION_KEY: 32 random bytes, as Fernet writes them.
The key goes to standard output, alone; its id, by which logs and errors name it,
to standard error. Nothing is stored: keep the key where the database and its
backups are not, since what is sealed under a lost key is lost.`

func newKeyEncryptionCommand(p *process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "encryption",
		Short: "Make a master key for AUTH_ENCRYPTION_KEY",
		Long:  keyEncryptionLong,
		Example: `  (umask 077 && portcullis key encryption > master.key)
  portcullis key encryption --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			key := sealing.NewMaster()
			masters, err := sealing.ParseMasters(key)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(p.stdout, struct {
					Key string           `json:"key"`
					ID  sealing.MasterID `json:"id"`
				}{key, masters.First()})
			}
			fmt.Fprintf(p.stderr, "master key %s, shown this once:\n", masters.First())
			if _, err := fmt.Fprintln(p.stdout, key); err != nil {
				return unavailablef("write the key: %w", err)
			}
			return nil
		},
	}
	addJSONFlag(c, &asJSON)
	return c
}
