package main

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// The first thread is that of the function main, which starts no process: then only orphans are its children.
func init() { runtime.LockOSThread() }

// adoptOrphans makes orphans of commands children of this process, since PID 1 of a container may reap nobody. (It
// fails before Linux 3.4.) The channel tells when to reap.
func adoptOrphans() chan os.Signal {
	const setChildSubreaper = 36
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	return ended
}

// reapOrphans reaps the children of the thread of main: those of others have their status from os/exec.
func reapOrphans() {
	const ofThread = 0x20000000 // __WNOTHREAD
	for pid := 1; pid > 0; {
		pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG|ofThread, nil)
	}
}

// sealDescriptors keeps from commands what the starter of this process left open.
func sealDescriptors() {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, each := range entries {
		if fd, _ := strconv.Atoi(each.Name()); fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
