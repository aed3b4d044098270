package main

import (
	"bytes"
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
		cmd.Wait()
		if err != nil {
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
	path := t.TempDir() + "/fifo"
	syscall.Mkfifo(path, 0o700)
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	limit(t, "a FIFO is read", func() { fifo.Close() })
	for _, waiting := range []string{"", "x"} {
		fifo.WriteString(waiting)
		if _, failed := findProgram(path, "/", ""); failed == nil || failed.message != path+": is not a regular file" {
			t.Error(failed)
		}
	}
	if count, err := fifo.Read(make([]byte, 2)); count != 1 {
		t.Error("a byte of it is gone", err)
	}
}

// TestNumber: a process that has exited keeps its number until its call is over; after that, no signal is sent to the number.
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

	gone, _ := start(&exec.Cmd{Path: "/bin/true", SysProcAttr: &syscall.SysProcAttr{Setsid: true}}, isWanted)
	other, _ := start(&exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}, isWanted)
	defer other.release()
	defer other.signal(syscall.SIGKILL)
	<-gone.exited
	if gone.hasOthers() || other.hasOthers() || gone.status != 0 {
		t.Error(gone, other)
	}
	gone.release()
	gone.pid = other.pid // numbers are reused
	gone.signal(syscall.SIGKILL)
	if syscall.Kill(other.pid, 0) != nil || strings.Contains(readFile(fmt.Sprintf("/proc/%d/stat", other.pid)), ") Z ") {
		t.Error("another process was killed")
	}
	group, _ := start(&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 1000 & exit 0"}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}, isWanted)
	<-group.exited
	if !group.hasOthers() {
		t.Error("its group is not empty")
	}
	group.signal(syscall.SIGKILL)
	until(t, "its group is empty", func() bool { return !group.hasOthers() })
	group.release()
}

// TestThreads: no thread waits for a command, so even the most commands need few threads.
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

