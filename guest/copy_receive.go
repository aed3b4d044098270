package main

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const maxUnchecked = 65_536 // files without their checks, and checks without their files

// receiver unpacks a tar.
type receiver struct {
	*copyCall
	targets map[string]*target
	target  *target        // that is written to; nil: none yet
	tree    *walk          // in its part
	opened  []openedFolder // whose entries come
	block   []byte
	room    int // for headers, in bytes; negative: not limited
	isEnded bool

	names        []string // of files without their checks
	crcs, checks []uint32 // of these files; without their files
}

// openedFolder is a folder that is not complete.
type openedFolder struct {
	name, last string // in the tar; of its last entry: none may come twice
	mode       uint32
	changed    time.Time
}

// receiveFiles receives everything, and moves it into place then.
func (c *copyCall) receiveFiles(path string) error {
	plan, err := c.expect(copyPlan, "PLAN")
	if err != nil {
		return err
	}
	targets := []*target{}
	for _, root := range plan.objects("roots", maxCopySources) {
		t := &target{name: root.text("name"), isFolder: root.text("kind") == "folder"}
		plan.require(isFileName(t.name) && (t.isFolder || root.text("kind") == "file"), "roots", "is not valid")
		targets = append(targets, t)
	}
	if *plan.failed != nil {
		return *plan.failed
	}
	for index := 1; index < len(targets); index++ {
		if targets[index].name <= targets[index-1].name {
			return refusedCopy(targets[index].name, "sent twice or out of order")
		}
	}
	place, err := c.service.allow(path)
	if err != nil {
		return errDenied
	}
	if err = c.findTargets(place, targets); err != nil {
		return copyFailed(path, err)
	}
	defer targets[0].Close()
	logLine(logInfo, "copy-started", "copy %s: started", c.line())
	if busy := c.service.claim(targets); busy != nil {
		return refusedCopy(busy.path, "another copy to this path, or to the part of it, is in progress")
	}
	defer c.service.release(targets)
	if err = c.receiveInto(targets); err != nil && !c.isLost.Load() {
		for _, t := range targets { // one that cannot be removed is replaced by the next copy
			c.service.remove(t.folder, t.part)
		}
	}
	return err
}

func (c *copyCall) receiveInto(targets []*target) error {
	r := &receiver{copyCall: c, targets: map[string]*target{}, block: make([]byte, copyBlock)}
	paths := []string{}
	for _, t := range targets {
		r.targets[t.name], paths = t, append(paths, t.path)
		if !c.isResumed {
			if err := c.service.remove(t.folder, t.part); err != nil {
				return copyFailed(t.path, err)
			}
		}
	}
	if c.isResumed {
		if err := c.reportParts(targets); err != nil {
			return err
		}
	}
	if err := c.send(copyReady, fields{"targets": paths}); err != nil {
		return err
	}
	if err := r.unpack(); err != nil {
		return err
	}
	for _, isRehearsal := range []bool{true, false} {
		for _, t := range targets {
			if err := r.place(t, isRehearsal); err != nil {
				return err
			}
		}
	}
	return c.send(copyDone, fields{})
}

// Read reads bytes of the tar up to END, and handles what is between them.
func (r *receiver) Read(to []byte) (int, error) {
	for r.dataLeft == 0 && !r.isEnded {
		kind, payload, err := r.next()
		switch {
		case err != nil:
			return 0, err
		case kind == copyEnd:
			r.isEnded = true
		case kind == copyChecks:
			for ; len(payload) >= 4; payload = payload[4:] {
				r.checks = append(r.checks, binary.BigEndian.Uint32(payload))
			}
			if err := r.compareChecks(); err != nil {
				return 0, err
			}
		case kind != copyData && kind != copyWarning:
			return 0, failf("protocol-error", "copy: unexpected record of kind %d in the tar", kind)
		}
	}
	most := least(len(to), r.dataLeft)
	switch {
	case r.isEnded:
		return 0, io.EOF
	case r.room == 0:
		return 0, failf("protocol-error", "copy: the tar is not valid: too many header bytes before an entry (max %d)",
			maxHeaderBytes)
	case r.room > 0:
		most = least(most, r.room)
		r.room -= most
	}
	count, err := io.ReadFull(r.in, to[:most])
	r.dataLeft -= count
	if err != nil {
		err = r.lose(err)
	}
	return count, err
}

// compareChecks compares the checks of files with those that the sender has sent.
func (r *receiver) compareChecks() error {
	for len(r.crcs) > 0 && len(r.checks) > 0 {
		name := r.names[0]
		if r.crcs[0] != r.checks[0] {
			return failf("copy-failed", "%s: corrupted in transit", escape(name, maxCopyPath))
		}
		r.keep(-len(name))
		r.names, r.crcs, r.checks = r.names[1:], r.crcs[1:], r.checks[1:]
	}
	if len(r.crcs) > maxUnchecked || len(r.checks) > maxUnchecked {
		return failf("protocol-error", "copy: too many files without a check, or checks without a file (max %d)", maxUnchecked)
	}
	return nil
}

