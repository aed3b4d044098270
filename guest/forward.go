package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// address is that of a TCP port, or of a unix socket that others may use by the mode of its file (0: only its owner).
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

// parseAddress reads PORT, ADDR:PORT, or /path[,mode=0660].
func parseAddress(text string) (address, error) {
	text = strings.TrimPrefix(text, "unix:")
	if strings.HasPrefix(text, "/") {
		text, option, hasOption := strings.Cut(text, ",")
		path, _ := parsePath(text)
		mode, err := strconv.ParseUint(strings.TrimPrefix(option, "mode="), 8, 9)
		if hasOption && (err != nil || !strings.HasPrefix(option, "mode=")) {
			return address{}, errors.New(escape(option, 64) + " is not an octal mode up to 0777, such as 0660")
		}
		return address{"unix", path, fs.FileMode(mode)}, nil
	}
	host, port := "127.0.0.1", text
	if at := strings.LastIndexByte(text, ':'); at >= 0 {
		host, port = text[:at], text[at+1:]
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	isIPv6 := bare != host && net.ParseIP(bare) != nil
	number, err := strconv.Atoi(port)
	switch {
	case err != nil || host == "" || strings.ContainsAny(host, ":[]") && !isIPv6:
		return address{}, errors.New("not a valid ADDR:PORT (an IPv6 address goes in brackets)")
	case number < 0 || number > 65535:
		return address{}, errors.New("port " + port + " is not from 0 to 65535")
	}
	return address{network: "tcp", text: net.JoinHostPort(bare, port)}, nil
}

// listen listens at the address. A socket file is replaced only if nothing answers on it.
func (a address) listen() (net.Listener, error) {
	if a.network == "tcp" {
		listener, err := net.Listen(a.network, a.text)
		return listener, a.explain(err)
	}
	if info, err := os.Lstat(a.text); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, failf("address-in-use", "cannot listen on %s: exists and is not a socket", a.text)
		}
		conn, err := net.DialTimeout("unix", a.text, time.Second)
		switch {
		case err == nil:
			conn.Close()
			return nil, failf("address-in-use", "cannot listen on %s: already in use by another process", a.text)
		case !errors.Is(err, syscall.ECONNREFUSED):
			return nil, a.explain(err)
		}
		os.Remove(a.text)
	}
	// Nobody else may connect before the mode is set.
	old := syscall.Umask(0o177)
	listener, err := net.Listen("unix", a.text)
	syscall.Umask(old)
	if errors.Is(err, syscall.ENOENT) {
		return nil, failf("address-unavailable", "cannot listen on %s: its folder does not exist", a.text)
	}
	if err == nil && a.mode != 0 {
		err = os.Chmod(a.text, a.mode)
	}
	return listener, a.explain(err)
}

// explain gives an error of listening its code; no error stays none.
func (a address) explain(err error) error {
	code := "address-unavailable"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		code = "address-in-use"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		code = "address-denied"
	}
	return failf(code, "cannot listen on %s: %s", a.text, describe(err))
}

const (
	// connectTime bounds how long a target may take to answer.
	connectTime = 10 * time.Second
	// sessionWait is how long a connection waits for a session.
	sessionWait = 10 * time.Second
	// maxConnections bounds those of one listener: as many streams as the peer allows by default, and as many that
	// wait.
	maxConnections = 2048
)

// forward joins streams to sockets of this machine: -i connects the streams of the peer to a target, and -o listens and
// opens a stream for each connection.
type forward struct {
	service string
	address address
}

const otherKinds = "udp unixgram vsock-mux file exec egress resolver" // of vproxy

// parseForward reads SERVICE:TARGET of -i, or SERVICE:LISTENER of -o.
func parseForward(option, text string) (*forward, error) {
	service, rest, hasColon := strings.Cut(text, ":")
	kind, _, hasKind := strings.Cut(rest, ":")
	address, err := parseAddress(rest)
	switch {
	case !hasColon:
		err = errors.New("no colon after the service")
	case !isService(service):
		err = errors.New("not a valid service name (1 to 64 of a-z, 0-9, dot, underscore and hyphen, " +
			"beginning with a letter or digit)")
	case hasKind && isWord(kind, otherKinds):
		err = errors.New("vproxy-guest has no " + kind + ":, take vproxy")
	}
	if err != nil {
		return nil, failf("bad-argument", "%s %s: %s; expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path",
			option, escape(text, 256), err)
	}
	return &forward{service, address}, nil
}

