package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

// sftpService serves the files of this machine by SFTP version 3 (docs/sftp.md), where copies are allowed and within their folder.
type sftpService struct {
	copies  *copyService
	running atomic.Int32 // streams
}

// sftpCall is one stream. One goroutine carries out its requests in order, so what a client does not read holds up its requests.
type sftpCall struct {
	*sftpService
	stream *stream
	in     *bufio.Reader
	out    io.Writer
	start  string   // relative paths begin there
	memory []byte   // of the current request, then of its answer
	held   []folder // opened for the current request

	isReady bool     // INIT came
	fault   *failure // of a packet
	files   [maxSftpHandles]*sftpFile

	opened, refused         int
	bytesRead, bytesWritten int64
}

// sftpFile is what a handle stands for. Its name is a path to it: asking it for the descriptor would make READs wait for data.
type sftpFile struct {
	*os.File
	isFolder, isAppend bool
}

// sftpRequest has the fields of a request that its form names.
type sftpRequest struct {
	id, number    uint32 // number: of the handle
	file          *sftpFile
	path, at, to  string // path: as the client has it; at and to: as place returns it
	offset        uint64
	length, flags uint32
	attrs         sftpAttributes
	data          []byte
	failed        error // why a path or a handle cannot be used
}

// sftpAttributes are what a client sets.
type sftpAttributes struct {
	flags                                 uint32
	size                                  uint64
	user, group, mode, accessed, modified uint32
}

const attrSize, attrOwner, attrMode, attrTimes, attrExtended = 1, 2, 4, 8, 1 << 31

var (
	errNoHandle = errors.New("no such handle")
	errNotFile  = errors.New("not a file or folder")
)

func (s *sftpService) serve(st *stream) {
	defer s.running.Add(-1)
	if s.running.Add(1) > maxSftpStreams {
		st.Reset("too-many-streams", "too many sftp streams (max %d)", maxSftpStreams)
		return
	}
	if !st.accept() {
		return
	}
	logLine(logInfo, "sftp-started", "sftp: started%s", either(s.copies.root == "", "", " in "+escape(s.copies.root, 256)))
	c := s.newCall(st)
	for c.step() == nil {
	}
	for _, file := range c.files {
		if file != nil {
			file.Close()
		}
	}
	summary := fmt.Sprintf("%d opened, %d bytes read, %d bytes written, %d refused", c.opened, c.bytesRead, c.bytesWritten, c.refused)
	if c.fault != nil {
		logLine(logWarn, "sftp-ended", "%s (%s); %s", c.fault.message, c.fault.code, summary)
		st.Reset(c.fault.code, "%s", c.fault.message)
		return
	}
	logLine(logInfo, "sftp-ended", "sftp: %s", summary)
	st.CloseWrite()
	st.drain()
}

func (s *sftpService) newCall(st *stream) *sftpCall {
	c := &sftpCall{sftpService: s, stream: st, in: bufio.NewReader(st), out: st, start: s.copies.root}
	if c.start == "" {
		c.start, _ = s.copies.findHome("")
	}
	return c
}

// step carries out a request. It fails only if the stream is to end.
func (c *sftpCall) step() error {
	kind, packet, err := c.next()
	runtime.Gosched() // many streams leave others their share
	if err == nil {
		err = c.answer(kind, packet)
	}
	c.release()
	return err
}

// release closes what was opened for a request.
func (c *sftpCall) release() {
	for _, each := range c.held {
		each.Close()
	}
	c.held = c.held[:0]
}

// malformed ends the stream because of a packet.
func (c *sftpCall) malformed(format string, args ...any) error {
	c.fault = failf("protocol-error", "sftp: malformed packet: "+format, args...)
	return c.fault
}

