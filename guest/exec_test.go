package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
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

// TestAllowed: where only certain programs are allowed, they are found through links of folders, but not by another name;
// and variables cannot name a path, or make them run another program.
func TestAllowed(t *testing.T) {
	folder := t.TempDir()
	os.MkdirAll(folder+"/usr/bin", 0o700)
	os.Symlink("usr/bin", folder+"/bin")
	os.WriteFile(folder+"/usr/bin/box", nil, 0o700)
	os.Symlink("box", folder+"/usr/bin/uname")
	os.Symlink("box", folder+"/usr/bin/sh")
	for path, want := range map[string]bool{"/usr/bin/uname": true, "/bin/uname": true, "/bin/../usr/bin/uname": true,
		"/usr/bin/sh": false, "/bin/box": false, "/bin/uname/../sh": false, "/gone/uname": false} {
		if found := findAllowed([]string{folder + "/bin/uname"}, folder+path); (found == folder+"/bin/uname") != want {
			t.Error(path, found)
		}
	}
	for pair, want := range map[string]bool{"LANG=de_DE.UTF-8": true, "TZ=:Europe/Berlin": true, "LC_ALL=C": true,
		"TZ=:/tmp/zone": false, "LANG=../x": false, "PATH=/tmp": false, "LC_ALL\n=C": false, "LANGUAGE=de": false} {
		name, value, _ := strings.Cut(pair, "=")
		q := &execRequest{env: map[string]string{name: value}}
		if failed := q.checkEnv(); (failed == nil) != want {
			t.Error(pair, failed)
		}
	}
	if q := (&execRequest{columns: 80, term: "/tmp/evil"}); q.checkEnv() == nil {
		t.Error(q.term)
	}
}
