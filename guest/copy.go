package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxCopies    = 64
	copyBlock    = 32768    // bytes that are read, written or sent at a time
	maxCopyLists = 16 << 20 // bytes of messages and lists, in all copies
	compareEvery = 16 << 20 // bytes, after which the caller hears of a comparison
	copyEndTime  = 10 * time.Second
)

// copyService lets the peer copy files to and from this machine (docs/copy.md).
type copyService struct {
	root         string       // the folder that copies are confined to; empty: anywhere
	running      atomic.Int32 // copies
	lists, names atomic.Int64 // bytes of messages and lists, and of the names of folders
	mutex
	parts map[string]bool // and targets, that copies write to
}

// copyCall is one copy. One goroutine runs it; while it sends, another one reads.
type copyCall struct {
	service *copyService
	stream  *stream
	in      *bufio.Reader

	// What START says.
	isPut, isResumed, keepsLinks, hasTotals bool
	isTold                                  bool // the caller wants to hear of comparisons
	paths, names                            []string

	isLost     atomic.Bool // the stream ended before the copy: its part is kept
	isFromPeer atomic.Bool // the peer knows of the failure
	held       int64       // bytes of the last message
	listed     int64       // bytes of lists
	dataLeft   int         // bytes of the DATA that is being read
	reading    sync.WaitGroup

	files, warnings           int
	bytes                     int64
	toCompare, compared, told int64 // bytes of the part of an earlier copy; told: the caller
}

// setCopies allows copies: anywhere, or in a folder.
func (o *options) setCopies(root string) error {
	o.copies = &copyService{root: root, parts: map[string]bool{}}
	if root == "" {
		return nil
	}
	if !filepath.IsAbs(root) || isWord("..", strings.ReplaceAll(root, "/", " ")) {
		return failf("bad-argument", `--allow-copy: "%s" is not the absolute path of a folder, such as /srv/in`, escape(root, 256))
	}
	if is, err := os.Stat(root); err != nil || !is.IsDir() {
		return failf("bad-argument", "--allow-copy=%s: no such folder", escape(root, 256))
	}
	return nil
}

func (s *copyService) serve(st *stream) {
	if !st.accept() {
		return
	}
	c := &copyCall{service: s, stream: st, in: bufio.NewReader(st)}
	failed := failf("too-many-streams", "too many copies (max %d)", maxCopies)
	if s.running.Add(1) <= maxCopies {
		failed = toFailure(c.run(), "copy-failed")
	}
	s.running.Add(-1)
	defer time.AfterFunc(copyEndTime, st.Close).Stop()
	if failed != nil && !c.isFromPeer.Load() {
		c.send(copyError, fields{"code": failed.code, "message": cut(failed.message, 2*maxCopyPath)})
	}
	st.CloseWrite()
	st.drain()
	c.reading.Wait()
	s.lists.Add(-c.held - c.listed)
}

// run reads the request, and carries it out.
func (c *copyCall) run() error {
	o, err := c.expect(copyStart, "START")
	if err != nil {
		return err
	}
	direction, isValid := o.text("direction"), true
	c.isPut, c.isResumed = direction == "put", required[bool](o, "isResumed")
	c.isTold, c.keepsLinks = optional[bool](o, "isComparisonTold"), optional[bool](o, "keepsLinks")
	if c.isPut {
		c.paths = []string{o.text("target")}
		// In a folder that copies are confined to, a peer must not make links to lead other copies out of it.
		c.keepsLinks = c.keepsLinks && c.service.root == ""
	} else {
		c.hasTotals = required[bool](o, "hasTotals")
		for _, source := range o.objects("sources", maxCopySources) {
			path, name := source.text("path"), source.text("name")
			c.paths, c.names = append(c.paths, path), append(c.names, name)
			isValid = isValid && isFileName(name)
		}
	}
	for _, path := range c.paths {
		isValid = isValid && len(path) <= maxCopyPath && isPlain(path)
	}
	o.require(isValid && (c.isPut || direction == "get"), "direction", "or a path is not valid")
	if *o.failed != nil {
		return *o.failed
	}
	for index := 0; index < len(c.paths) && err == nil; index++ {
		c.paths[index], err = c.service.findHome(c.paths[index])
	}
	if err == nil && c.isPut {
		err = c.receiveFiles(c.paths[0])
	} else if err == nil {
		err = c.sendFiles()
	}
	if failed := toFailure(err, "copy-failed"); failed != nil {
		logLine(logWarn, "copy-refused", "copy %s: %s (%s)", c.line(), escape(failed.message, 512), failed.code)
	} else {
		how := fmt.Sprintf("%d files, %d bytes", c.files, c.bytes)
		logLine(logInfo, "copy-ended", "copy %s: %s", c.line(), strings.Replace(" "+how, " 1 files", " 1 file", 1)[1:])
	}
	return err
}

