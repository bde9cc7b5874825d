// Command fetch puts the programs that the tests and the demo need into .tools,
// where they are not installed, and prints where each one is. It exits with 1
// where one cannot be had; the tests that need it then skip and say so.
package main

import (
	"fmt"
	"os"

	"portcullis/internal/testkit"
)

func main() {
	status := 0
	for _, program := range []struct {
		name string
		find func() (string, error)
	}{
		{"envoy", testkit.FindEnvoy},
		{"postgres", testkit.FindPostgres},
		{"OpenID provider", testkit.FindOIDC},
		{"Authlib", testkit.FindAuthlib},
	} {
		path, err := program.find()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", program.name, err)
			status = 1
			continue
		}
		fmt.Printf("%s: %s\n", program.name, path)
	}
	os.Exit(status)
}
