package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"syscall"
	"unicode/utf8"
)

const (
	offsetKey       = "VPROXY.offset" // of pax: how much of a file the receiver has
	checksPerRecord = 1024
	maxCopyWarnings = 1000
	stagedBytes     = 256 // of what the receiver has of a file, without its name
)

// source is a file or folder that the peer asked for. Its path has no links.
type source struct {
	path, name string
	isFolder   bool
}

// staged is what the receiver has of a file, from an earlier copy.
type staged struct {
	bytes int64
	hash  string // SHA-256, in hex
}

// sender sends a tar.
type sender struct {
	*copyCall
	staged map[string]staged
	out    *bufio.Writer
	tar    *tar.Writer
	block  []byte
	checks []uint32   // of files, not sent yet
	done   chan error // what the receiver answers: it may fail before all is sent
}

// sendFiles sends the files that START names, and waits until they are in place.
func (c *copyCall) sendFiles() error {
	sources, err := c.findSources()
	if err != nil {
		return err
	}
	logLine(logInfo, "copy-started", "copy %s: started", c.line())
	var totals any
	if c.hasTotals {
		if totals, err = c.count(sources); err != nil {
			return err
		}
	}
	roots := []fields{}
	for _, each := range sources {
		roots = append(roots, fields{"name": each.name, "kind": either(each.isFolder, "folder", "file")})
	}
	if err := c.send(copyPlan, fields{"roots": roots, "totals": totals}); err != nil {
		return err
	}
	s := &sender{copyCall: c, block: make([]byte, copyBlock), done: make(chan error, 1)}
	if s.staged, err = c.readStaged(); err != nil {
		return err
	}
	c.reading.Add(1)
	go func() {
		defer c.reading.Done()
		_, err := c.expect(copyDone, "DONE")
		s.done <- err
	}()
	if err := s.sendAll(sources); err != nil {
		return err
	}
	return <-s.done
}

func (c *copyCall) findSources() (found []source, err error) {
	for index, path := range c.paths {
		if path, err = c.service.allow(path); err != nil {
			return nil, errDenied
		}
		var is os.FileInfo
		if c.service.root == "" { // otherwise it was checked to have no links
			path, err = filepath.EvalSymlinks(path)
		}
		if err == nil {
			is, err = os.Stat(path)
		}
		if err == nil {
			err = syscall.Access(path, 4) // to read
		}
		if err == nil && !is.Mode().IsRegular() && !is.IsDir() {
			err = refusedCopy(c.paths[index], "not a file or folder")
		}
		if err == nil {
			err = c.keep(2 * len(path))
		}
		if err != nil {
			return nil, copyFailed(c.paths[index], err)
		}
		found = append(found, source{path, c.names[index], is.IsDir()})
	}
	sort.Slice(found, func(a, b int) bool { return found[a].name < found[b].name })
	for index := 1; index < len(found); index++ {
		if found[index-1].name == found[index].name {
			return nil, refusedCopy(found[index].path, "another source has the same name")
		}
	}
	return found, nil
}

// readStaged reads what the receiver has, until it is ready. Files that find no room are sent again.
func (c *copyCall) readStaged() (map[string]staged, error) {
	files := map[string]staged{}
	for {
		kind, payload, err := c.next()
		if err != nil || kind == copyReady {
			return files, err
		}
		if kind != copyStaged || isLargeJSON(payload) {
			return nil, failf("protocol-error", "copy: unexpected record of kind %d before READY", kind)
		}
		o := parseNames(payload, "copy: STAGED")
		for _, each := range required[[]any](o, "files") {
			facts, _ := each.([]any)
			facts = append(facts, nil, nil, nil)
			name, isText := facts[0].(string)
			number, _ := facts[1].(json.Number)
			bytes, err := number.Int64()
			hash, _ := facts[2].(string)
			isValid := isText && len(name) <= maxCopyPath && err == nil && bytes >= 0 && isHex(hash, 2*sha256.Size)
			o.require(isValid, "files", "is not valid")
			if c.service.lists.Load() < maxCopyLists/2 {
				c.keep(stagedBytes + len(name))
				c.toCompare += bytes - files[name].bytes
				files[name] = staged{bytes, hash}
			}
		}
		if *o.failed != nil {
			return nil, *o.failed
		}
	}
}

