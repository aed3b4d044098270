package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// channelSpec is a channel as given to -c.
type channelSpec struct {
	text, kind, path string
	limits           limits
	isFull           bool          // integrity=full was given
	cid, port, baud  uint32        // of vsock, and of a serial line
	isOfHost         bool          // the peer is the host of this machine, as last judged
	resume           time.Duration // how long a session waits for another link
	resumeMemory     int           // bytes kept meanwhile
}

const channelKinds = "unix-connect unix-listen virtserial-open tty-open stdio vsock-connect vsock-listen"

// bauds are the speeds that Linux supports.
const bauds = "300 600 1200 1800 2400 4800 9600 19200 38400 57600 115200 230400 460800 500000 576000 921600 1000000 1152000 " +
	"1500000 2000000 2500000 3000000 3500000 4000000"

var labels = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

// parseChannel reads [LABEL=]KIND:ADDRESS[,key=value…]; the label is ignored here.
func parseChannel(text string) (*channelSpec, error) {
	kind, rest, hasColon := strings.Cut(text, ":")
	label, unlabelled, isLabelled := strings.Cut(kind, "=")
	fail := func(format string, args ...any) (*channelSpec, error) {
		return nil, failf("bad-argument", `channel "%s": %s`, escape(text, 256), fmt.Sprintf(format, args...))
	}
	if isLabelled {
		kind = unlabelled
		if !labels.MatchString(label) || label == "." || label == ".." {
			return nil, failf("bad-argument", `channel label "%s": must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen`+
				`, and not "." or ".."`, escape(label, 80))
		}
	}
	if hasColon && strings.HasPrefix(rest, "//") {
		return fail("vproxy-guest takes no URIs; write KIND:ADDRESS, such as unix-listen:/run/vm1.sock,frame=4096")
	}
	if !hasColon || !isWord(kind, channelKinds) {
		return fail("expected KIND:ADDRESS, where KIND is one of: %s; vproxy has more",
			strings.ReplaceAll(channelKinds, " ", ", "))
	}
	parts := strings.Split(strings.ReplaceAll(rest, ",,", "\x00"), ",")
	address := strings.ReplaceAll(parts[0], "\x00", ",")
	s := &channelSpec{text: kind + ":" + escape(address, 256), kind: kind, resumeMemory: 1 << 20,
		resume: either(strings.HasPrefix(kind, "vsock"), time.Minute, 0)}
	for index, rule := range limitRules {
		s.limits[index] = rule.usual
	}
	if kind == "tty-open" {
		s.isFull, s.limits[frameLimit], s.limits[inFlightLimit] = true, 4096, 4096
	}
	if err := s.parseAddress(address); err != nil {
		return fail("%s", err)
	}
	given := map[string]bool{}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		if given[name] {
			return fail("option %s given twice", escape(name, 64))
		}
		given[name] = true
		limit, isLimit := map[string]int{"frame": frameLimit, "in-flight": inFlightLimit, "streams": streamsLimit}[name]
		isRight, what := false, ""
		switch {
		case isLimit:
			number, err := strconv.Atoi(value)
			rule, unit := limitRules[limit], either(limit == streamsLimit, "", " of bytes")
			what = fmt.Sprintf("a number%s from %d to %d", unit, rule.min, rule.max)
			s.limits[limit], isRight = number, err == nil && value[0] != '+' && number >= rule.min && number <= rule.max
		case name == "integrity":
			s.isFull, isRight, what = value == "full", isWord(value, "frame full"), "frame or full"
		case name == "resume":
			isRight, what = parseTime(&s.resume, value), "a time from 0 (off) to 24h: 60s, 5m, 1h30m"
		case name == "resume-memory":
			isRight, what = parseSize(&s.resumeMemory, value), "a size from 1MiB to 1GiB"
		case name == "baud" && kind == "tty-open":
			isRight, what = isWord(value, bauds) && parseUint32(&s.baud, value), "one of "+strings.ReplaceAll(bauds, " ", ", ")
		default:
			return fail(`unknown option "%s"; available: frame, in-flight, integrity, resume, resume-memory, streams; `+
				"vproxy has more", escape(name, 64))
		}
		if !isRight {
			return fail("%s: must be %s", escape(part, 64), what)
		}
	}
	return s, nil
}

func (s *channelSpec) parseAddress(address string) (err error) {
	cid, port, _ := strings.Cut(address, ":")
	switch {
	case s.kind == "stdio":
		s.text = s.kind
		if address != "" {
			return errors.New("only options may follow the colon")
		}
	case s.kind == "vsock-connect" && !(parseUint32(&s.cid, cid) && parseUint32(&s.port, port)):
		return fmt.Errorf(`"%s" is not CID:PORT, such as 2:1234 for the host, 3:1234 for a guest`, escape(address, 64))
	case s.kind == "vsock-listen" && !parseUint32(&s.port, address):
		return fmt.Errorf(`"%s" is not a port from 0 to 4294967294`, escape(address, 64))
	case s.kind == "virtserial-open" && address != "" && !strings.Contains(address, "/"):
		s.path = filepath.Join(virtioPortFolder, address)
	case s.kind == "unix-connect" && strings.Contains(address, "*"):
		return errors.New("vproxy-guest has one channel; use vproxy for a group of them")
	case strings.HasPrefix(s.kind, "unix"):
		s.path, err = parseSocketPath(address)
	case !strings.HasPrefix(s.kind, "vsock"):
		s.path, err = parsePath(address)
	}
	return err
}

