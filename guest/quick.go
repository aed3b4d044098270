package main

import (
	"io"
	"sync"
	"syscall"
	"unsafe"
)

// quick reads and writes a socket or device that never blocks, by calls of the system that the scheduler does not see:
// while a write wakes another process, it would hand over to another thread, which costs a third of an echo.
type quick struct {
	raw syscall.RawConn
	io.Closer

	// reset is the error of a socket that a write was told. The system tells it once, and a reader then sees an end.
	mu    sync.Mutex
	reset error
}

// polled is a socket, or a file that was opened so that it never blocks.
type polled interface {
	syscall.Conn
	io.Closer
}

func newQuick(file polled) *quick {
	raw, _ := file.SyscallConn() // never fails for what is open
	return &quick{raw: raw, Closer: file}
}

// quickCall makes a call on bytes, and tells whether it could; if not, it is to be made again when the file is ready.
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
			q.mu.Lock()
			defer q.mu.Unlock()
			var count int
			count, isDone, err = quickCall(syscall.SYS_WRITE, fd, bytes[written:])
			if isDone && err != nil && err != syscall.EPIPE { // EPIPE: it ended in order before
				q.reset = err
			}
			written += count
			return isDone
		})
		if waitErr != nil {
			err = waitErr
		}
	}
	return written, err
}

// wasReset tells why the end that a reader sees is none, if it is none.
func (q *quick) wasReset() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reset
}
