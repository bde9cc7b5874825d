package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What pip installs to be an OAuth client in Python.
const (
	authlibVersion  = "1.9.10"
	requestsVersion = "2.34.2"
)

// FindAuthlib returns the folder that PYTHONPATH needs for the OAuth client Authlib,
// which pip installs into .tools, once.
func FindAuthlib() (string, error) {
	tools, err := ToolsDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(tools, "authlib-"+authlibVersion)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", fmt.Errorf("install Authlib: %w", err)
	}
	unlock, err := lockFile(filepath.Join(tools, ".authlib.lock"))
	if err != nil {
		return "", fmt.Errorf("install Authlib: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(tools, ".authlib-")
	if err != nil {
		return "", fmt.Errorf("install Authlib: %w", err)
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
		"--target", tmp, "authlib=="+authlibVersion, "requests=="+requestsVersion)
	if out, err := pip.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install Authlib %s with python3 -m pip: %w: %s", authlibVersion, err, lastLine(out))
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("install Authlib: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("install Authlib: %w", err)
	}
	return dir, nil
}

// RunAuthlib runs a Python program that uses Authlib, with more environment
// variables, and returns what it prints. Where Authlib cannot be had it skips the
// test with the reason, or fails it under PORTCULLIS_REQUIRE_AUTHLIB=1.
func RunAuthlib(tb testing.TB, program string, env ...string) string {
	tb.Helper()
	modules, err := FindAuthlib()
	if err != nil {
		Unavailable(tb, "PORTCULLIS_REQUIRE_AUTHLIB", err)
	}
	// http:// is what the tests serve; Authlib wants to be told that it is meant.
	python := exec.CommandContext(tb.Context(), "python3", "-I", "-c",
		"import sys; sys.path.insert(0, sys.argv[1]); exec(compile(open(sys.argv[2]).read(), sys.argv[2], 'exec'))", modules, program)
	python.Env = append(os.Environ(), append(env, "AUTHLIB_INSECURE_TRANSPORT=1", "PYTHONDONTWRITEBYTECODE=1")...)
	out, err := python.CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}