// line describes the copy in the log.
func (c *copyCall) line() string {
	direction := either(c.isPut, "to ", "from ")
	return direction + escape(strings.Join(c.paths[:least(len(c.paths), 32)], ", "), 512)
}

// keep counts bytes of lists that grow with what the peer sends; a negative number gives some back.
func (c *copyCall) keep(bytes int) error {
	c.listed += int64(bytes)
	return c.service.checkRoom(bytes)
}

func (s *copyService) checkRoom(bytes int) error {
	if s.lists.Add(int64(bytes)) > maxCopyLists && bytes > 0 {
		return failf("too-many-streams", "copy: out of memory for all copies (max %d bytes)", maxCopyLists)
	}
	return nil
}

// lose returns the error of a stream that ended early. The copy leaves its part.
func (c *copyCall) lose(err error) error {
	c.isLost.Store(true)
	if reason, isReset := err.(*failure); isReset {
		return failf(reason.code, "connection lost before the copy was complete: %s", reason.message)
	}
	return failf("cancelled", "connection lost before the copy was complete")
}

// next reads a record. The bytes of DATA follow; any other payload stays until the next call.
func (c *copyCall) next() (kind byte, payload []byte, err error) {
	var header [recordHeaderBytes]byte
	if _, err = io.ReadFull(c.in, header[:]); err != nil {
		return 0, nil, c.lose(err)
	}
	kind, length := header[0], binary.BigEndian.Uint32(header[1:])
	if length > copyRecordBytes {
		return 0, nil, failf("protocol-error", "copy: a record of %d bytes is too long", length)
	}
	if kind == copyData {
		c.dataLeft = int(length)
		return kind, nil, nil
	}
	c.service.lists.Add(-c.held)
	c.held = int64(length)
	if err = c.service.checkRoom(int(length)); err != nil {
		return 0, nil, err
	}
	// A length alone allocates nothing.
	if payload, err = io.ReadAll(io.LimitReader(c.in, int64(length))); err == nil && len(payload) < int(length) {
		err = io.EOF
	}
	if err != nil {
		return 0, nil, c.lose(err)
	}
	if kind == copyError {
		c.isFromPeer.Store(true)
		reason := parseObject(payload, "copy: ERROR").reason()
		return 0, nil, failf(reason.code, "peer: %s", reason.message)
	}
	return kind, payload, nil
}

// expect reads a message of one kind, whose texts may be kept.
func (c *copyCall) expect(kind byte, what string) (o object, err error) {
	got, payload, err := c.next()
	if err == nil && got != kind {
		err = failf("protocol-error", "copy: record of kind %d, expected %d", got, kind)
	}
	if err == nil && isLargeJSON(payload) {
		err = failf("protocol-error", "copy: %s has too many values", what)
	}
	if err == nil {
		o, err = parseNames(payload, "copy: "+what), c.keep(2*len(payload))
	}
	return o, err
}

// objects returns a field that must be a list of objects, which share this object's error.
func (o object) objects(name string, max int) (list []object) {
	values := required[[]any](o, name)
	o.require(len(values) > 0 && len(values) <= max, name, "is empty or too long")
	for _, value := range values {
		each, _ := value.(map[string]any)
		list = append(list, object{o.what, o.code, each, o.failed})
	}
	return list
}

// send sends a message.
func (c *copyCall) send(kind byte, message fields) error {
	payload := encode(message)
	if len(payload) > copyRecordBytes {
		return failf("bad-argument", "the paths of all sources together are too long; copy their folder instead")
	}
	return c.sendRecord(kind, payload)
}

func (c *copyCall) sendRecord(kind byte, payload []byte) error {
	if _, err := c.stream.Write(record(kind, payload)); err != nil {
		return c.lose(err)
	}
	return nil
}

// Write sends bytes of the tar.
func (c *copyCall) Write(tar []byte) (int, error) { return len(tar), c.sendRecord(copyData, tar) }
