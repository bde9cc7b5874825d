// Command sql proves that no SQL is built from input: the text of every query in the
// module is made of constants alone. It type-checks the packages, follows each text
// back to where it comes from, through the functions that pass it on, prints what is
// no constant and exits with 1. allowed lists the exceptions.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Stdout, os.Stderr)) }

func run(stdout, stderr io.Writer) int {
	m, err := load(".", "./...")
	if err != nil {
		fmt.Fprintln(stderr, "sql:", err)
		return 2
	}
	problems := check(m, allowed)
	for _, problem := range problems {
		fmt.Fprintln(stdout, problem)
	}
	if len(problems) > 0 {
		return 1
	}
	return 0
}
