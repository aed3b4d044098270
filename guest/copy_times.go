package main

import (
	"syscall"
	"time"
	"unsafe"
)

const noFollow = 0x100 // AT_SYMLINK_NOFOLLOW

// setTime sets the time of the last change of an open file; or if there is a path, of the file, folder, or link there.
func setTime(file uintptr, path string, changed time.Time) error {
	const omit = 0x3ffffffe // UTIME_OMIT
	var text *byte
	var flags uintptr
	if path != "" {
		var err error
		flags = noFollow
		if text, err = syscall.BytePtrFromString(path); err != nil {
			return err
		}
	}
	call := uintptr(syscall.SYS_UTIMENSAT)
	if unsafe.Sizeof(call) == 4 {
		call = 412 // utimensat_time64, since Linux 5.1
	}
	second, rest := changed.Unix(), int64(changed.Nanosecond())
	times := [2][2]int64{{0, omit}, {second, rest}} // of 64 bits on every processor
	_, _, number := syscall.Syscall6(call, file, uintptr(unsafe.Pointer(text)), uintptr(unsafe.Pointer(&times)), flags, 0, 0)
	if number == syscall.ENOSYS && second == int64(int32(second)) { // before Linux 5.1, on a processor of 32 bits
		small := [2]syscall.Timespec{{Nsec: omit}, syscall.NsecToTimespec(second*1e9 + rest)}
		_, _, number = syscall.Syscall6(syscall.SYS_UTIMENSAT, file, uintptr(unsafe.Pointer(text)),
			uintptr(unsafe.Pointer(&small)), flags, 0, 0)
	} else if number == syscall.ENOSYS {
		number = syscall.EOVERFLOW
	}
	if number != 0 {
		return number
	}
	return nil
}

// complete sets a folder's time and permissions, which may allow no further entries.
func complete(path string, changed time.Time, mode uint32) error {
	if err := setTime(0, path, changed); err != nil {
		return err
	}
	return syscall.Chmod(path, mode&0o1777)
}
