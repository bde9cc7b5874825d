package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// suffixes are the database's files beside each other.
var suffixes = [...]string{"", "-wal", "-shm", "-journal"}

// prepareFile makes the database file, 0600 from its first moment and under any
// umask, or checks the one that is there. SQLite gives its -wal and -shm the
// mode of the file.
//
// It opens no file that exists: closing a descriptor would drop the POSIX locks
// that this process may hold on the file through another connection.
func prepareFile(ctx context.Context, path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case missing(err):
		return fmt.Errorf("the directory %s does not exist: create it with `mkdir -p -m 700 %s`", dir, dir)
	case err != nil:
		return fmt.Errorf("look at the directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
		return errors.Join(f.Chmod(0o600), f.Close()) // a umask may have taken more away
	case !errors.Is(err, os.ErrExist):
		return explainCreate(path, err)
	}
	if err := checkFiles(path); err != nil {
		var wide *wideModeError
		if errors.As(err, &wide) && wide.path == path && !wide.writable {
			// Where it is Auth's own file, to which our default name leads too, a chmod
			// is the wrong advice.
			if foreign := refuseForeignFile(ctx, path); foreign != nil {
				return foreign
			}
		}
		return err
	}
	return nil
}

// wideModeError says that others may read or write a file of the database.
type wideModeError struct {
	path     string
	mode     os.FileMode
	writable bool // by others
}

func (e *wideModeError) Error() string {
	return fmt.Sprintf("%s has mode %04o, which lets others in: run `chmod 600 %s`", e.path, e.mode, e.path)
}

// checkFiles checks each of the database's files that is there.
func checkFiles(path string) error {
	for _, suffix := range suffixes {
		if err := checkFile(path + suffix); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

func checkFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link: name the file itself", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told on this system", path)
	}
	if uid := os.Geteuid(); int(stat.Uid) != uid {
		return fmt.Errorf("%s belongs to user %d, and this is user %d: run `chown %d %s && chmod 600 %s`", path, stat.Uid, uid, uid, path, path)
	}
	if mode := info.Mode().Perm(); mode&^0o600 != 0 {
		return &wideModeError{path: path, mode: mode, writable: mode&0o022 != 0}
	}
	return nil
}
