package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const virtioPortFolder = "/dev/virtio-ports"

// openVirtioPort opens a virtio-serial port, by path or name, and waits until the host has the other end open.
func (s *channelSpec) openVirtioPort(waiting func()) (io.ReadWriteCloser, error) {
	device, err := s.findVirtioPort()
	if err != nil {
		return nil, err
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(device, &stat); err != nil {
		return nil, s.explain(err)
	}
	// Opening anything but a port may have side effects.
	name, major, minor := filepath.Base(device), stat.Rdev>>8&0xfff, stat.Rdev&0xff|stat.Rdev>>12&^0xff
	subsystem, _ := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d/subsystem", major, minor))
	subsystem = filepath.Base(subsystem)
	switch {
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
		case count > 0 || err == syscall.EAGAIN: // then the count is negative
			file := newQuick(os.NewFile(uintptr(fd), device))
			begin := io.LimitReader(bytes.NewReader(first), int64(count))
			return joined{io.MultiReader(begin, file), file, file}, nil
		case err != nil && err != syscall.EINTR:
			syscall.Close(fd)
			return nil, s.explain(err)
		}
		waiting()
		time.Sleep(200 * time.Millisecond)
	}
}

// findVirtioPort returns the device of a port. Without udev, it looks the name up in sysfs.
func (s *channelSpec) findVirtioPort() (string, error) {
	real, err := filepath.EvalSymlinks(s.path)
	if err == nil || filepath.Dir(s.path) != virtioPortFolder {
		return real, s.explain(err)
	}
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, file := range names {
		if readFile(file) == filepath.Base(s.path) {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", failf("channel-missing", `%s: no virtio-serial port "%s"`, s.text, filepath.Base(s.path))
}
