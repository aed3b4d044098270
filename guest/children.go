package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// The function main keeps the first thread, and starts no process: then only orphans are its children.
func init() { runtime.LockOSThread() }

// adoptOrphans makes orphans of commands children of this process, since PID 1 of a container may reap nothing. (It
// fails before Linux 3.4.) The channel receives SIGCHLD.
func adoptOrphans() chan os.Signal {
	const setChildSubreaper = 36
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	return ended
}

// reapOrphans reaps the children of main's thread: os/exec waits for those of the others.
func reapOrphans() {
	const ofThread = 0x20000000 // __WNOTHREAD
	for pid := 1; pid > 0; {
		pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG|ofThread, nil)
	}
}

// sealDescriptors keeps inherited descriptors from commands.
func sealDescriptors() {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, each := range entries {
		if fd, _ := strconv.Atoi(each.Name()); fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

var starting mutex

// refuseHugePages keeps the memory of this process in pages of 4 kB: the few that it needs may otherwise take 2 MB each.
func refuseHugePages(isRefused uintptr) {
	const setThpDisable = 41
	syscall.RawSyscall6(syscall.SYS_PRCTL, setThpDisable, isRefused, 0, 0, 0, 0)
}

// start starts a command, which may have huge pages: the setting is inherited.
func start(command *exec.Cmd) error {
	defer starting.lock()()
	refuseHugePages(0)
	defer refuseHugePages(1)
	return command.Start()
}
