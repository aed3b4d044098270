package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// channelSpec is a channel as -c names it.
type channelSpec struct {
	text, kind, path string
	limits           limits
	isFull           bool   // the integrity that it asks for
	cid, port        uint32 // of vsock
	baud             uint32
}

const channelKinds = "unix-connect unix-listen virtserial-open tty-open stdio vsock-connect vsock-listen"

// parse reads the address.
func (s *channelSpec) parse(address string) (err error) {
	cid, port, _ := strings.Cut(address, ":")
	switch s.kind {
	case "stdio":
		if s.text = s.kind; address != "" {
			err = errors.New("only options may follow the colon")
		}
	case "vsock-connect":
		if !parseUint32(&s.cid, cid) || !parseUint32(&s.port, port) {
			err = fmt.Errorf(`"%s" is not CID:PORT, such as 2:1234 for the host, 3:1234 for a guest`, escape(address,
				64))
		}
	case "vsock-listen":
		if s.cid = anyCID; !parseUint32(&s.port, address) {
			err = fmt.Errorf(`"%s" is not a port from 0 to 4294967294`, escape(address, 64))
		}
	default:
		if s.path = address; s.kind != "virtserial-open" || address == "" || strings.Contains(address, "/") {
			s.path, err = parsePath(address)
		}
	}
	return err
}

const anyCID = 1<<32 - 1

func parseUint32(to *uint32, text string) bool {
	value, err := strconv.ParseUint(text, 10, 32)
	*to = uint32(value)
	return err == nil && value < anyCID
}

// parseChannel reads [LABEL=]KIND:ADDRESS[,key=value…]; the label is of use only to vproxy.
func parseChannel(text string) (*channelSpec, error) {
	kind, rest, hasColon := strings.Cut(text, ":")
	kind = kind[strings.IndexByte(kind, '=')+1:]
	fail := func(format string, args ...any) (*channelSpec, error) {
		return nil, failf("bad-argument", `channel "%s": %s`, escape(text, 256), fmt.Sprintf(format, args...))
	}
	if !hasColon || !isWord(kind, channelKinds) {
		return fail("expected KIND:ADDRESS, where KIND is one of: %s; vproxy has more", strings.ReplaceAll(channelKinds,
			" ", ", "))
	}
	parts := strings.Split(strings.ReplaceAll(rest, ",,", "\x00"), ",")
	address := strings.ReplaceAll(parts[0], "\x00", ",")
	s := &channelSpec{text: kind + ":" + escape(address, 256), kind: kind}
	for index, rule := range limitRules {
		s.limits[index] = rule.usual
	}
	if kind == "tty-open" {
		s.isFull, s.limits[frameLimit], s.limits[inFlightLimit] = true, 4096, 4096
	}
	if err := s.parse(address); err != nil {
		return fail("%s", err)
	}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		limit, isLimit := map[string]int{"frame": frameLimit, "in-flight": inFlightLimit, "streams": streamsLimit}[name]
		switch {
		case isLimit:
			number, err := strconv.Atoi(value)
			rule, unit := limitRules[limit], " of bytes"
			if limit == streamsLimit {
				unit = ""
			}
			if s.limits[limit] = number; err != nil || number < rule.min || number > rule.max {
				return fail("%s: must be a number%s from %d to %d", escape(part, 64), unit, rule.min, rule.max)
			}
		case name == "integrity":
			if s.isFull = value == "full"; !s.isFull && value != "frame" {
				return fail("%s: must be frame or full", escape(part, 64))
			}
		case name == "baud" && kind == "tty-open":
			if s.baud = bauds[value]; s.baud == 0 {
				return fail("%s: must be a speed such as 115200", escape(part, 64))
			}
		default:
			return fail(`unknown option "%s"; available: frame, in-flight, integrity, streams; vproxy has more`,
				escape(name, 64))
		}
	}
	return s, nil
}

// leadsToHost: the peer is the host of this machine, as on a virtual device.
func (s *channelSpec) leadsToHost() bool { return isWord(s.kind, "virtserial-open tty-open") }

// dial opens the channel; waiting is called while a port has no host.
func (s *channelSpec) dial(waiting func()) (io.ReadWriteCloser, error) {
	switch s.kind {
	case "virtserial-open":
		return s.openPort(waiting)
	case "tty-open":
		return s.openLine()
	case "vsock-connect":
		return s.dialVsock()
	case "unix-connect":
		conn, err := net.Dial("unix", s.path)
		return conn, s.explain(err)
	}
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return nil, s.unusable("standard input is a device, such as a terminal; expected a pipe or a socket")
	}
	return stdio{}, nil
}

// listen listens for connections, and returns how one is accepted.
func (s *channelSpec) listen() (func() (io.ReadWriteCloser, error), error) {
	if s.kind == "vsock-listen" {
		return s.listenVsock()
	}
	listener, err := address{network: "unix", text: s.path}.listen()
	return func() (io.ReadWriteCloser, error) { return listener.Accept() }, err
}

// stdio is the channel of standard input and output.
type stdio struct{}

