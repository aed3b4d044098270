package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// sftpOperation is what a request does: the fields that it has, the kind of its answer, and the answer; nil: a STATUS.
type sftpOperation struct {
	form   string
	answer byte
	run    func(c *sftpCall, r *sftpRequest) ([]any, error)
}

// sftpOperations are the requests, by kind or by the name of an extension.
var sftpOperations = map[any]sftpOperation{
	sftpOpen:     {"*txa", sftpHandle, (*sftpCall).open},
	sftpClose:    {"h", sftpStatus, (*sftpCall).close},
	sftpRead:     {"fol", sftpData, (*sftpCall).read},
	sftpWrite:    {"fob", sftpStatus, (*sftpCall).write},
	sftpLstat:    {"p", sftpAttrs, (*sftpCall).lstat},
	sftpStat:     {"e", sftpAttrs, stat},
	sftpFstat:    {"h", sftpAttrs, stat},
	sftpSetstat:  {"ea", sftpStatus, plainly((*sftpRequest).set)},
	sftpFsetstat: {"ha", sftpStatus, plainly((*sftpRequest).set)},
	sftpOpendir:  {"*e", sftpHandle, (*sftpCall).openFolder},
	sftpReaddir:  {"d", sftpName, (*sftpCall).list},
	sftpRemove:   {"n", sftpStatus, plainly(func(r *sftpRequest) error { return syscall.Unlink(r.at) })},
	sftpMkdir:    {"na", sftpStatus, plainly(func(r *sftpRequest) error { return syscall.Mkdir(r.at, r.mode(0o777)) })},
	sftpRmdir:    {"n", sftpStatus, plainly(func(r *sftpRequest) error { return syscall.Rmdir(r.at) })},
	sftpRealpath: {"p", sftpName, (*sftpCall).realpath},
	sftpRename:   {"nm", sftpStatus, plainly(renameNew)},
	sftpReadlink: {"n", sftpName, (*sftpCall).readlink},
	sftpSymlink:  {"pn", sftpStatus, (*sftpCall).symlink}, // the target comes first, as in OpenSSH

	"posix-rename@openssh.com": {"nm", sftpStatus, plainly(func(r *sftpRequest) error { return syscall.Rename(r.at, r.to) })},
	"hardlink@openssh.com":     {"nm", sftpStatus, plainly(func(r *sftpRequest) error { return syscall.Link(r.at, r.to) })},
	"statvfs@openssh.com":      {"e", sftpExtendedReply, spaceOf},
	"fstatvfs@openssh.com":     {"h", sftpExtendedReply, spaceOf},
	"fsync@openssh.com":        {"f", sftpStatus, plainly(func(r *sftpRequest) error { return r.file.Sync() })},
	"limits@openssh.com": {"", sftpExtendedReply, func(*sftpCall, *sftpRequest) ([]any, error) {
		return []any{uint64(maxSftpPacket), uint64(maxSftpData), uint64(maxSftpData), uint64(maxSftpHandles)}, nil
	}},
}

// plainly is an operation that is answered by a STATUS alone.
func plainly(run func(r *sftpRequest) error) func(*sftpCall, *sftpRequest) ([]any, error) {
	return func(_ *sftpCall, r *sftpRequest) ([]any, error) { return nil, run(r) }
}

// absolute makes a path of the peer absolute.
func (c *sftpCall) absolute(path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = c.start + "/" + path
	}
	if len(path) > maxCopyPath {
		return "", syscall.ENAMETOOLONG
	}
	return path, nil
}

// place returns a path to use for one of the peer, during the request. If the service is confined to a folder, it leads through the
// open folder of the entry, which was checked, and the entry is not a link if it follows links.
func (c *sftpCall) place(path string, follows bool) (string, error) {
	path, err := c.absolute(path)
	if c.copies.root == "" || err != nil {
		return path, err
	}
	path = filepath.Clean(path)
	for left := maxReplaced; ; left-- {
		found := path
		if follows {
			found, err = c.copies.allow(path)
		}
		above, name := filepath.Split(found)
		if !follows {
			above, err = c.copies.allow(filepath.Clean(above))
		}
		if err != nil {
			return "", err
		}
		in, err := openFolder(above)
		if err == nil {
			c.held = append(c.held, in)
			return in.path(name), nil
		}
		if left == 0 || !errors.Is(err, syscall.ENOTDIR) { // otherwise a link may have replaced a folder since
			return "", err
		}
	}
}

const maxReplaced = 3 // times that a path is resolved again

