package main

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// capabilities returns a set of this process, such as CapPrm.
func capabilities(name string) uint64 {
	set, _ := strconv.ParseUint(found(`^`+name+`:\s*([0-9a-f]+)$`, readFile("/proc/self/status")), 16, 64)
	return set
}

// keepCapabilities withholds the capabilities that a service manager gave to this process from the processes that it starts,
// other than the freezer: no thread keeps an inheritable one, and hence no ambient one.
func keepCapabilities() *failure {
	if capabilities("CapInh")|capabilities("CapAmb") == 0 {
		return nil
	}
	header, sets := [2]uint32{0x20080522, 0}, [2][3]uint32{} // _LINUX_CAPABILITY_VERSION_3; effective, permitted, inheritable
	syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0)
	sets[0][2], sets[1][2] = 0, 0
	_, _, err := syscall.AllThreadsSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0)
	if err == 0 && capabilities("CapInh")|capabilities("CapAmb") != 0 {
		err = syscall.EPERM
	}
	if err != 0 {
		return failf("internal", "cannot keep capabilities from commands: %s", describe(err))
	}
	return nil
}

// freezerCapabilities returns the ambient capabilities of the freezer: all that this process has, since it is hidden from a process
// that lacks one (ProtectProc=). Root needs none.
func freezerCapabilities() (numbers []uintptr) {
	permitted := capabilities("CapPrm")
	for number := uintptr(0); number < 64 && os.Geteuid() != 0; number++ {
		if permitted>>number&1 != 0 {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
