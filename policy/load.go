package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Load compiles the policy file at path. The error names the file.
func Load(path string) (*Policy, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, err
	}
	p, err := Compile(src)
	return p, inFile(err, path)
}

// LoadAndTest compiles the policy file at path and runs the cases in it, or
// those of the file at casesPath where that is not empty (see RunTests). The
// error names the file that is bad.
func LoadAndTest(path, casesPath string) ([]TestResult, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var cases []byte
	if casesPath != "" {
		if cases, err = readFile(casesPath); err != nil {
			return nil, err
		}
	}
	results, err := RunTests(src, cases)
	if wrong := (*CompileError)(nil); errors.As(err, &wrong) && wrong.File == casesFile {
		path = casesPath
	}
	return results, inFile(err, path)
}

// inFile notes in a compile error which file it is about.
func inFile(err error, path string) error {
	if wrong := (*CompileError)(nil); errors.As(err, &wrong) {
		wrong.File = path
	}
	return err
}

// readFile reads a file of which no more than MaxFileBytes+1 bytes are taken,
// so that a device or a huge file cannot fill the memory.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return src, nil
}