func (stdio) Read(to []byte) (int, error) { return os.Stdin.Read(to) }
func (stdio) Write(b []byte) (int, error) { return os.Stdout.Write(b) }
func (stdio) Close() error                { return os.Stdin.Close() }

func (s *channelSpec) unusable(why string) error {
	return failf("channel-unusable", "%s: %s", s.text, why)
}

// channelErrors are the codes of errors of the system, and what is to be said of them, if that is not its text.
var channelErrors = map[syscall.Errno]failure{
	syscall.EACCES:       {"channel-denied", ""},
	syscall.EPERM:        {"channel-denied", ""},
	syscall.EAGAIN:       {"channel-busy", "its accept backlog is full (EAGAIN)"},
	syscall.EBUSY:        {"channel-busy", "another process has it open (EBUSY)"},
	syscall.ECONNREFUSED: {"channel-refused", ""},
	syscall.ECONNRESET:   {"channel-refused", "connection refused"}, // by vsock
	syscall.ENODEV:       {"channel-missing", "the device was removed (ENODEV)"},
	syscall.ENOENT:       {"channel-missing", ""},
	syscall.ENXIO: {"channel-unusable",
		"a console port, or a port without a device; give the VM a virtserialport (ENXIO)"},
	syscall.EISDIR:  {"channel-unusable", ""},
	syscall.ELOOP:   {"channel-unusable", ""},
	syscall.ENOTDIR: {"channel-unusable", ""},
	syscall.EIO:     {"channel-closed", "hung up by its other end"},
}

// explain gives an error of the system the code of a channel, and its words; no error stays none.
func (s *channelSpec) explain(err error) error {
	if err == nil {
		return nil
	}
	var number syscall.Errno
	errors.As(err, &number)
	known := channelErrors[number]
	if known.code == "" {
		known.code = "channel-failed"
	}
	if number == syscall.ENOENT && exists(filepath.Dir(s.path)) {
		return failf(known.code, "%s is missing (ENOENT)", s.text)
	} else if number == syscall.ENOENT {
		known.message = "its folder does not exist (ENOENT)"
	} else if known.message == "" {
		known.message = describe(err)
	}
	return failf(known.code, "%s: %s", s.text, known.message)
}

// openPort opens a virtio-serial port, by path or name, and waits until the host has the other end open.
func (s *channelSpec) openPort(waiting func()) (io.ReadWriteCloser, error) {
	device, err := s.findPort()
	if err != nil {
		return nil, err
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(device, &stat); err != nil {
		return nil, s.explain(err)
	}
	// What cannot be a port is not opened: that may have side effects.
	name, major, minor := filepath.Base(device), stat.Rdev>>8&0xfff, stat.Rdev&0xff|stat.Rdev>>12&^0xff
	subsystem, _ := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d/subsystem", major, minor))
	subsystem = filepath.Base(subsystem)
	switch {
	case strings.HasPrefix(name, "hvc"):
		return nil, s.unusable(name + " is a console of the VM; give the VM a virtserialport")
	case stat.Mode&syscall.S_IFMT != syscall.S_IFCHR:
		return nil, s.unusable("not a device")
	case subsystem != "." && subsystem != "virtio-ports":
		return nil, s.unusable(name + ` is a device of "` + subsystem + `", not a virtio-serial port`)
	}
	fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, s.explain(err)
	}
	// A port without a host reads as its end, so it is polled; it stays open meanwhile, which keeps others out.
	first := make([]byte, 4096)
	for {
		count, err := syscall.Read(fd, first)
		switch {
		case count > 0 || err == syscall.EAGAIN:
			file, begin := os.NewFile(uintptr(fd), device), bytes.NewReader(nil)
			if count > 0 {
				begin = bytes.NewReader(first[:count])
			}
			return struct {
				io.Reader
				io.WriteCloser
			}{io.MultiReader(begin, file), file}, nil
		case err != nil && err != syscall.EINTR:
			syscall.Close(fd)
			return nil, s.explain(err)
		}
		waiting()
		time.Sleep(200 * time.Millisecond)
	}
}

// findPort returns the device of a port. A name, or a path that no udev made, is looked up in sysfs.
func (s *channelSpec) findPort() (string, error) {
	const devPorts, sysPorts = "/dev/virtio-ports", "/sys/class/virtio-ports"
	path := s.path
	if !strings.Contains(path, "/") {
		path = filepath.Join(devPorts, path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil || filepath.Dir(path) != devPorts {
		return real, s.explain(err)
	}
	available := []string{}
	ports, _ := os.ReadDir(sysPorts)
	for _, port := range ports {
		name := readFile(filepath.Join(sysPorts, port.Name(), "name"))
		if name == filepath.Base(path) {
			return filepath.Join("/dev", port.Name()), nil
		}
		available = append(available, escape(name, 64))
	}
	list := "available: " + strings.Join(available, ", ")
	if len(available) == 0 {
		list = "none available"
	}
	return "", failf("channel-missing", `%s: no virtio-serial port "%s"; %s`, s.text, filepath.Base(path), list)
}
