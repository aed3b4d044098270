package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// address is a TCP port, or a unix socket with the mode of its file (0: for its owner only).
type address struct {
	network, text string // tcp or unix; HOST:PORT or a path
	mode          fs.FileMode
}

// parsePath reads an absolute path, with or without an empty port (`:-`).
func parsePath(text string) (string, error) {
	path := strings.TrimSuffix(text, ":-")
	switch {
	case path == "":
		return "", errors.New("missing path, such as /run/vm1.sock")
	case path[0] != '/':
		return "", errors.New("the path must be absolute")
	}
	return path, nil
}

// parseSocketPath reads the path of a unix socket, whose length the system limits.
func parseSocketPath(text string) (string, error) {
	const max = 107 // sun_path without its NUL
	path, err := parsePath(text)
	if len(path) > max {
		err = fmt.Errorf("path of a unix socket too long: %d bytes (max %d)", len(path), max)
	}
	return path, err
}

// hostNames are the names and IPv4 addresses of hosts.
var hostNames = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$`)

// parseAddress reads PORT, ADDR:PORT, or /path[,mode=0660].
func parseAddress(text string) (address, error) {
	text, isUnix := strings.TrimPrefix(text, "unix:"), strings.HasPrefix(text, "unix:")
	if isUnix && !strings.HasPrefix(text, "/") {
		return address{}, errors.New("the path must be absolute")
	}
	text, isTCP := strings.TrimPrefix(text, "tcp:"), strings.HasPrefix(text, "tcp:")
	if strings.HasPrefix(text, "/") && !isTCP {
		text, option, hasOption := strings.Cut(text, ",")
		path, wrong := parseSocketPath(text)
		mode, err := strconv.ParseUint(strings.TrimPrefix(option, "mode="), 8, 9)
		if hasOption && (err != nil || !strings.HasPrefix(option, "mode=")) {
			return address{}, errors.New(escape(option, 64) + " is not an octal mode up to 0777, such as 0660")
		}
		return address{"unix", path, fs.FileMode(mode)}, wrong
	}
	if !strings.Contains(text, ":") {
		text = "127.0.0.1:" + text
	}
	host, port, err := net.SplitHostPort(text)
	number, notNumber := strconv.Atoi(port)
	switch {
	case err != nil || notNumber != nil || port[0] == '+' || text[0] == '[' && (!strings.Contains(host, ":") || net.ParseIP(strings.Split(host, "%")[0]) == nil) ||
		text[0] != '[' && !hostNames.MatchString(host):
		return address{}, errors.New("not a valid ADDR:PORT (an IPv6 address goes in brackets)")
	case number < 0 || number > 65535:
		return address{}, errors.New("port " + port + " is not from 0 to 65535")
	}
	return address{network: "tcp", text: net.JoinHostPort(host, port)}, nil
}

// listen listens at the address.
func (a address) listen() (listener net.Listener, err error) {
	if a.network == "unix" {
		err = a.clear()
	}
	if err == nil {
		// Nobody else may connect before the mode is set.
		old := syscall.Umask(0o177)
		listener, err = (&net.ListenConfig{Control: keepUrgent}).Listen(context.Background(), a.family(a.network), a.text)
		syscall.Umask(old)
	}
	if err == nil && a.mode != 0 {
		err = os.Chmod(a.text, a.mode)
	}
	if err == nil {
		return listener, nil
	}
	return nil, a.unavailable(err)
}

// family returns the network to listen on: without its family, 0.0.0.0 would be for IPv6, too, also as ::ffff:0.0.0.0.
func (a address) family(network string) string {
	place, _ := netip.ParseAddrPort(a.text)
	return network + either(place.Addr().Unmap() == netip.IPv4Unspecified(), "4", "")
}

// unavailable returns why the address cannot be listened on.
func (a address) unavailable(err error) *failure {
	failed := toFailure(err, "address-unavailable")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		failed.code = "address-in-use"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		failed.code = "address-denied"
	case errors.Is(err, syscall.ENOENT):
		failed.message = "its folder does not exist"
	}
	return failf(failed.code, "cannot listen on %s: %s", a.text, failed.message)
}

// dial connects to the address, unless cancelled.
func (a address) dial(cancelled <-chan struct{}) (net.Conn, error) {
	dialer := net.Dialer{Timeout: connectTime, Cancel: cancelled, Control: keepUrgent}
	return dialer.Dial(a.network, a.text)
}

// keepUrgent leaves an urgent byte (MSG_OOB) in its place among the others, where a stream can carry it. A listener's connections
// inherit this.
func keepUrgent(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1) })
}

// clear removes a stale socket file.
func (a address) clear() error {
	info, err := os.Lstat(a.text)
	if err != nil {
		return nil
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return failf("address-in-use", "exists and is not a socket")
	}
	conn, err := net.DialTimeout("unix", a.text, time.Second)
	if err == nil {
		conn.Close()
		return failf("address-in-use", "already in use by another process")
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return os.Remove(a.text)
	}
	return err
}

const (
	// connectTime bounds how long a target may take to answer.
	connectTime = 10 * time.Second
	// maxConnections bounds the connections of a listener: twice the streams that the peer allows by default.
	maxConnections = 2048
)

// forward joins streams to sockets: -i connects each stream of the peer, and -o opens a stream for each connection.
type forward struct {
	service string
	address address
	kind    string // of -o: redirect, where nftables sends connections for an egress; udp, where a resolver is asked; or ""
}

const otherKinds = "udp unixgram vsock-mux file exec egress resolver" // of vproxy

// unlikelyServices are kinds that are refused as names of services without a kind: the service was more likely forgotten.
var unlikelyServices = map[string]string{"-i": "exec file udp unixgram", "-o": "udp unixgram"}

var sshOrder = regexp.MustCompile(`^((localhost|\*|\d+\.\d+\.\d+\.\d+|\[[^\]]*\])?:)?\d+:((([^:[\]]+|\[[^\]]+\]):)?\d+)$`)

// parseForward reads SERVICE:TARGET of -i, or SERVICE:LISTENER of -o.
func parseForward(option, text string) (*forward, error) {
	service, rest, hasColon := strings.Cut(text, ":")
	kind, place, hasKind := strings.Cut(rest, ":")
	ownKind := ""
	if hasKind && isWord(kind, "redirect udp") && option == "-o" {
		ownKind, rest = kind, "tcp:"+place
	}
	address, err := parseAddress(rest)
	_, port, _ := net.SplitHostPort(address.text)
	switch {
	case sshOrder.MatchString(text):
		err = errors.New("begins with a port, as in ssh, instead of a service")
	case !hasColon:
		err = errors.New("no colon after the service")
	case net.ParseIP(service) != nil:
		err = errors.New("begins with an address instead of a service")
	case !(hasKind && isWord(kind, otherKinds+" tcp unix redirect")) && isWord(service, unlikelyServices[option]):
		err = errors.New("begins with the kind " + service + " instead of a service")
	case !serviceNames.MatchString(service):
		err = errors.New("not a valid service name (1 to 64 of a-z, 0-9, dot, underscore and hyphen, " +
			"beginning with a letter or digit)")
	case hasKind && kind == "redirect" && option == "-i":
		err = errors.New("cannot serve streams with redirect")
	case hasKind && isWord(kind, otherKinds) && ownKind == "":
		err = errors.New("vproxy-guest does not support " + kind + ":; use vproxy")
	case err == nil && option == "-i" && address.mode != 0:
		err = errors.New(`unknown option "mode"; none available`)
	case err == nil && option == "-i" && address.network == "tcp" && port == "0":
		err = errors.New("port 0 is not from 1 to 65535")
	}
	if err != nil {
		return nil, failf("bad-argument", "%s %s: %s; expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path",
			option, escape(text, 256), err)
	}
	return &forward{service, address, ownKind}, nil
}

func (f *forward) name() string { return f.endpoint() + " (" + f.service + ")" }

func (f *forward) endpoint() string { return either(f.kind == "", "", f.kind+":") + f.address.text }

// serve connects a stream of the peer to the target.
func (f *forward) serve(st *stream) {
	gone := make(chan struct{})
	st.notify(func() {}, func(*failure) { close(gone) })
	conn, err := f.address.dial(gone)
	if err != nil {
		code, what := "connect-failed", describe(err)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
			code = "connect-refused"
		case os.IsTimeout(err):
			code, what = "connect-timeout", "did not answer within 10 s"
		}
		st.Reset(code, "%s: %s", f.name(), what)
		logLine(logWarn, "target-failed", "%s: %s (%s)", f.name(), what, code)
		return
	}
	st.accept()
	splice(st, conn.(socket), nil)
	st.logEnd(f.name())
}

// listen starts to listen, and opens a stream for each connection.
func (f *forward) listen(c *channel) error {
	if f.kind == "udp" {
		return f.listenDNS(c)
	}
	listener, err := f.address.listen()
	if err != nil {
		return err
	}
	f.address.text = listener.Addr().String()
	logLine(logInfo, "listening", "listening on %s for %s", f.endpoint(), f.service)
	if f.address.network == "unix" {
		c.sockets = append(c.sockets, f.address.text)
	} else if f.kind == "" {
		logLine(logWarn, "open-port",
			"every user of this machine can connect to %s; to allow only yours, use a unix socket (-o %s:/path)",
			f.address.text, f.service)
	}
	go acceptAll(listener.Accept, maxConnections, func(conn net.Conn) { f.connect(conn.(socket), c) })
	return nil
}

// acceptAll serves connections, up to a number at once; others wait.
func acceptAll[T any](accept func() (T, error), max int, serve func(T)) {
	places, starts := make(chan struct{}, max), new(queue)
	for {
		places <- struct{}{}
		conn, err := accept()
		if err != nil {
			logLine(logWarn, "accept-failed", "cannot accept: %s", describe(err))
			time.Sleep(firstRetry)
			<-places
			continue
		}
		starts.begin(func() {
			serve(conn)
			<-places
		})
	}
}

// queue starts goroutines in order; the runtime would begin with the newest.
type queue struct {
	mutex
	waiting []func()
}

func (q *queue) begin(work func()) {
	defer q.lock()()
	q.waiting = append(q.waiting, work)
	go func() {
		q.Lock()
		first := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.Unlock()
		first()
	}()
}

func (f *forward) connect(conn socket, c *channel) {
	from := ""
	if f.address.network == "tcp" {
		from = conn.RemoteAddr().String()
	}
	var to netip.AddrPort
	if f.kind == "redirect" {
		var err error
		if to, err = originalDestination(conn); err != nil {
			abort(conn)
			logLine(logWarn, "stream-refused", "a connection to %s was closed: %s", f.name(), describe(err))
			return
		}
	}
	st, refused := c.open(f.service, from, sessionWait)
	if refused != nil {
		abort(conn)
		logLine(logWarn, "stream-refused", "a connection to %s was reset: %s (%s)", f.name(), refused.message, refused.code)
		return
	}
	if f.kind == "" {
		splice(st, conn, nil)
	} else if failed := redirect(st, conn, to); failed != nil {
		logLine(logInfo, "stream-reset", "stream %d to %s was reset: %s (%s)", st.id, f.service, failed.message, failed.code)
		return
	}
	st.logEnd(f.service)
}

// socket is what both TCP and unix sockets have.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// abort closes a socket with an error at its other end, as bytes may be missing.
func abort(conn socket) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// splice carries bytes both ways until the stream has ended, and closes the socket. What the peer sends goes through begin first, if
// there is one.
func splice(st *stream, conn socket, begin func() error) {
	st.notify(func() { conn.SetReadDeadline(time.Unix(1, 0)) }, func(reason *failure) {
		if reason != nil {
			abort(conn)
		}
	})
	local := newQuick(conn)
	written := make(chan struct{})
	go func() {
		var err error
		if begin != nil {
			err = begin()
		}
		if err == nil {
			err = st.writeTo(local)
		}
		if err != nil {
			st.stop(failf("local-error", "%s", describe(err)))
		} else {
			conn.CloseWrite()
		}
		close(written)
	}()
	toPeer(st, local)
	linger(st, conn, local, written)
	<-written
	st.waitEnd()
	conn.Close()
}

// buffers are lent only to readable sockets, so idle streams hold none.
var buffers = sync.Pool{New: func() any { return new([65536]byte) }}

func toPeer(st *stream, local *quick) {
	for {
		buffer, count, readErr, err := local.readLent(true)
		switch {
		case err != nil: // the peer no longer reads, or the stream has ended
			return
		case readErr != nil:
			st.Reset("local-error", "%s", describe(readErr))
			return
		case count == 0:
			st.CloseWrite()
			return
		}
		_, err = st.Write(buffer[:count])
		buffers.Put(buffer)
		if err != nil {
			return
		}
	}
}

// quick reads and writes a non-blocking file by raw system calls, hidden from the scheduler: while a write wakes another
// process, the scheduler would hand over to another thread, which costs a third of an echo.
type quick struct {
	raw syscall.RawConn
	io.Closer

	// reset holds an error already returned to a write: the kernel reports it once, so the next read sees plain EOF.
	mutex
	reset error
}

// newQuick takes an open file or connection, for which this cannot fail.
func newQuick(conn io.Closer) *quick {
	raw, _ := conn.(syscall.Conn).SyscallConn()
	return &quick{raw: raw, Closer: conn}
}

// quickCall makes a read or write, and reports whether it is done; if not, it is repeated when the file is ready.
func quickCall(call, fd uintptr, bytes []byte) (count int, isDone bool, err error) {
	number := syscall.EINTR
	for number == syscall.EINTR {
		var result uintptr
		result, _, number = syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&bytes[0])), uintptr(len(bytes)))
		count = int(result)
	}
	if number != 0 {
		return 0, number != syscall.EAGAIN, number
	}
	return count, true, nil
}

// readLent reads into a buffer that the caller returns; err: the wait for bytes has ended. Unless it may read, it only waits.
func (q *quick) readLent(mayRead bool) (buffer *[65536]byte, count int, readErr, err error) {
	err = q.raw.Read(func(fd uintptr) (isDone bool) {
		if !mayRead {
			return false
		}
		buffer = buffers.Get().(*[65536]byte)
		if count, isDone, readErr = quickCall(syscall.SYS_READ, fd, buffer[:]); !isDone {
			buffers.Put(buffer)
		}
		return isDone
	})
	if err == nil && readErr == nil && count == 0 {
		readErr = q.wasReset()
	}
	return buffer, count, readErr, err
}

func (q *quick) Read(to []byte) (count int, err error) {
	waitErr := q.raw.Read(func(fd uintptr) (isDone bool) {
		count, isDone, err = quickCall(syscall.SYS_READ, fd, to)
		return isDone
	})
	if waitErr != nil {
		return 0, waitErr
	}
	if err == nil && count == 0 {
		err = io.EOF
	}
	return count, err
}

func (q *quick) Write(bytes []byte) (written int, err error) {
	for written < len(bytes) && err == nil {
		waitErr := q.raw.Write(func(fd uintptr) (isDone bool) {
			var count int
			count, isDone, err = q.write(fd, bytes[written:])
			written += count
			return isDone
		})
		if waitErr != nil {
			err = waitErr
		}
	}
	return written, err
}

func (q *quick) write(fd uintptr, bytes []byte) (count int, isDone bool, err error) {
	defer q.lock()()
	if q.reset != nil {
		return 0, true, q.reset
	}
	count, isDone, err = quickCall(syscall.SYS_WRITE, fd, bytes)
	if isDone && err != nil && err != syscall.EPIPE { // EPIPE: it was closed cleanly before
		q.reset = err
	}
	return count, isDone, err
}

// writeNow writes what the file accepts without blocking, while no other goroutine writes. An error is left to the next Write.
func (q *quick) writeNow(bytes []byte) (count int) {
	q.raw.Write(func(fd uintptr) bool {
		count, _, _ = q.write(fd, bytes)
		return true
	})
	return count
}

func (q *quick) closeWrite() {
	if conn, isSocket := q.Closer.(socket); isSocket {
		conn.CloseWrite()
	}
}

// wasReset returns the pending reset if EOF was not a real EOF, else nil.
func (q *quick) wasReset() error {
	defer q.lock()()
	return q.reset
}