const anyCID = 1<<32 - 1

func parseUint32(to *uint32, text string) bool {
	value, err := strconv.ParseUint(text, 10, 32)
	*to = uint32(value)
	return err == nil && value < anyCID
}

// parseTime reads a time of at most a day; a number alone is in seconds.
func parseTime(to *time.Duration, text string) bool {
	if strings.Trim(text, "0123456789") == "" {
		text += "s"
	}
	return parseDuration(to, text) && *to <= 24*time.Hour
}

// parseDuration reads a time such as 1h30m.
func parseDuration(to *time.Duration, text string) (isRight bool) {
	value, err := time.ParseDuration(text)
	*to = value
	return err == nil && regexp.MustCompile(`^(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$`).MatchString(text)
}

// parseSize reads a size from 1 MiB to 1 GiB.
func parseSize(to *int, text string) bool {
	parts := append(regexp.MustCompile(`^(\d{1,12})(KiB|MiB|GiB)?$`).FindStringSubmatch(text), "", "", "")
	value, _ := strconv.ParseFloat(parts[1], 64)
	value *= map[string]float64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[parts[2]]
	*to = int(value)
	return value >= 1<<20 && value <= 1<<30
}

// leadsToHost reports whether the peer is the host of this machine, as on a virtual device, but not on a pseudo-terminal,
// regardless of its path.
func (s *channelSpec) leadsToHost() bool {
	var stat syscall.Stat_t
	s.isOfHost = s.kind == "virtserial-open" || s.kind == "tty-open" && syscall.Stat(s.path, &stat) == nil && isLine(stat)
	return s.isOfHost
}

// isLine reports whether a device is a serial line. Other terminals are pseudo-terminals, with a program of this machine at
// the other end (majors 2, 3 and 136 to 143), or stand for one, such as /dev/tty (5).
func isLine(stat syscall.Stat_t) bool {
	major := stat.Rdev >> 8 & 0xfff
	return stat.Mode&syscall.S_IFMT == syscall.S_IFCHR && (major < 2 || major > 5 || major == 4) && (major < 136 || major > 143)
}

// dial opens the channel; waiting is called while a port has no host.
func (s *channelSpec) dial(waiting func()) (io.ReadWriteCloser, error) {
	switch s.kind {
	case "virtserial-open":
		return s.openVirtioPort(waiting)
	case "tty-open":
		return s.openLine()
	case "vsock-connect":
		return s.vsock(sysConnect, s.cid)
	case "unix-connect":
		if info, err := os.Stat(s.path); err == nil && info.Mode()&os.ModeSocket == 0 {
			return nil, s.unusable("not a socket")
		}
		conn, err := net.Dial("unix", s.path)
		return conn, s.explain(err)
	}
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return nil, s.unusable("standard input is a device, such as a terminal; expected a pipe or a socket")
	}
	return joined{os.Stdin, os.Stdout, os.Stdin}, nil
}

// listen listens for connections, and returns a function that accepts one, as a file named after the peer's machine.
func (s *channelSpec) listen() (accept func() (io.ReadWriteCloser, error), err error) {
	if s.kind == "unix-listen" {
		listener, err := address{network: "unix", text: s.path}.listen()
		return func() (io.ReadWriteCloser, error) { return listener.Accept() }, err
	}
	listener, err := s.vsock(sysBind, anyCID)
	return func() (io.ReadWriteCloser, error) {
		// This blocks a thread. syscall.Accept4 does not know the address family.
		const flags = syscall.SOCK_CLOEXEC | syscall.SOCK_NONBLOCK
		var peer [4]uint32 // as in vsock
		size := uint32(unsafe.Sizeof(peer))
		fd, _, number := syscall.Syscall6(sysAccept4, listener.Fd(), uintptr(unsafe.Pointer(&peer)),
			uintptr(unsafe.Pointer(&size)), flags, 0, 0)
		if number != 0 {
			return nil, number
		}
		return os.NewFile(fd, fmt.Sprintf("CID %d", peer[2])), nil
	}, err
}

// vsock makes a socket, and binds or connects it.
func (s *channelSpec) vsock(call uintptr, cid uint32) (*os.File, error) {
	const family = 40
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, s.unusable("the kernel has no AF_VSOCK, or a sandbox forbids it")
	}
	address := [4]uint32{family, s.port, cid} // a sockaddr_vm, since the machine is little-endian
	// This blocks a thread; the kernel gives up after two seconds.
	number := syscall.EINTR
	for number == syscall.EINTR { // by a signal of the scheduler
		_, _, number = syscall.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
	}
	if number != 0 {
		syscall.Close(fd)
		return nil, s.explain(number)
	}
	if call == sysBind {
		err = syscall.Listen(fd, maxUnproved)
	} else {
		err = syscall.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fd), s.text), s.explain(err)
}

