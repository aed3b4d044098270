//go:build 386 || arm || mips64le

package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// changedAt returns when a file, folder or link with this status was changed. The second of stat(2) has
// 32 bits on these processors: up to 2038, or from 1970 to 2106 on mips64le.
func changedAt(path string, is os.FileInfo) time.Time {
	const statChanged, secondAt, restAt = 0x40, 112 / 8, 120 / 8 // STATX_MTIME, and where stx_mtime is
	var found [32]int64
	text, err := syscall.BytePtrFromString(path)
	if err != nil {
		return is.ModTime()
	}
	_, _, number := syscall.Syscall6(sysStatx, 0, uintptr(unsafe.Pointer(text)), noFollow, statChanged,
		uintptr(unsafe.Pointer(&found)), 0)
	if number != 0 { // before Linux 4.11
		return is.ModTime()
	}
	return time.Unix(found[secondAt], int64(uint32(found[restAt])))
}
