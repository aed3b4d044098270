package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
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

func TestFindProgram(t *testing.T) {
	for name, code := range map[string]string{"": "command-not-found", "no-such-program": "command-not-found", "/": "command-failed", "sh": ""} {
		if _, failed := findProgram(name, "/", "/usr/bin:/bin"); (failed == nil) != (code == "") || failed != nil && failed.code != code {
			t.Errorf("%q: %v, want %q", name, failed, code)
		}
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

// TestSizes: a size of no terminal is ignored.
func TestSizes(t *testing.T) {
	_, host := newTestExec(t)
	st, _ := ask(t, host, execStart, fields{"argv": []string{"sleep", "1000"},
		"terminal": fields{"columns": 80, "rows": 24, "term": "dumb"}}, execStarted)
	for _, size := range [][]byte{{0, 0, 0, 0}, {0, 1, 0, 0}, {0}, nil} {
		st.Write(record(execResize, size))
	}
	st.Write(record(execSignal, []byte("SIGTERM")))
	r := &reading{}
	if err := r.read(st, math.MaxInt); err == nil || r.exit["signal"] != "SIGTERM" {
		for ; r.exit == nil; err = r.read(st, math.MaxInt) {
			if err != nil && err.Error() != fmt.Sprintf("kind %d", execEof) {
				t.Fatal(err)
			}
		}
	}
	if r.exit["signal"] != "SIGTERM" {
		t.Error(r.exit)
	}
}

// TestAnnouncedLength: memory is taken for bytes that have come.
func TestAnnouncedLength(t *testing.T) {
	payload, err := readPayload(strings.NewReader("ten bytes."), execRequestBytes)
	if cap(payload) > 65536 || string(payload) != "ten bytes." || err != io.ErrUnexpectedEOF {
		t.Error(cap(payload), len(payload), err)
	}
	text := strings.Repeat("0123456789", 30_000)
	if payload, err = readPayload(iotest.HalfReader(strings.NewReader(text+"rest")), len(text)); string(payload) != text || err != nil {
		t.Error(len(payload), err)
	}
}

// TestLateStart: an incomplete START is reset, but not while others are started.
func TestLateStart(t *testing.T) {
	e, host := newTestExec(t)
	e.startTime = 500 * time.Millisecond
	st := openStream(t, host, "exec")
	st.Write(record(execStart, []byte("{}"))[:6])
	for began := time.Now(); time.Since(began) < 3*e.startTime; {
		other, _ := ask(t, host, execStart, fields{"argv": []string{"true"}}, execStarted)
		other.Close()
	}
	if st.isGone() {
		t.Error("it was reset while others were started")
	}
	if st.waitEnd(); st.reason == nil || st.reason.code != "stalled" {
		t.Error(st.reason)
	}
}

// TestWaiting: where too many commands run, one waits if its caller asks for that, in the order of arrival.
func TestWaiting(t *testing.T) {
	e, host := newTestExec(t)
	running := []*stream{}
	for count := 0; count < maxCommands; count++ {
		st, _ := ask(t, host, execStart, fields{"argv": []string{"sleep", "1000"}}, execStarted)
		running = append(running, st)
	}
	_, exit := ask(t, host, execStart, fields{"argv": []string{"true"}}, execExit)
	if failed := exit.object("error").reason(); failed.code != "too-many-streams" ||
		failed.message != "too many commands running (max 256)" {
		t.Error(failed)
	}
	count := func() int { defer e.lock()(); return len(e.waiting) }
	waiting := []*stream{}
	for index := 0; index < 4; index++ {
		st := openStream(t, host, "exec")
		st.Write(record(execStart, encode(fields{"argv": []string{"sleep", "1000"}, "wait": true})))
		waiting = append(waiting, st)
		until(t, "it waits", func() bool { return count() == index+1 })
	}
	waiting[1].Close()
	until(t, "it no longer waits", func() bool { return count() == 3 })
	started := make(chan int, len(waiting))
	for index, st := range waiting {
		go func(index int, st *stream) {
			if kind, _, _ := readRecord(st, func(byte) int { return 1000 }); kind == execStarted {
				started <- index
			}
		}(index, st)
	}
	for _, want := range []int{0, 2} {
		running[want].Write(record(execSignal, []byte("SIGKILL")))
		if index := <-started; index != want {
			t.Errorf("%d began, not %d", index, want)
		}
	}
	if e.stop(); count() != 0 {
		t.Error("it still waits")
	}
}