// entry returns a path to what a path of the peer leads to. If the service is confined, that is held open, whatever has its name by now.
func (c *sftpCall) entry(path string) (string, error) {
	at, err := c.place(path, true)
	if c.copies.root == "" || err != nil {
		return at, err
	}
	file, err := os.OpenFile(at, pathOnly|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	c.held = append(c.held, folder{file})
	return folder{file}.self(), nil
}

// add gives a file the new handle.
func (c *sftpCall) add(r *sftpRequest, file *sftpFile) ([]any, error) {
	c.files[r.number] = file
	c.opened++
	return []any{string([]byte{0, 0, 0, byte(r.number)})}, nil
}

// open opens a file. Anything else is refused, before it is opened: that may block, or start something.
func (c *sftpCall) open(r *sftpRequest) ([]any, error) {
	flags, look := syscall.O_NONBLOCK|syscall.O_NOCTTY, os.Stat
	if c.copies.root != "" {
		flags, look = flags|syscall.O_NOFOLLOW, os.Lstat
	}
	for index, flag := range []int{os.O_WRONLY, os.O_APPEND, os.O_CREATE, os.O_TRUNC, os.O_EXCL} {
		if r.flags>>(index+1)&1 != 0 {
			flags |= flag
		}
	}
	if r.flags&3 == 3 {
		flags = flags&^os.O_WRONLY | os.O_RDWR
	}
	if is, err := look(r.at); err == nil && !is.Mode().IsRegular() {
		return nil, notFile(is)
	}
	fd, err := syscall.Open(r.at, flags|syscall.O_CLOEXEC, r.mode(0o666))
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), descriptorPath(fd))
	if is, err := file.Stat(); err != nil || !is.Mode().IsRegular() {
		file.Close()
		return nil, notFile(is)
	}
	return c.add(r, &sftpFile{File: file, isAppend: flags&os.O_APPEND != 0})
}

func notFile(is os.FileInfo) error {
	if is != nil && is.IsDir() {
		return syscall.EISDIR
	}
	return errNotFile
}