// wrongTar turns an error of package tar into one of a copy. It returns failures unchanged.
func wrongTar(err error) error {
	var failed *failure
	if errors.As(err, &failed) {
		return failed
	}
	return failf("protocol-error", "copy: the tar is not valid: %s", err)
}

// unpack writes all entries to the parts.
func (r *receiver) unpack() error {
	defer func() { r.tree.end() }()
	from := tar.NewReader(r)
	for {
		r.room = maxHeaderBytes + 511 // and the padding of the entry before
		header, err := from.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return wrongTar(err)
		}
		r.room = -1
		if err := r.add(header, from); err != nil {
			return err
		}
	}
	r.room = maxHeaderBytes
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if err := r.closeTo(0); err != nil {
		return err
	}
	for _, t := range r.targets {
		if t.inode == 0 {
			return failf("protocol-error", "copy: some announced files were not sent")
		}
	}
	if len(r.crcs)+len(r.checks) > 0 {
		return failf("protocol-error", "copy: files and checks do not match")
	}
	return nil
}

// kinds maps the types of entries that a copy may contain to file modes.
var kinds = map[byte]os.FileMode{tar.TypeReg: 0, tar.TypeDir: os.ModeDir, tar.TypeSymlink: os.ModeSymlink}

// add writes an entry to a part. Entries come in order, each after its folder.
func (r *receiver) add(header *tar.Header, from io.Reader) (err error) {
	offset, err := checkHeader(header)
	if err != nil {
		return err
	}
	name, kind := strings.TrimSuffix(header.Name, "/"), kinds[header.Typeflag]
	depth, base := strings.Count(name, "/"), name[strings.LastIndexByte(name, '/')+1:]
	if err := r.closeTo(depth); err != nil {
		return err
	}
	if depth == 0 {
		t := r.targets[name]
		if t == nil || kind != t.kind() {
			return refusedCopy(name, "not announced")
		}
		if r.target != nil && name <= r.target.name {
			return refusedCopy(name, "sent twice")
		}
		r.tree.end()
		r.target, base = t, t.part
		r.tree, err = r.service.walk(t.folder)
	} else {
		if len(r.opened) < depth || r.opened[depth-1].name+"/"+base != name {
			return refusedCopy(name, "not sent after its folder")
		}
		above := &r.opened[depth-1]
		if base <= above.last {
			return refusedCopy(name, "sent twice or out of order")
		}
		above.last = base
		err = r.removeLeftovers(base)
	}
	path := r.target.path + name[len(r.target.name):]
	if err == nil { // early: place checks it again, without following links
		there, _ := lookAt(path)
		err = checkReplaceable(path, there, kind)
	}
	if err == nil && kind == os.ModeSymlink {
		err = r.checkLink(path, header.Linkname, depth-1)
	}
	switch {
	case err != nil:
	case kind.IsDir():
		if err = r.addFolder(base); err == nil {
			mode := uint32(header.Mode) & 0o1777
			r.opened = append(r.opened, openedFolder{name: name, mode: mode, changed: header.ModTime})
		}
	case kind == os.ModeSymlink:
		if err = r.service.remove(r.tree.folder, base); err == nil {
			err = os.Symlink(header.Linkname, r.tree.path(base))
		}
		if err == nil {
			err = setTime(0, r.tree.path(base), header.ModTime)
		}
	default:
		err = r.addFile(base, path, offset, header, from)
	}
	return copyFailed(path, err)
}

// mark remembers an entry as that of the part, if it is its top.
func (r *receiver) mark(file *os.File, isTop bool) error {
	is, err := file.Stat()
	if err == nil && isTop {
		r.target.inode = statOf(is).Ino
	}
	return err
}

func statOf(is os.FileInfo) *syscall.Stat_t { return is.Sys().(*syscall.Stat_t) }

