package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestSignalNames: a command that dies of a signal has its name, or its number.
func TestSignalNames(t *testing.T) {
	// A child inherits the signals that are ignored, as SIGHUP is under nohup, but not those that are caught.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught)
	defer signal.Stop(caught)
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

// TestNumber: the number of a process that has exited is its own until its call is over; then no signal is sent to it.
func TestNumber(t *testing.T) {
	_, host := newTestExec(t)
	st, started := ask(t, host, execStart, fields{"argv": []string{"sh", "-c", "setsid sleep 1000 & echo $!; exit 7"}}, execStarted)
	_, text, _ := readRecord(st, func(byte) int { return 100 })
	daemon, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	defer syscall.Kill(daemon, syscall.SIGKILL)
	stat := "/proc/" + fmt.Sprint(started.fields["pid"]) + "/stat"
	until(t, "it has exited", func() bool { return strings.Contains(readFile(stat), ") Z ") })
	until(t, "the daemon has left the group", func() bool { return readFile(fmt.Sprintf("/proc/%d/comm", daemon)) == "sleep" })
	st.Write(record(execSignal, []byte("SIGTERM")))
	st.Close()
	until(t, "it is reaped", func() bool { return !exists(stat) })
	if syscall.Kill(daemon, 0) != nil {
		t.Error("the daemon was ended")
	}

	gone, _ := start(&exec.Cmd{Path: "/bin/true", SysProcAttr: &syscall.SysProcAttr{Setsid: true}})
	other, _ := start(&exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}})
	defer other.release()
	defer other.signal(syscall.SIGKILL)
	<-gone.exited
	if gone.hasOthers() || other.hasOthers() || gone.status != 0 {
		t.Error(gone, other)
	}
	gone.release()
	gone.pid = other.pid // numbers come round
	gone.signal(syscall.SIGKILL)
	if syscall.Kill(other.pid, 0) != nil || strings.Contains(readFile(fmt.Sprintf("/proc/%d/stat", other.pid)), ") Z ") {
		t.Error("another process was killed")
	}
	group, _ := start(&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 1000 & exit 0"}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}})
	<-group.exited
	if !group.hasOthers() {
		t.Error("its group is not empty")
	}
	group.signal(syscall.SIGKILL)
	until(t, "its group is empty", func() bool { return !group.hasOthers() })
	group.release()
}

// TestThreads: no thread waits for a command, so the most commands need few of them.
func TestThreads(t *testing.T) {
	_, host := newTestExec(t)
	threads := func() int { entries, _ := os.ReadDir("/proc/self/task"); return len(entries) }
	before := threads()
	for count := 0; count < maxCommands; count++ {
		request := fields{"argv": []string{"sleep", "1000"}}
		if count%16 == 0 {
			request["terminal"] = fields{"columns": 80, "rows": 24, "term": "dumb"}
		}
		ask(t, host, execStart, request, execStarted)
	}
	if after := threads(); after > before+8 {
		t.Errorf("%d threads, then %d", before, after)
	}
}
