package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

// TestSignalNames: a command that dies of a signal has its name, or its number.
func TestSignalNames(t *testing.T) {
	// A child inherits the signals that are ignored, as SIGHUP is under nohup, but not those that are caught.
	signal.Notify(make(chan os.Signal, 1))
	defer signal.Reset()
	for number := syscall.Signal(1); number <= 64; number++ {
		want := append(signalNames, make([]string, 64)...)[number]
		if want == "" {
			want = fmt.Sprintf("SIG%d", number)
		} else if isWord(want, "SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGWINCH") {
			continue // does not end a process
		}
		cmd := exec.Command("sleep", "1000")
		cmd.Start()
		err := cmd.Process.Signal(number)
		if err != nil {
			cmd.Process.Kill()
		}
		if cmd.Wait(); err != nil {
			continue // qemu-user keeps a signal for itself
		}
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || signalName(status.Signal()) != want {
			t.Errorf("%d: %s, not %s", number, signalName(status.Signal()), want)
		}
	}
}
