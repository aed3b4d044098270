package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"
)

// bauds are the speeds of a serial line, as termios has them.
var bauds = map[string]uint32{
	"300": syscall.B300, "600": syscall.B600, "1200": syscall.B1200, "1800": syscall.B1800, "2400": syscall.B2400,
	"4800": syscall.B4800, "9600": syscall.B9600, "19200": syscall.B19200, "38400": syscall.B38400,
	"57600":  syscall.B57600,
	"115200": syscall.B115200, "230400": syscall.B230400, "460800": syscall.B460800, "500000": syscall.B500000,
	"576000": syscall.B576000, "921600": syscall.B921600, "1000000": syscall.B1000000, "1152000": syscall.B1152000,
	"1500000": syscall.B1500000, "2000000": syscall.B2000000, "2500000": syscall.B2500000, "3000000": syscall.B3000000,
	"3500000": syscall.B3500000, "4000000": syscall.B4000000,
}

const speedMask = 0o10017

// line is a serial line that is 8-bit clean until it is closed.
type line struct {
	*os.File
	saved syscall.Termios
}

func (l *line) Close() error {
	ioctl(l.File, syscall.TCSETS, &l.saved)
	return l.File.Close()
}

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
	l := &line{File: file}
	if ioctl(file, syscall.TCGETS, &l.saved) != nil {
		file.Close()
		return nil, s.unusable("not a terminal")
	}
	raw := l.saved
	raw.Iflag = 0
	raw.Oflag &^= syscall.OPOST
	raw.Lflag &^= syscall.ECHO | syscall.ICANON | syscall.IEXTEN | syscall.ISIG
	raw.Cflag = raw.Cflag&^(syscall.CSIZE|syscall.PARENB|syscall.HUPCL) | syscall.CS8 | syscall.CLOCAL | syscall.CREAD
	raw.Cc[syscall.VMIN], raw.Cc[syscall.VTIME] = 1, 0
	if s.baud != 0 {
		raw.Cflag = raw.Cflag&^speedMask | s.baud
		raw.Ispeed, raw.Ospeed = s.baud, s.baud
	}
	// TCSETS does not wait for output, which the line may never send.
	if err := ioctl(file, syscall.TCSETS, &raw); err != nil {
		file.Close()
		return nil, s.unusable("cannot set the line raw: " + describe(err))
	}
	return l, nil
}

// ioctl makes one. It does not use Fd, which would make the file block.
func ioctl[T any](file *os.File, request uintptr, argument *T) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var number syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, number = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(argument)))
	})
	if err == nil && number != 0 {
		return number
	}
	return err
}

const afVsock = 40

// vsockAddress is struct sockaddr_vm.
type vsockAddress struct {
	family, reserved uint16
	port, cid        uint32
	zero             [4]byte
}

// vsock makes a socket, and binds or connects it.
func (s *channelSpec) vsock(call uintptr) (*os.File, error) {
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, s.unusable("the kernel has no AF_VSOCK, or a sandbox forbids it")
	}
	address := vsockAddress{family: afVsock, port: s.port, cid: s.cid}
	// Connecting blocks this goroutine alone, and the kernel gives up after two seconds.
	number := syscall.EINTR
	for number == syscall.EINTR { // by a signal of the scheduler
		_, _, number = syscall.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
	}
	if number == 0 && call == syscall.SYS_BIND {
		_, _, number = syscall.Syscall(syscall.SYS_LISTEN, uintptr(fd), maxUnproved, 0)
	}
	if number != 0 {
		syscall.Close(fd)
		return nil, s.explain(number)
	}
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), s.text), nil
}

func (s *channelSpec) dialVsock() (io.ReadWriteCloser, error) { return s.vsock(syscall.SYS_CONNECT) }

func (s *channelSpec) listenVsock() (func() (io.ReadWriteCloser, error), error) {
	listener, err := s.vsock(syscall.SYS_BIND)
	if err != nil {
		return nil, err
	}
	raw, err := listener.SyscallConn()
	return func() (io.ReadWriteCloser, error) {
		var fd uintptr
		var number syscall.Errno
		err := raw.Read(func(from uintptr) bool {
			// syscall.Accept4 does not know the family of the address.
			fd, _, number = syscall.Syscall6(syscall.SYS_ACCEPT4, from, 0, 0,
				syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0, 0)
			return number != syscall.EAGAIN
		})
		if err == nil && number != 0 {
			err = number
		}
		return os.NewFile(fd, s.text), err
	}, err
}