// TestSizes: a size of 0 is ignored.
func TestSizes(t *testing.T) {
	_, host := newTestExec(t)
	st, _ := ask(t, host, execStart, fields{"argv": []string{"sleep", "1000"},
		"terminal": fields{"columns": 80, "rows": 24, "term": "dumb"}}, execStarted)
	for _, size := range [][]byte{{0, 0, 0, 0}, {0, 1, 0, 0}} {
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

// TestAnnouncedLength: memory is allocated only for bytes that have arrived.
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
	st.waitEnd()
	if st.reason == nil || st.reason.code != "stalled" {
		t.Error(st.reason)
	}
}

// TestDeciding: only a few commands are looked up at a time, unless a file system hangs. A late START gets its time again when
// another one is complete, and when its command has started. A command that starts after a stop is ended.
func TestDeciding(t *testing.T) {
	e, host := newTestExec(t)
	for count := 0; count < maxDeciding; count++ {
		e.deciding <- struct{}{}
	}
	e.startTime = 1500 * time.Millisecond
	late, began := openStream(t, host, "exec"), time.Now()
	late.Write(record(execStart, []byte("{}"))[:6])
	until(t, "the START is nearly late", func() bool { return time.Since(began) > e.startTime*2/3 })
	complete := time.Now()
	ask(t, host, execStart, fields{"argv": []string{"sleep", "1000"}}, execStarted)
	started := time.Now()
	late.waitEnd()
	if started.Sub(complete) < 900*time.Millisecond || time.Since(complete) < e.startTime || time.Since(started) < e.startTime/2 {
		t.Error(started.Sub(complete), time.Since(complete), time.Since(started))
	}

	st := openStream(t, host, "exec")
	st.Write(record(execStart, encode(fields{"argv": []string{"sleep", "1000"}})))
	until(t, "it is looked up", func() bool { defer e.lock()(); return len(e.calls) == 2 })
	e.stop()
	if kind, _, err := readRecord(st, func(byte) int { return 1000 }); kind != execStarted {
		t.Fatal(kind, err)
	}
	kind, payload := byte(execEof), []byte{}
	for kind == execEof {
		kind, payload, _ = readRecord(st, func(byte) int { return 1000 })
	}
	if kind != execExit || parseObject(payload, "").fields["signal"] != "SIGTERM" {
		t.Errorf("%d, %s", kind, payload)
	}
}

// TestStartBudget: the bytes of a START are reserved until it is answered, and no longer, even if they exceed the limit.
func TestStartBudget(t *testing.T) {
	e, host := newTestExec(t)
	all := []*stream{}
	begin := func() *stream {
		st := openStream(t, host, "exec")
		st.Write([]byte{execStart, 0, execRequestBytes >> 16, 0, 0, '{'})
		all = append(all, st)
		return st
	}
	for len(all) < maxStartBytes/execRequestBytes {
		begin()
	}
	until(t, "all is reserved", func() bool { return e.startBytes.Load() == maxStartBytes })
	for count := 0; count < 3; count++ {
		st := begin()
		if kind, payload, _ := readRecord(st, func(byte) int { return 1000 }); kind != execExit || !bytes.Contains(payload, []byte("too-many-streams")) {
			t.Errorf("%d, %s", kind, payload)
		}
	}
	for _, st := range all {
		st.Close()
	}
	until(t, "nothing is reserved", func() bool { return e.startBytes.Load() == 0 })
}

func isWanted() *failure { return nil }

// TestRecordLengths: a record of a wrong length resets the stream, as in vproxy, with a terminal or without.
func TestRecordLengths(t *testing.T) {
	_, host := newTestExec(t)
	for _, each := range []struct {
		kind   byte
		length int
	}{{execResize, 0}, {execResize, 3}, {execResize, 5}, {execEof, 0}, {execEof, 2}, {execSignal, 16}} {
		st, _ := ask(t, host, execStart, fields{"argv": []string{"sleep", "1000"}}, execStarted)
		st.Write(record(each.kind, make([]byte, each.length)))
		st.waitEnd()
		if st.reason == nil || st.reason.code != "protocol-error" {
			t.Error(each, st.reason)
		}
	}
}

// TestUnwanted: a command whose caller leaves, or whose time is over, before it is its turn to start is not run.
func TestUnwanted(t *testing.T) {
	e, host := newTestExec(t)
	folder := t.TempDir()
	starting.Lock() // others start
	gone := openStream(t, host, "exec")
	gone.Write(record(execStart, encode(fields{"argv": []string{"touch", folder + "/gone"}})))
	late := openStream(t, host, "exec")
	late.Write(record(execStart, encode(fields{"argv": []string{"touch", folder + "/late"}, "wait": true, "timeoutMs": 1})))
	all := func(isSo func(c *execCall) bool) func() bool {
		return func() bool {
			defer e.lock()()
			for c := range e.calls {
				if !isSo(c) {
					return false
				}
			}
			return len(e.calls) == 2
		}
	}
	until(t, "both are to start", all(func(*execCall) bool { return true }))
	gone.Close()
	until(t, "neither is wanted", all(func(c *execCall) bool { return c.unwanted() != nil }))
	starting.Unlock()
	kind, payload, _ := readRecord(late, func(byte) int { return 1000 })
	if text := "too many commands running until its time was over"; kind != execExit || !strings.Contains(string(payload), text) {
		t.Errorf("%d %s", kind, payload)
	}
	until(t, "both are over", func() bool { defer e.lock()(); return len(e.calls) == 0 })
	if entries, _ := os.ReadDir(folder); len(entries) > 0 {
		t.Error(entries)
	}
}

// TestCutInput: a command that is told to end within its input does not see an end of it: it must not take a part for the
// whole, nor must what it has started.
func TestCutInput(t *testing.T) {
	e, host := newTestExec(t)
	folder := t.TempDir()
	ignores := `trap "" HUP TERM; echo ready; exec > /dev/null 2>&1; wc -c; touch ` + folder + `/whole`
	for script, timeoutMs := range map[string]int{ignores: 0, "exec 3<&0; (" + ignores + ") <&3 & sleep 1000": 300} {
		request := fields{"argv": []string{"sh", "-c", script}, "killAfterMs": 300, "timeoutMs": timeoutMs}
		st, _ := ask(t, host, execStart, request, execStarted)
		st.Write(record(execStdin, make([]byte, 1000)))
		readRecord(st, func(byte) int { return 1000 }) // it ignores the signals
		if timeoutMs == 0 {
			st.Close()
		} else {
			io.Copy(io.Discard, st) // EXIT, and the end
			st.CloseWrite()
		}
		until(t, "it is over", func() bool { defer e.lock()(); return len(e.calls) == 0 })
		if entries, _ := os.ReadDir(folder); len(entries) > 0 {
			t.Error(script, entries)
		}
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
		st, request := openStream(t, host, "exec"), fields{"argv": []string{"sleep", "1000"}, "wait": true}
		if index == 0 {
			request["detach"] = fields{}
		}
		st.Write(record(execStart, encode(request)))
		waiting = append(waiting, st)
		until(t, "it waits", func() bool { return count() == index+1 })
	}
	waiting[1].Close()
	until(t, "it no longer waits", func() bool { return count() == 3 })
	waiting[3].stop(failf("cancelled", ""))
	until(t, "a caller that does not read no longer waits", func() bool { return count() == 2 })
	waiting = append(waiting, openStream(t, host, "exec"))
	waiting[4].Write(record(execStart, encode(fields{"argv": []string{"sleep", "1000"}, "wait": true})))
	until(t, "another one waits", func() bool { return count() == 3 })
	_, exit = ask(t, host, execStart, fields{"argv": []string{"true"}, "wait": true, "timeoutMs": 50}, execExit)
	if failed := exit.object("error").reason(); failed.code != "too-many-streams" || count() != 3 {
		t.Error(failed, count())
	}
	started, refused := make(chan int, len(waiting)), make(chan string, len(waiting))
	for index, st := range waiting {
		go func(index int, st *stream) {
			switch kind, payload, _ := readRecord(st, func(byte) int { return 1000 }); kind {
			case execStarted:
				started <- index
			case execExit:
				refused <- parseObject(payload, "").object("error").reason().message
			}
		}(index, st)
	}
	for _, want := range []int{0, 2} {
		running[want].Write(record(execSignal, []byte("SIGKILL")))
		if index := <-started; index != want {
			t.Errorf("%d began, not %d", index, want)
		}
		if want == 0 { // the end of a job's caller means nothing
			waiting[0].CloseWrite()
			waiting[0].waitEnd()
		}
	}
	e.stop()
	if count() != 0 {
		t.Error("it still waits")
	}
	until(t, "it is refused", func() bool { return len(refused) > 0 })
	if why := <-refused; why != "shutting down" {
		t.Error(why)
	}
}