// visited is an entry of a source.
type visited struct {
	os.FileInfo
	at, path, name string // where it is, by the open folder; for messages; and in the tar
	depth          int    // below the source
}

// visit visits the entries of the sources in the order of the tar, and warns of those that are not copied.
func (c *copyCall) visit(sources []source, see func(*visited) error, warn func(path, what string) error) error {
	for _, each := range sources {
		if err := c.visitSource(each, see, warn); err != nil {
			return copyFailed(each.path, err)
		}
	}
	return nil
}

func (c *copyCall) visitSource(s source, see func(*visited) error, warn func(path, what string) error) error {
	parent, err := openFolder(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	defer parent.Close()
	w, err := c.service.walk(parent)
	defer w.end()
	for name := filepath.Base(s.path); err == nil; {
		f := &visited{at: w.path(name), depth: len(w.levels)}
		below := ""
		if f.depth > 0 {
			below = "/" + filepath.Join(append(w.names()[1:], name)...)
		}
		f.path, f.name = s.path+below, s.name+below
		f.FileInfo, err = os.Lstat(f.at)
		isFolder := err == nil && f.IsDir()
		switch {
		case !utf8.ValidString(name):
			err = refusedCopy(f.path, "name is not UTF-8")
		case isFolder && len(f.name) >= maxCopyPath:
			err = refusedCopy(f.path, "path in the copy longer than 4095 bytes")
		case err == nil && !isFolder && !f.Mode().IsRegular() && f.Mode().Type() != os.ModeSymlink:
			err = warn(f.path, "skipped: not a file, folder or link")
		case err == nil:
			err = see(f)
		}
		if err == nil && isFolder {
			err = w.down(name)
		}
		if os.IsNotExist(err) && f.depth > 0 {
			err = warn(f.path, "skipped: removed during the copy")
		}
		next := step{isLeft: true}
		for err == nil && next.isLeft && len(w.levels) > 0 {
			next, err = w.step()
		}
		name = next.name
		if err != nil || next.isLeft {
			return copyFailed(f.path, err)
		}
	}
	return err
}

// count returns the totals of the sources, and refuses what would be refused later.
func (c *copyCall) count(sources []source) (fields, error) {
	var files, folders, links, bytes int64
	err := c.visit(sources, func(f *visited) (err error) {
		switch {
		case f.IsDir():
			folders++
		case f.Mode().IsRegular():
			files++
			bytes += f.Size()
		default:
			links++
			_, err = c.readLink(f)
		}
		return err
	}, func(path, what string) error { return nil })
	return fields{"files": files, "folders": folders, "links": links, "bytes": bytes}, err
}

func (c *copyCall) readLink(f *visited) (string, error) {
	target, err := os.Readlink(f.at)
	if err == nil && !utf8.ValidString(target) {
		err = refusedCopy(f.path, "link target is not UTF-8")
	}
	if err == nil {
		err = c.checkLink(f.path, target, f.depth-1)
	}
	return target, err
}

// sendAll sends the entries of the sources, and the checks of the files.
func (s *sender) sendAll(sources []source) error {
	if err := s.compare(0); err != nil {
		return err
	}
	s.out = bufio.NewWriterSize(s.copyCall, copyBlock)
	s.tar = tar.NewWriter(s.out)
	err := s.visit(sources, s.sendEntry, s.warn)
	for _, finish := range []func() error{s.tar.Close, s.out.Flush, s.sendChecks} {
		if err == nil {
			err = finish()
		}
	}
	if more := s.warnings - maxCopyWarnings; err == nil && more > 0 {
		err = s.send(copyWarning, fields{"message": "and " + strconv.Itoa(more) + " more"})
	}
	if err == nil {
		err = s.send(copyEnd, fields{})
	}
	return err
}

// sendEntry sends an entry; of a file, what the receiver does not have.
func (s *sender) sendEntry(f *visited) (err error) {
	select {
	case err = <-s.done:
		if err == nil {
			err = failf("protocol-error", "copy: DONE before END")
		}
		return err
	default:
	}
	header := &tar.Header{Name: f.name, Mode: int64(f.Mode().Perm()), ModTime: changedAt(f.at, f), Format: tar.FormatPAX}
	switch {
	case f.Mode().IsRegular():
		return s.sendFile(f, header)
	case f.IsDir():
		header.Typeflag = tar.TypeDir
		if f.Mode()&os.ModeSticky != 0 {
			header.Mode |= syscall.S_ISVTX
		}
	default:
		header.Typeflag = tar.TypeSymlink
		if header.Linkname, err = s.readLink(f); err != nil {
			return err
		}
	}
	return s.tar.WriteHeader(header)
}

func (s *sender) sendFile(f *visited, header *tar.Header) error {
	// Without O_NONBLOCK, opening a FIFO that has replaced the file would block.
	file, err := os.OpenFile(f.at, syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	was, err := file.Stat()
	if err == nil && !was.Mode().IsRegular() {
		err = refusedCopy(f.path, "no longer a file")
	}
	if err != nil {
		return err
	}
	offset := int64(0)
	if part := s.staged[f.name]; part.bytes > 0 && part.bytes <= was.Size() {
		hash, err := s.hash(io.NewSectionReader(file, 0, part.bytes))
		if err != nil {
			return err
		}
		if hash == part.hash {
			offset, header.PAXRecords = part.bytes, map[string]string{offsetKey: strconv.FormatInt(part.bytes, 10)}
		}
	}
	header.Typeflag, header.Size = tar.TypeReg, was.Size()-offset
	if err := s.tar.WriteHeader(header); err != nil {
		return err
	}
	check := crc32.NewIEEE()
	to := struct{ io.Writer }{io.MultiWriter(s.tar, check)}
	if _, err := io.CopyBuffer(to, io.NewSectionReader(file, offset, header.Size), s.block); err != nil {
		return err
	}
	s.files++
	s.bytes += was.Size()
	is, err := file.Stat()
	switch {
	case err != nil:
		return err
	case is.Size() < was.Size():
		return failf("copy-failed", "%s: shrank during the copy: %d of %d bytes left", escape(f.path, maxCopyPath), is.Size(),
			was.Size())
	case is.Size() > was.Size():
		err = s.warn(f.path, "grew during the copy; only its first "+strconv.FormatInt(was.Size(), 10)+" bytes were copied")
	case !is.ModTime().Equal(was.ModTime()):
		err = s.warn(f.path, "changed during the copy")
	}
	if s.checks = append(s.checks, check.Sum32()); err == nil && len(s.checks) == checksPerRecord {
		err = s.sendChecks()
	}
	return err
}

// warn tells the receiver what was not copied as it is. After many warnings, others are only counted.
func (s *sender) warn(path, what string) error {
	s.warnings++
	if s.warnings > maxCopyWarnings {
		return nil
	}
	return s.send(copyWarning, fields{"message": escape(path, maxCopyPath) + ": " + what})
}

func (s *sender) sendChecks() error {
	var payload bytes.Buffer
	binary.Write(&payload, binary.BigEndian, s.checks)
	s.checks = s.checks[:0]
	return s.sendRecord(copyChecks, payload.Bytes())
}

// hash returns the SHA-256 of what it reads, which counts as compared.
func (c *copyCall) hash(from io.Reader) (string, error) {
	hash, block := sha256.New(), make([]byte, copyBlock)
	for {
		count, err := from.Read(block)
		hash.Write(block[:count])
		if err == io.EOF {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err == nil {
			err = c.compare(count)
		}
		if err != nil {
			return "", err
		}
	}
}

// compare counts bytes that were read to compare files, and tells the caller now and then, and that it begins.
func (c *copyCall) compare(count int) error {
	c.compared += int64(count)
	isDue := count == 0 || c.compared-c.told >= compareEvery || c.compared >= c.toCompare
	if !c.isTold || c.toCompare == 0 || !isDue {
		return nil
	}
	c.told = c.compared
	return c.send(copyCompared, fields{"bytes": c.compared, "totalBytes": c.toCompare})
}
