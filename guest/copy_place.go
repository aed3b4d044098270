package main

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxStagedFiles = 200_000
	maxStagedBytes = 64 << 20 // as vproxy counts them
	reportBytes    = 65_536   // of names in a record, which may be six times as long in JSON
)

// place moves a part into place: files replace files, and a folder that exists is merged. A rehearsal only checks whether
// everything can be put there.
func (r *receiver) place(t *target, isRehearsal bool) error {
	if err := r.checkAlive(); err != nil {
		return err
	}
	from, err := r.service.walk(t.folder)
	defer from.end()
	if err != nil {
		return err
	}
	to, err := r.service.walk(t.folder)
	defer to.end()
	if err != nil {
		return err
	}
	merged := []mergedFolder{} // that the walks are in
	takenOver := failf("copy-failed", "%s: another copy to this path has taken over", escape(t.path, maxCopyPath))
	enter := func(name, newName, path string) error {
		is, err := os.Lstat(from.path(name))
		if len(from.levels) == 0 && (err != nil || statOf(is).Ino != t.inode) {
			return takenOver
		}
		if err != nil {
			return err
		}
		there, err := lookAt(to.path(newName))
		if err == nil {
			err = checkReplaceable(path, there, is.Mode().Type())
		}
		if err == nil && is.IsDir() && there != nil {
			merged = append(merged, mergedFolder{statOf(is).Mode, changedAt(from.path(name), is)})
			if err = from.down(name); err == nil {
				if held, failed := from.Stat(); failed != nil || statOf(held).Ino != statOf(is).Ino {
					return takenOver
				}
				err = to.down(newName)
			}
			if !isRehearsal {
				err = from.open(err)
			}
		} else if err == nil && !isRehearsal {
			err = rename(from.folder, name, to.path(newName), is)
		}
		return copyFailed(path, err)
	}
	err = enter(t.part, t.base, t.path)
	for err == nil && len(from.levels) > 0 {
		var each step
		if each, err = from.step(); err == nil && !each.isLeft {
			names := append([]string{t.path}, to.names()[1:]...)
			err = enter(each.name, each.name, filepath.Join(append(names, each.name)...))
			continue
		}
		is := merged[len(merged)-1]
		merged = merged[:len(merged)-1]
		if err == nil && !isRehearsal {
			if err = os.Remove(from.path(each.name)); err == nil {
				err = complete(to.path("."), is.changed, is.mode)
			}
		}
		if err == nil {
			_, err = to.up()
		}
	}
	return copyFailed(t.path, err)
}

// mergedFolder is a folder of the part whose contents are moved into an existing folder.
type mergedFolder struct {
	mode    uint32
	changed time.Time
}

// rename moves an entry into another folder. The kernel moves a folder only if its owner may write to it.
func rename(from folder, name, to string, is os.FileInfo) error {
	if !is.IsDir() || is.Mode()&0o200 != 0 {
		return os.Rename(from.path(name), to)
	}
	locked, err := from.enter(name)
	if err != nil {
		return err
	}
	defer locked.Close()
	if err = syscall.Chmod(locked.self(), 0o700); err == nil {
		err = os.Rename(from.path(name), to)
	}
	if err == nil {
		err = syscall.Chmod(locked.self(), statOf(is).Mode)
	}
	return err
}

// checkAlive fails if the sender no longer waits for the copy to finish, with the reason that it may have sent.
func (c *copyCall) checkAlive() error {
	if c.stream.isAwaited() {
		return nil
	}
	kind, _, err := c.next()
	if err == nil {
		err = failf("protocol-error", "copy: unexpected record of kind %d after END", kind)
	}
	return err
}

// partReport finds the files that an earlier copy left.
type partReport struct {
	*copyCall
	isHashing    bool // otherwise what cannot be resumed is removed
	count, bytes int
	files        [][]any // of the next record
	fileBytes    int
}

// reportParts tells the sender which files the parts contain. All else in the parts is removed.
func (c *copyCall) reportParts(targets []*target) error {
	p := &partReport{copyCall: c}
	for _, p.isHashing = range []bool{false, true} {
		for _, t := range targets {
			if err := p.report(t); err != nil {
				return copyFailed(t.path, err)
			}
		}
		if !p.isHashing {
			if err := c.compare(0); err != nil {
				return err
			}
		}
	}
	return p.flush()
}

func (p *partReport) flush() error {
	files := p.files
	p.files, p.fileBytes = nil, 0
	if len(files) == 0 {
		return nil
	}
	return p.send(copyStaged, fields{"files": files})
}

func (p *partReport) report(t *target) error {
	is, err := lookAt(t.folder.path(t.part))
	switch {
	case is == nil:
		return err
	case !isOwn(is) || is.Mode().Type() != t.kind():
		return p.service.remove(t.folder, t.part)
	case !t.isFolder:
		return p.take(t.folder, t.part, t.name)
	}
	w, err := p.service.walk(t.folder)
	defer w.end()
	if err == nil {
		err = p.enter(w, t.part)
	}
	for err == nil && len(w.levels) > 0 {
		var each step
		if each, err = w.step(); err != nil {
			break
		}
		if each.isLeft {
			if len(w.levels) > 0 {
				os.Remove(w.path(each.name)) // unless it is empty, this fails
			}
		} else if each.kind.IsDir() {
			err = p.enter(w, each.name)
		} else {
			names := append([]string{t.name}, w.names()[1:]...)
			err = p.take(w.folder, each.name, filepath.Join(append(names, each.name)...))
		}
	}
	return err
}

// enter enters a folder of the part, or removes one that belongs to another user.
func (p *partReport) enter(w *walk, name string) error {
	isOwned, err := w.downOwn(name)
	if err == nil && !isOwned {
		err = p.service.remove(w.folder, name)
	}
	return err
}

func isOwn(is os.FileInfo) bool { return int(statOf(is).Uid) == os.Geteuid() }

// take reports a file, unless it cannot be resumed.
func (p *partReport) take(in folder, name, tarName string) error {
	if p.isHashing {
		file, err := os.OpenFile(in.path(name), syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		if is, err := file.Stat(); err != nil || !canResume(is) {
			return err // it is sent again
		}
		before := p.compared
		hash, err := p.hash(file)
		p.files = append(p.files, []any{tarName, p.compared - before, hash})
		if p.fileBytes += 100 + len(tarName); err == nil && p.fileBytes > reportBytes {
			err = p.flush()
		}
		return err
	}
	file, err := os.OpenFile(in.path(name), pathOnly|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	is, err := file.Stat()
	if err != nil {
		return err
	}
	size := 192 + 2*len(tarName)
	if !canResume(is) || is.Size() == 0 || !utf8.ValidString(tarName) || len(tarName) > maxCopyPath ||
		p.count == maxStagedFiles || p.bytes+size > maxStagedBytes {
		return p.service.remove(in, name)
	}
	p.count, p.bytes = p.count+1, p.bytes+size
	p.toCompare += is.Size()
	return syscall.Chmod(folder{file}.self(), 0o600)
}

// canResume reports whether only this user can have written an open file.
func canResume(is os.FileInfo) bool {
	return is.Mode().IsRegular() && statOf(is).Nlink == 1 && isOwn(is)
}