func (f *forward) name() string { return f.address.text + " (" + f.service + ")" }

// serve connects a stream of the peer to the target.
func (f *forward) serve(st *stream) {
	gone := make(chan struct{})
	st.notify(func() {}, func(*failure) { close(gone) })
	dialer := net.Dialer{Timeout: connectTime, Cancel: gone}
	conn, err := dialer.Dial(f.address.network, f.address.text)
	if err != nil {
		code, what := "connect-failed", describe(err)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
			code = "connect-refused"
		case os.IsTimeout(err):
			code, what = "connect-timeout", "did not answer within 10 s"
		}
		st.Reset(code, "%s: %s", f.name(), what)
		logLine(logWarn, "%s: %s (%s)", f.name(), what, code)
		return
	}
	st.accept()
	splice(st, conn.(socket))
	st.logEnd(f.name())
}

// listen opens a stream for each connection. It returns when it listens.
func (f *forward) listen(c *channel) error {
	listener, err := f.address.listen()
	if err != nil {
		return err
	}
	f.address.text = listener.Addr().String()
	logLine(logInfo, "listening on %s for %s", f.address.text, f.service)
	if f.address.network == "unix" {
		c.sockets = append(c.sockets, f.address.text)
	} else {
		logLine(logWarn,
			"every user of this machine can connect to %s; to allow only yours, use a unix socket (-o %s:/path)",
			f.address.text, f.service)
	}
	go acceptAll(listener, maxConnections, func(conn net.Conn) { f.connect(conn.(socket), c) })
	return nil
}

// acceptAll serves connections, up to a number at once; others wait.
func acceptAll(listener net.Listener, max int, serve func(net.Conn)) {
	places := make(chan struct{}, max)
	for {
		places <- struct{}{}
		conn, err := listener.Accept()
		if err != nil {
			logLine(logWarn, "cannot accept: %s", describe(err))
			time.Sleep(firstRetry)
			<-places
			continue
		}
		go func() {
			serve(conn)
			<-places
		}()
	}
}

func (f *forward) connect(conn socket, c *channel) {
	from := ""
	if f.address.network == "tcp" {
		from = conn.RemoteAddr().String()
	}
	st, refused := c.open(f.service, from, sessionWait)
	if refused != nil {
		abort(conn)
		logLine(logWarn, "a connection to %s was reset: %s (%s)", f.name(), refused.message, refused.code)
		return
	}
	splice(st, conn)
	st.logEnd(f.service)
}

// socket is what TCP and unix sockets have in common.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// abort closes a socket so that its other end notices that bytes may be missing.
func abort(conn socket) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// splice carries bytes both ways until the stream has ended, and closes the socket.
func splice(st *stream, conn socket) {
	endReading := func() { conn.SetReadDeadline(time.Unix(1, 0)) }
	st.notify(endReading, func(reason *failure) {
		if reason != nil {
			abort(conn)
		}
	})
	local := newQuick(conn)
	written := make(chan struct{})
	go func() {
		if _, err := st.WriteTo(local); err != nil {
			st.stop(failf("local-error", "%s", describe(err)))
		} else {
			conn.CloseWrite()
		}
		close(written)
	}()
	toPeer(st, local)
	<-written
	st.waitEnd()
	conn.Close()
}

// buffers are lent only to sockets that have something to read, so idle streams need none.
var buffers = sync.Pool{New: func() any { return new([65536]byte) }}

func toPeer(st *stream, local *quick) {
	for {
		var buffer *[65536]byte
		var count int
		var readErr error
		err := local.raw.Read(func(fd uintptr) (isDone bool) {
			buffer = buffers.Get().(*[65536]byte)
			if count, isDone, readErr = quickCall(syscall.SYS_READ, fd, buffer[:]); !isDone {
				buffers.Put(buffer)
			}
			return isDone
		})
		if err == nil && readErr == nil && count == 0 {
			readErr = local.wasReset()
		}
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
		if buffers.Put(buffer); err != nil {
			return
		}
	}
}