// next reads a packet into the memory of the call.
func (c *sftpCall) next() (kind byte, packet []byte, err error) {
	if cap(c.memory) > 2*copyBlock && c.in.Buffered() == 0 && c.stream.isEmpty() {
		c.memory = nil // an idle stream holds little
	}
	var header [4]byte
	if _, err = io.ReadFull(c.in, header[:]); err == io.ErrUnexpectedEOF {
		return 0, nil, c.malformed("cut off")
	} else if err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length == 0 || length > maxSftpPacket+sftpSpareBytes {
		return 0, nil, c.malformed("%d bytes", length)
	}
	packet = c.room(int(length))
	if _, err = io.ReadFull(c.in, packet); err == io.EOF || err == io.ErrUnexpectedEOF {
		err = c.malformed("cut off")
	}
	return packet[0], packet[1:], err
}

// room returns memory, which keeps its contents if it is large enough: so it is for the answer to READ.
func (c *sftpCall) room(bytes int) []byte {
	if cap(c.memory) < bytes {
		c.memory = make([]byte, bytes+copyBlock)
	}
	return c.memory[:bytes]
}

// answer carries out a request. It fails only if the stream is to end.
func (c *sftpCall) answer(kind byte, packet []byte) error {
	p := sftpFields{packet, true}
	if !c.isReady || kind == sftpInit {
		p.number()
		if kind != sftpInit || !p.isRight {
			return c.malformed("kind %d instead of INIT", kind)
		}
		c.isReady = true
		version := []any{uint32(sftpProtocol)}
		for _, text := range sftpExtensions {
			version = append(version, text)
		}
		return c.send(sftpVersion, version...)
	}
	r, key := &sftpRequest{id: p.number()}, any(int(kind))
	if kind == sftpExtended {
		key = string(p.text())
	}
	operation, isKnown := sftpOperations[key]
	p.readForm(r, operation.form, c)
	if !p.isRight {
		return c.malformed("kind %d, %d bytes", kind, len(packet)+1)
	}
	var answer []any
	err := r.failed
	if !isKnown {
		err = syscall.ENOSYS
	} else if err == nil {
		answer, err = operation.run(c, r)
	}
	if err != nil || answer == nil {
		status, message := statusOf(err)
		if status == statusPermissionDenied {
			c.refused++
		}
		operation.answer, answer = sftpStatus, []any{status, message, ""}
	}
	return c.send(operation.answer, append([]any{r.id}, answer...)...)
}

// sftpInPlace is this many bytes that are in the memory of the call already, where an answer to READ has them.
type sftpInPlace int

const sftpDataStart = 13 // length, kind, id, length of the data

// send sends a packet; texts get a length before them.
func (c *sftpCall) send(kind byte, values ...any) error {
	packet := append(c.room(copyBlock)[:0], 0, 0, 0, 0, kind)
	for _, value := range values {
		switch value := value.(type) {
		case uint32:
			packet = binary.BigEndian.AppendUint32(packet, value)
		case uint64:
			packet = binary.BigEndian.AppendUint64(packet, value)
		case string:
			packet = append(binary.BigEndian.AppendUint32(packet, uint32(len(value))), value...)
		case sftpInPlace:
			packet = binary.BigEndian.AppendUint32(packet, uint32(value))
			packet = packet[:len(packet)+int(value)]
		}
	}
	binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	_, err := c.out.Write(packet)
	return err
}

// statuses are the codes that OpenSSH has for errors; that of all others is FAILURE.
var statuses = map[syscall.Errno]uint32{
	syscall.ENOENT: statusNoSuchFile, syscall.ENOTDIR: statusNoSuchFile, syscall.EBADF: statusNoSuchFile,
	syscall.ELOOP: statusNoSuchFile, syscall.EPERM: statusPermissionDenied, syscall.EACCES: statusPermissionDenied,
	syscall.EFAULT: statusPermissionDenied, syscall.ENAMETOOLONG: statusBadMessage, syscall.EINVAL: statusBadMessage,
	syscall.ENOSYS: statusOpUnsupported,
}

