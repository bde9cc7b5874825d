package sqlite

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrBackupExists says that the file to back up to is there already.
var ErrBackupExists = errors.New("the file exists")

// ErrBackupTarget says that a backup cannot get this name.
var ErrBackupTarget = errors.New("not a name for a backup")

// partialInfix stands between a backup's name and random digits in the name under
// which it comes to be.
const partialInfix = ".partial-"

// backupFile is a backup that is coming to be.
type backupFile struct {
	path      string // what it will be called
	partial   string // what it is called until then
	overwrite bool
	file      *os.File // of partial; it holds the lock that says that someone works on it
}

// newBackupFile makes the empty file that the copy goes to, beside the one that it
// will become. What a killed process left there before is removed.
func newBackupFile(source, to string, overwrite bool) (*backupFile, error) {
	if to == "" || strings.ContainsRune(to, 0) {
		return nil, fmt.Errorf("%w: it is empty, or holds a zero byte", ErrBackupTarget)
	}
	abs, err := filepath.Abs(to)
	if err != nil {
		return nil, err
	}
	// What the path leads to, the last name aside.
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		if missing(err) {
			return nil, fmt.Errorf("the directory %s does not exist: create it with `mkdir -p -m 700 %[1]s`", filepath.Dir(abs))
		}
		return nil, err
	}
	b := &backupFile{path: filepath.Join(dir, filepath.Base(abs)), overwrite: overwrite}
	if err := b.check(source); err != nil {
		return nil, err
	}
	if err := removeStale(b.path); err != nil {
		return nil, err
	}
	var random [8]byte
	rand.Read(random[:]) // never fails: it ends the program instead
	b.partial = b.path + partialInfix + hex.EncodeToString(random[:])
	b.file, err = os.OpenFile(b.partial, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, explainCreate(b.path, err)
	}
	err = errors.Join(b.file.Chmod(0o600), // a umask may have taken more away
		syscall.Flock(int(b.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", b.partial, err), b.close())
	}
	return b, nil
}

// check refuses names that a backup must not take.
func (b *backupFile) check(source string) error {
	sourceDir, err := filepath.EvalSymlinks(filepath.Dir(source))
	if err != nil {
		return err
	}
	for _, suffix := range suffixes {
		own := filepath.Join(sourceDir, filepath.Base(source)+suffix)
		info, err := os.Stat(own)
		if b.path == own || err == nil && sameFile(b.path, info) {
			return fmt.Errorf("%w: %s is the store itself, or one of its files", ErrBackupTarget, b.path)
		}
	}
	info, err := os.Lstat(b.path)
	switch {
	case missing(err):
	case err != nil:
		return err
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link: name the file itself", ErrBackupTarget, b.path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", ErrBackupTarget, b.path)
	case !b.overwrite:
		return fmt.Errorf("%w: %s", ErrBackupExists, b.path)
	}
	// SQLite would play such a file into the copy when it is opened.
	for _, suffix := range suffixes[1:] {
		if _, err := os.Lstat(b.path + suffix); !missing(err) {
			return fmt.Errorf("%w: %s is there, so a program may have %s open as a database: close it, and remove what it left, or name another file",
				ErrBackupTarget, b.path+suffix, b.path)
		}
	}
	return nil
}

// removeStale removes what killed processes left of copies to this path: it holds
// what the store holds. Those that somebody works on are locked.
func removeStale(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+partialInfix)
		if random, err := hex.DecodeString(digits); !ok || err != nil || len(random) != 8 || !e.Type().IsRegular() {
			continue
		}
		stale := filepath.Join(filepath.Dir(path), e.Name())
		f, err := os.OpenFile(stale, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if missing(err) {
			continue // its maker has just finished
		}
		if err != nil {
			return fmt.Errorf("an unfinished copy is in the way: %w", err)
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			err = os.Remove(stale)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("remove an unfinished copy: %w", err)
		}
	}
	return nil
}

// publish gives the copy its name, and syncs the directory.
func (b *backupFile) publish() error {
	if b.overwrite {
		if err := os.Rename(b.partial, b.path); err != nil {
			return fmt.Errorf("name the copy: %w", err)
		}
	} else if err := b.publishNew(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// publishNew overwrites nothing, even if the name was taken since it was checked:
// a link fails then, a rename would not.
func (b *backupFile) publishNew() error {
	err := os.Link(b.partial, b.path)
	switch {
	case err == nil:
		return nil // close removes the other name
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%w: %s", ErrBackupExists, b.path)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS): // no links on this file system
		if _, err := os.Lstat(b.path); !missing(err) {
			return errors.Join(fmt.Errorf("%w: %s", ErrBackupExists, b.path), err)
		}
		if err := os.Rename(b.partial, b.path); err != nil {
			return fmt.Errorf("name the copy: %w", err)
		}
		return nil
	}
	return fmt.Errorf("name the copy: %w", err)
}

// close removes the copy's first name, where it is left, and closes it.
func (b *backupFile) close() error {
	err := os.Remove(b.partial)
	if missing(err) {
		err = nil
	}
	return errors.Join(err, b.file.Close())
}