func (c *sftpCall) openFolder(r *sftpRequest) ([]any, error) {
	fd, err := syscall.Open(r.at, syscall.O_DIRECTORY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return c.add(r, &sftpFile{File: os.NewFile(uintptr(fd), descriptorPath(fd)), isFolder: true})
}

func (c *sftpCall) close(r *sftpRequest) ([]any, error) {
	c.files[r.number] = nil
	return nil, r.file.Close()
}

func (c *sftpCall) read(r *sftpRequest) ([]any, error) {
	length := int(least(uint64(r.length), maxSftpData))
	read, err := r.file.ReadAt(c.room(sftpDataStart + length)[sftpDataStart:], int64(r.offset))
	if read == 0 && length > 0 {
		return nil, err
	}
	c.bytesRead += int64(read)
	return []any{sftpInPlace(read)}, nil
}

func (c *sftpCall) write(r *sftpRequest) (_ []any, err error) {
	var written int
	if r.file.isAppend {
		written, err = r.file.Write(r.data)
	} else {
		written, err = r.file.WriteAt(r.data, int64(r.offset))
	}
	c.bytesWritten += int64(written)
	return nil, err
}

func stat(_ *sftpCall, r *sftpRequest) ([]any, error) { return attributesOf(os.Stat(r.at)) }

func (c *sftpCall) lstat(r *sftpRequest) ([]any, error) {
	at, err := c.place(r.path, false)
	if err == errDenied { // the folder itself, unlike its name, is inside
		at, err = c.place(r.path, true)
	}
	if err != nil {
		return nil, err
	}
	return attributesOf(os.Lstat(at))
}

// realpath resolves a path, whose last name may be missing.
func (c *sftpCall) realpath(r *sftpRequest) ([]any, error) {
	path, err := c.absolute(r.path)
	if err != nil {
		return nil, err
	}
	if c.copies.root != "" {
		if path, err = c.copies.allow(path); err == nil {
			path = filepath.Clean(path)
			_, err = os.Lstat(filepath.Dir(path))
		}
	} else if real, failed := filepath.EvalSymlinks(path); failed == nil {
		path = real
	} else if _, err = os.Stat(path); os.IsNotExist(err) { // unlike the other, it knows a loop of links
		above, name := filepath.Split(filepath.Clean(path))
		above, err = filepath.EvalSymlinks(above)
		path = filepath.Join(above, name)
	}
	return nameOf(path), err
}

func nameOf(path string) []any { return []any{uint32(1), path, path, uint32(0)} }

func (c *sftpCall) readlink(r *sftpRequest) ([]any, error) {
	target, err := os.Readlink(r.at)
	return nameOf(target), err
}

// symlink makes a link. In a folder that the service is confined to, its target is below the link, so that it stays inside even if moved.
func (c *sftpCall) symlink(r *sftpRequest) ([]any, error) {
	if c.copies.root != "" && !isLinkInside(r.path, 0) {
		return nil, errDenied
	}
	return nil, syscall.Symlink(r.path, r.at)
}

// renameNew renames something, unless there is something of the new name. Only a link of a file can be made so in one step.
func renameNew(r *sftpRequest) error {
	is, err := os.Lstat(r.at)
	if err != nil {
		return err
	}
	if is.Mode().IsRegular() {
		if err = syscall.Link(r.at, r.to); err == nil {
			if err = syscall.Unlink(r.at); err != nil {
				syscall.Unlink(r.to)
			}
			return err
		}
	}
	if err == nil || !errors.Is(err, syscall.EEXIST) {
		if _, err = os.Lstat(r.to); err != nil {
			return syscall.Rename(r.at, r.to)
		}
	}
	return syscall.EEXIST
}

// mode returns the permissions for a new entry. As in copies, no program gets the rights of its owner.
func (r *sftpRequest) mode(usual uint32) uint32 {
	if r.attrs.flags&attrMode != 0 {
		usual = r.attrs.mode
	}
	return usual & 0o1777
}

// set sets attributes in the order of OpenSSH, and returns the last error.
func (r *sftpRequest) set() (failed error) {
	note := func(err error) {
		if err != nil {
			failed = err
		}
	}
	a := r.attrs
	if a.flags&attrSize != 0 {
		switch {
		case a.size > maxInteger:
			note(syscall.EINVAL)
		case r.file != nil && !r.file.isFolder:
			note(r.file.Truncate(int64(a.size)))
		default:
			note(syscall.Truncate(r.at, int64(a.size)))
		}
	}
	if a.flags&attrMode != 0 {
		note(syscall.Chmod(r.at, a.mode&0o1777))
	}
	if a.flags&attrTimes != 0 {
		note(os.Chtimes(r.at, time.Unix(int64(a.accessed), 0), time.Unix(int64(a.modified), 0)))
	}
	if a.flags&attrOwner != 0 {
		note(os.Chown(r.at, int(int32(a.user)), int(int32(a.group))))
	}
	return failed
}

// list returns the next entries of a folder.
func (c *sftpCall) list(r *sftpRequest) ([]any, error) {
	var entries []any
	count := uint32(0)
	for count == 0 {
		names, err := r.file.Readdirnames(sftpEntries)
		if errors.Is(err, syscall.ENOENT) { // the folder was removed
			err = io.EOF
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if is, err := os.Lstat(r.at + "/" + name); err == nil { // otherwise it was removed
				attributes, _ := attributesOf(is, nil)
				entries = append(append(entries, name, longName(name, is)), attributes...)
				count++
			}
		}
	}
	return append([]any{count}, entries...), nil
}

func attributesOf(is os.FileInfo, err error) ([]any, error) {
	if err != nil {
		return nil, err
	}
	stat := statOf(is)
	accessed, _ := stat.Atim.Unix()
	return []any{uint32(attrSize | attrOwner | attrMode | attrTimes), uint64(stat.Size), stat.Uid, stat.Gid, stat.Mode,
		uint32(accessed), uint32(is.ModTime().Unix())}, nil
}

// longName describes an entry as ls -ln does.
func longName(name string, is os.FileInfo) string {
	stat := statOf(is)
	mode := []byte(string("?pc?d?b?-?l?s???"[stat.Mode>>12]) + "rwxrwxrwx")
	for bit := 0; bit < 9; bit++ {
		if stat.Mode>>(8-bit)&1 == 0 {
			mode[1+bit] = '-'
		}
	}
	for bit, letters := range []string{"tT", "sS", "sS"} { // sticky, setgid, setuid
		at := 9 - 3*bit
		if stat.Mode>>(9+bit)&1 != 0 {
			mode[at] = letters[either(mode[at] == 'x', 0, 1)]
		}
	}
	changed := is.ModTime()
	age := time.Since(changed)
	form := either(age < 0 || age > 365*24*time.Hour/2, "Jan _2  2006", "Jan _2 15:04")
	return fmt.Sprintf("%s %4d %-8d %-8d %8d %s %s", mode, stat.Nlink, stat.Uid, stat.Gid, stat.Size, changed.Format(form), name)
}

// spaceOf describes the file system of a path, as statvfs(3) does.
func spaceOf(_ *sftpCall, r *sftpRequest) ([]any, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(r.at, &stat); err != nil {
		return nil, err
	}
	size := uint64(stat.Bsize)
	return []any{size, size, uint64(stat.Blocks), uint64(stat.Bfree), uint64(stat.Bavail), uint64(stat.Files), uint64(stat.Ffree),
		uint64(stat.Ffree), uint64(0), uint64(0), uint64(stat.Namelen)}, nil
}