func statusOf(err error) (status uint32, message string) {
	var number syscall.Errno
	switch {
	case err == nil:
		return statusOk, "success"
	case err == io.EOF:
		return statusEof, "end of file"
	case err == errDenied:
		return statusPermissionDenied, errDenied.message
	}
	errors.As(err, &number)
	if status = statuses[number]; status == 0 {
		status = statusFailure
	}
	return status, describe(err)
}

// sftpFields reads the fields of a packet. What is missing is zero, and isRight false from then on.
type sftpFields struct {
	left    []byte
	isRight bool
}

func (p *sftpFields) take(bytes uint32) []byte {
	if uint64(bytes) > uint64(len(p.left)) {
		p.left, p.isRight = nil, false
		return nil
	}
	taken := p.left[:bytes]
	p.left = p.left[bytes:]
	return taken
}

func (p *sftpFields) number() uint32 {
	if bytes := p.take(4); bytes != nil {
		return binary.BigEndian.Uint32(bytes)
	}
	return 0
}

func (p *sftpFields) long() uint64 {
	high := p.number()
	return uint64(high)<<32 | uint64(p.number())
}

func (p *sftpFields) text() []byte { return p.take(p.number()) }

// path reads a path, whose bytes need not be UTF-8.
func (p *sftpFields) path() string {
	path := string(p.text())
	p.isRight = p.isRight && !strings.Contains(path, "\x00")
	return path
}

func (p *sftpFields) attributes() (a sftpAttributes) {
	a.flags = p.number()
	if a.flags&attrSize != 0 {
		a.size = p.long()
	}
	if a.flags&attrOwner != 0 {
		a.user, a.group = p.number(), p.number()
	}
	if a.flags&attrMode != 0 {
		a.mode = p.number()
	}
	if a.flags&attrTimes != 0 {
		a.accessed, a.modified = p.number(), p.number()
	}
	if a.flags&attrExtended != 0 {
		count := p.number()
		p.isRight = p.isRight && count <= maxSftpExtended
		for ; count > 0 && p.isRight; count-- {
			p.text()
			p.text()
		}
	}
	return a
}

// readForm reads the fields that follow the id, each with a letter: p is a path, e one of an entry that is there, t one that need not
// be, n and m are names that links do not change; h is any handle, f one of a file, d one of a folder; o is an offset, l a length, x
// flags, a attributes, and b bytes. A * is no field, but a new handle: there must be one before anything is opened, which may make or
// empty it.
func (p *sftpFields) readForm(r *sftpRequest, form string, c *sftpCall) {
	note := func(text string, err error) string {
		if r.failed == nil {
			r.failed = err
		}
		return text
	}
	for _, field := range form {
		switch field {
		case '*':
			for r.number = 0; r.number < maxSftpHandles && c.files[r.number] != nil; r.number++ {
			}
			if r.number == maxSftpHandles {
				note("", fmt.Errorf("too many open handles (max %d)", maxSftpHandles))
			}
		case 'p':
			r.path = p.path()
		case 't':
			r.at = note(c.place(p.path(), true))
		case 'e':
			r.at = note(c.entry(p.path()))
		case 'n':
			r.at = note(c.place(p.path(), false))
		case 'm':
			r.to = note(c.place(p.path(), false))
		case 'h', 'f', 'd':
			r.number = maxSftpHandles
			if handle := p.text(); len(handle) == 4 {
				r.number = binary.BigEndian.Uint32(handle)
			}
			if r.number < maxSftpHandles {
				r.file = c.files[r.number]
			}
			if r.file == nil || field == 'f' && r.file.isFolder || field == 'd' && !r.file.isFolder {
				note("", errNoHandle)
			} else {
				r.at = r.file.Name()
			}
		case 'o':
			if r.offset = p.long(); r.offset > maxInteger {
				note("", syscall.EINVAL)
			}
		case 'l':
			r.length = p.number()
		case 'x':
			r.flags = p.number()
		case 'a':
			r.attrs = p.attributes()
		case 'b':
			r.data = p.text()
		}
	}
}