// checkHeader refuses what a copy must not contain, and returns how much of a file is here.
func checkHeader(h *tar.Header) (offset int64, err error) {
	kind, isKnown := kinds[h.Typeflag]
	isSparse := false
	for key := range h.PAXRecords {
		isSparse = isSparse || strings.HasPrefix(key, "GNU.sparse")
	}
	text, hasOffset := h.PAXRecords[offsetKey]
	if hasOffset {
		offset, err = strconv.ParseInt(text, 10, 54)
	}
	name := h.Name
	if kind.IsDir() {
		name = strings.TrimSuffix(name, "/")
	}
	isSafe := utf8.ValidString(name)
	for _, part := range strings.Split(name, "/") {
		isSafe = isSafe && isFileName(part)
	}
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return 0, failf("protocol-error", "copy: the tar is not valid: global pax headers are not supported")
	case len(h.PAXRecords) > maxPaxKeys:
		return 0, failf("protocol-error", "copy: the tar is not valid: too many keys in a pax header (max %d)", maxPaxKeys)
	case !isKnown || isSparse:
		return 0, refusedCopy(h.Name, "entries of this type are not supported")
	case len(h.Name) > maxCopyPath:
		return 0, refusedCopy(h.Name, "path too long")
	case !isSafe:
		return 0, refusedCopy(h.Name, "unsafe name")
	case kind == os.ModeSymlink && (h.Linkname == "" || len(h.Linkname) > maxCopyPath):
		return 0, refusedCopy(h.Name, "link without a target, or with one that is too long")
	case err != nil || offset < 0 || kind != 0 && h.Size+offset != 0 || h.Size > maxInteger-offset:
		return 0, failf("protocol-error", "copy: %s: size or offset is not valid", escape(h.Name, maxCopyPath))
	}
	return offset, nil
}

// closeTo completes folders down to a depth: with its permissions, a folder may take no more entries.
func (r *receiver) closeTo(depth int) error {
	for len(r.opened) > depth {
		last := r.opened[len(r.opened)-1]
		err := r.removeLeftovers("")
		if err == nil {
			err = complete(r.tree.path("."), last.changed, last.mode)
		}
		if err == nil {
			_, err = r.tree.up()
		}
		if err != nil {
			return copyFailed(r.target.path+last.name[len(r.target.name):], err)
		}
		r.opened = r.opened[:len(r.opened)-1]
	}
	return nil
}

// removeLeftovers removes what an earlier copy has left in the folder before a name, or to its end: it is not sent again.
func (r *receiver) removeLeftovers(before string) error {
	for r.isResumed {
		each, err := r.tree.next(before)
		if each == nil || err != nil {
			return err
		}
		if err = r.service.remove(r.tree.folder, each.name); err != nil {
			return err
		}
	}
	return nil
}

func (r *receiver) addFolder(name string) error {
	isOwned, err := false, os.Mkdir(r.tree.path(name), 0o700)
	if os.IsExist(err) && r.isResumed {
		if isOwned, err = r.tree.downOwn(name); err == nil && !isOwned {
			if err = r.service.remove(r.tree.folder, name); err == nil {
				err = os.Mkdir(r.tree.path(name), 0o700)
			}
		}
	}
	if err == nil && !isOwned {
		err = r.tree.downNew(name)
	}
	if err == nil {
		err = r.mark(r.tree.File, len(r.opened) == 0)
	}
	return err
}

func (r *receiver) addFile(name, path string, offset int64, header *tar.Header, from io.Reader) error {
	file, err := r.openFile(name, offset)
	if err != nil {
		return err
	}
	defer file.Close()
	if err = r.mark(file, len(r.opened) == 0); err != nil {
		return err
	}
	crc := uint32(0)
	for err == nil {
		var count int
		count, err = from.Read(r.block)
		crc = crc32.Update(crc, crc32.IEEETable, r.block[:count])
		if _, failed := file.Write(r.block[:count]); failed != nil {
			return failed
		}
	}
	if err != io.EOF {
		return wrongTar(err)
	}
	if err = setTime(file.Fd(), "", header.ModTime); err == nil {
		err = file.Chmod(os.FileMode(header.Mode & 0o777))
	}
	if err == nil { // a file system may notice only now that it is full
		err = file.Close()
	}
	r.files++
	r.bytes += offset + header.Size
	r.names, r.crcs = append(r.names, path), append(r.crcs, crc)
	if err == nil {
		err = r.keep(len(path))
	}
	if err == nil {
		err = r.compareChecks()
	}
	return err
}

// openFile makes a file, or opens the one of which this much is here.
func (r *receiver) openFile(name string, offset int64) (file *os.File, err error) {
	const flags = os.O_WRONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	if offset > 0 {
		var is os.FileInfo
		if file, err = os.OpenFile(r.tree.path(name), flags, 0); err == nil {
			is, err = file.Stat()
		}
		if err != nil && !os.IsNotExist(err) && !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.ENXIO) {
			file.Close()
			return nil, err
		}
		if err != nil || !canResume(is) || is.Size() != offset {
			file.Close()
			return nil, failf("protocol-error", "copy: the peer resumes a file that does not exist here")
		}
		_, err = file.Seek(offset, io.SeekStart)
		return file, err
	}
	file, err = os.OpenFile(r.tree.path(name), flags|os.O_CREATE|os.O_EXCL, 0o600)
	if os.IsExist(err) { // left by an earlier copy
		if err = r.service.remove(r.tree.folder, name); err == nil {
			file, err = os.OpenFile(r.tree.path(name), flags|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	return file, err
}