// joined is a channel of several parts.
type joined struct {
	io.Reader
	io.Writer
	io.Closer
}

func (s *channelSpec) unusable(why string) error {
	return failf("channel-unusable", "%s: %s", s.text, why)
}

// channelErrors maps system errors to codes, with a message where the system's own does not fit.
var channelErrors = map[syscall.Errno]failure{
	syscall.EACCES: {"channel-denied", ""}, syscall.EPERM: {"channel-denied", ""},
	syscall.EISDIR: {"channel-unusable", ""}, syscall.ENOTDIR: {"channel-unusable", ""},
	syscall.ELOOP:        {"channel-unusable", ""},
	syscall.EPROTOTYPE:   {"channel-unusable", "not a stream socket (EPROTOTYPE)"},
	syscall.EAGAIN:       {"channel-busy", "its accept backlog is full (EAGAIN)"},
	syscall.EBUSY:        {"channel-busy", "another process has it open (EBUSY)"},
	syscall.ECONNREFUSED: {"channel-refused", ""},
	syscall.ECONNRESET:   {"channel-refused", "connection refused"}, // by vsock
	syscall.ENODEV:       {"channel-missing", "the device was removed (ENODEV)"},
	syscall.ENOENT:       {"channel-missing", "its folder does not exist (ENOENT)"},
	syscall.ENXIO:        {"channel-unusable", "a console port, or a port without a device (ENXIO); " + portRemedy},
	syscall.EIO:          {"channel-closed", "hung up by its other end"},
}

// explain maps a system error to a channel error; nil stays nil.
func (s *channelSpec) explain(err error) error {
	var number syscall.Errno
	errors.As(err, &number)
	known := channelErrors[number]
	switch {
	case err == nil:
		return nil
	case number == syscall.ENOENT && exists(filepath.Dir(s.path)):
		return failf(known.code, "%s is missing (ENOENT)", s.text)
	case known.code == "":
		known = failure{"channel-failed", describe(err)}
	case known.message == "":
		known.message = describe(err)
	}
	return failf(known.code, "%s: %s", s.text, known.message)
}

// termios2 has the modes of a serial line, and any speed.
type termios2 struct {
	iflag, oflag, cflag, lflag uint32
	line                       uint8
	cc                         [lineCharacters]uint8
	ispeed, ospeed             uint32
}

// openLine opens a serial line, and makes it 8-bit clean.
func (s *channelSpec) openLine() (io.ReadWriteCloser, error) {
	real, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return nil, s.explain(err)
	}
	if name := filepath.Base(real); isWord(name, readFile("/sys/class/tty/console/active")) {
		return nil, s.unusable("the kernel writes its own messages to the console " + name)
	}
	file, err := os.OpenFile(real, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, s.explain(err)
	}
	var stat syscall.Stat_t
	opened, _ := file.SyscallConn() // as in ioctl
	opened.Control(func(fd uintptr) { syscall.Fstat(int(fd), &stat) })
	if s.isOfHost && !isLine(stat) {
		file.Close()
		return nil, s.unusable("it was a serial line at the start, and is a pseudo-terminal now: its peer is not the host")
	}
	const speedMask, otherSpeed = 0o10017, 0o10000
	var raw termios2
	if ioctl(file, getTermios2, &raw) != nil {
		file.Close()
		return nil, s.unusable("not a terminal")
	}
	raw.iflag = 0
	raw.oflag &^= syscall.OPOST
	raw.lflag &^= syscall.ECHO | syscall.ICANON | syscall.IEXTEN | syscall.ISIG
	raw.cflag = raw.cflag&^(syscall.CSIZE|syscall.PARENB|syscall.HUPCL) | syscall.CS8 | syscall.CLOCAL | syscall.CREAD
	raw.cc[syscall.VMIN], raw.cc[syscall.VTIME] = 1, 0
	if s.baud != 0 {
		raw.cflag, raw.ispeed, raw.ospeed = raw.cflag&^speedMask|otherSpeed, s.baud, s.baud
	}
	// TCSETS2 does not wait for output, which the line may never send.
	if err := ioctl(file, setTermios2, &raw); err != nil {
		file.Close()
		return nil, s.unusable("cannot set the line raw: " + describe(err))
	}
	return file, nil
}

// ioctl avoids Fd, which would make the file blocking.
func ioctl[T any](file *os.File, request uintptr, argument *T) error {
	var number syscall.Errno
	raw, _ := file.SyscallConn() // never fails for an open file
	err := raw.Control(func(fd uintptr) {
		_, _, number = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(argument)))
	})
	if err == nil && number != 0 {
		return number
	}
	return err
}
