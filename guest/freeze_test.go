package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The program itself, called by its names: before the init of other tests, which read files.
func init() {
	switch filepath.Base(os.Args[0]) {
	case freezerName:
		os.Exit(runFreezer(os.Args[1:]))
	case "vproxy-guest":
		main()
		os.Exit(0)
	}
}

const mountinfo = `21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=continue
22 21 0:5 / /proc rw - proc proc rw
23 21 254:2 / /srv rw - xfs /dev/vdb rw
24 23 7:0 / /srv/a\040"\134b rw - ext4 /dev/loop0 rw
25 21 254:1 /etc /run/sandbox/etc ro - ext4 /dev/vda1 rw
26 21 254:3 / /boot rw - vfat /dev/vdc rw
27 21 254:4 / /old ro - ext4 /dev/vdd ro,norecovery
28 21 0:9 / /host rw - 9p share rw
29 21 254:5 / /home rw - ext4 /dev/vde rw
30 29 0:30 / /home ro - tmpfs tmpfs ro
31 21 0:31 /sub /data ro master:1 propagate_from:2 - btrfs /dev/vdf rw,subvol=/sub
32 21 0:31 / /all rw - btrfs /dev/vdf rw
33 21 0:32 / /union rw - overlay /dev/none rw
34 21 254:1 /srv /bind rw - ext4 /dev/vda1 rw
no mount
35 21 254:6 / /last
`

func TestMounts(t *testing.T) {
	for _, each := range []struct{ wanted, want string }{
		{"", `/srv/a "\b,/data,/srv,/`},
		{`/,/srv/a "\b,/srv/`, `/srv/a "\b,/srv,/`},
		{"/bind,/data,/all,/proc", "/data,/proc,/bind"},
		{"/home", "/home"},
		{"/srv/a", "!/srv/a: not a mount point"},
		{"/last", "!/last: not a mount point"},
		{"//", "/"},
	} {
		var wanted []string
		if each.wanted != "" {
			wanted = strings.Split(each.wanted, ",")
		}
		mounts, failed := chooseMounts(mountinfo, wanted)
		got := strings.Join(pathsOf(mounts), ",")
		if failed != nil {
			got = "!" + failed.message
		}
		if got != each.want {
			t.Errorf("%q: %s", each.wanted, got)
		}
	}
	many := ""
	for minor := 0; minor <= maxFreezePaths; minor++ {
		many += fmt.Sprintf("1 1 8:%d / /%d rw - ext4 /dev/sda rw\n", minor, minor)
	}
	for text, want := range map[string]string{"": "no file system here can be frozen", "22 21 0:5 / /proc rw - proc proc rw": "no file",
		// A sandbox lists a loop device before what it lies on.
		"1 1 7:0 / /loop rw - ext4 /dev/loop0 rw\n2 1 8:1 / /disk rw - ext4 /dev/sda rw": "[/loop /disk]",
		many: "too many file systems"} {
		if mounts, failed := chooseMounts(text, nil); failed == nil && fmt.Sprint(pathsOf(mounts)) != want ||
			failed != nil && !strings.HasPrefix(failed.message, want) {
			t.Error(want, mounts, failed)
		}
	}
}

func freezeStream(t *testing.T, c *channel, request []byte) *stream {
	st := openStream(t, c, "freeze")
	st.Write(request)
	return st
}

func freezeOf(forMs int, paths ...string) []byte {
	return record(freezeFreeze, encode(fields{"version": 1, "paths": paths, "forMs": forMs}))
}

// expect returns a field of the next record, which must be of this kind.
func expect(t *testing.T, st *stream, kind byte, field string) any {
	t.Helper()
	got, payload, err := readRecord(st, func(byte) int { return maxFreezeBytes })
	o := parseObject(payload, "answer")
	if got != kind || err != nil || o.number("version", 1, 1) != 1 {
		t.Fatalf("%d, not %d: %s, %v", got, kind, payload, err)
	}
	return o.fields[field]
}

// TestFreezeRequests: requests that are not valid reset the stream, and nothing is frozen. (None may be valid without paths.)
func TestFreezeRequests(t *testing.T) {
	machine, host := pair(t)
	s := &freezeService{hooks: "/nonexistent"}
	machine.services["freeze"] = s.serve
	const gone = "/nonexistent"
	for name, request := range map[string][]byte{
		"kind":        record(freezeFrozen, encode(fields{"version": 1, "paths": []string{gone}, "forMs": 1000})),
		"version":     record(freezeFreeze, encode(fields{"version": 2, "paths": []string{gone}, "forMs": 1000})),
		"no paths":    record(freezeFreeze, encode(fields{"version": 1, "forMs": 1000})),
		"relative":    freezeOf(1000, "nonexistent"),
		"NUL":         freezeOf(1000, gone+"\x00"),
		"long":        freezeOf(1000, "/"+strings.Repeat("x", 4096)),
		"65 paths":    freezeOf(1000, strings.Fields(strings.Repeat(gone+" ", 65))...),
		"short time":  freezeOf(999, gone),
		"long time":   freezeOf(60_001, gone),
		"fraction":    record(freezeFreeze, []byte(`{"version":1,"paths":["/nonexistent"],"forMs":1000.5}`)),
		"half a pair": record(freezeFreeze, []byte(`{"version":1,"paths":["/\ud800"],"forMs":1000}`)),
		"not UTF-8":   record(freezeFreeze, []byte("{\"version\":1,\"paths\":[\"/\xff\"],\"forMs\":1000}")),
		"not JSON":    record(freezeFreeze, []byte(`{"version":1,"paths":["/nonexistent"],"forMs":1000}}`)),
		"too large":   {freezeFreeze, 0, 1, 0, 1},
	} {
		st := freezeStream(t, host, request)
		st.waitEnd()
		if st.reason == nil || st.reason.code != "protocol-error" {
			t.Error(name, st.reason)
		}
	}
	st := freezeStream(t, host, freezeOf(1000, gone))
	if text := expect(t, st, freezeFailed, "message"); text != "/nonexistent: not a mount point" {
		t.Error(text)
	}
	st.CloseWrite()
	st.waitEnd()
	s.current.Store(st)
	st = freezeStream(t, host, freezeOf(1000, gone))
	if text := expect(t, st, freezeFailed, "message"); text != "file systems are frozen already; vproxy thaw ends that" {
		t.Error(text)
	}
}

// mountTest mounts a file system on a file, or skips the test; it is thawed and unmounted afterwards.
func mountTest(t *testing.T, image, place string) string {
	t.Helper()
	if os.Geteuid() != 0 || exec.Command("/proc/self/exe", "-test.run=^$").Run() != nil {
		t.Skip("needs root, and no emulator")
	}
	os.WriteFile(image, nil, 0o600)
	os.Truncate(image, either[int64](strings.Contains(image, "inner"), 8<<20, 32<<20))
	os.Mkdir(place, 0o700)
	command := exec.Command("sh", "-c", `PATH=$PATH:/usr/sbin:/sbin; mkfs.ext4 -q -F "$1" && mount -o loop "$1" "$2"`, "sh", image, place)
	if output, err := command.CombinedOutput(); err != nil {
		t.Skip(string(output))
	}
	// Another program's mount namespace may hold a copy of the inner one, which keeps the outer one busy.
	t.Cleanup(func() { syscall.Unmount(place, syscall.MNT_DETACH) })
	each := opened(t, place)
	t.Cleanup(func() {
		thawAll(each, false)
		closeMounts(each)
	})
	limit(t, place+" is mounted", func() { thawAll(each, false) })
	return place
}

// opened returns open mount points.
func opened(t *testing.T, paths ...string) (mounts []mount) {
	t.Helper()
	for _, path := range paths {
		folder, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, mount{path: path, folder: folder})
	}
	return mounts
}

// mountNested mounts an ext4, and one on a file in it.
func mountNested(t *testing.T) (outer, inner string) {
	folder := t.TempDir()
	outer = mountTest(t, folder+"/outer.img", folder+"/outer a")
	return outer, mountTest(t, outer+"/inner.img", folder+"/inner")
}

// startWriter returns a process that hangs in a write to a frozen file system.
func startWriter(t *testing.T, place string) (ended chan error) {
	t.Helper()
	writer := exec.Command("sh", "-c", `echo written > "$1/file"`, "sh", place)
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- writer.Wait() }()
	for tries := 0; !strings.Contains(readFile("/proc/"+strconv.Itoa(writer.Process.Pid)+"/stat"), ") D "); tries++ {
		if tries == 100 {
			t.Fatal("a write does not wait")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ended
}

func mustEnd(t *testing.T, writer chan error, most time.Duration) {
	t.Helper()
	select {
	case err := <-writer:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(most):
		t.Fatal("still frozen")
	}
}

// freezers returns the processes that freeze.
func freezers() (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		stat := strings.Fields(readFile(filepath.Dir(path) + "/stat"))
		if strings.HasPrefix(readFile(path), freezerName+"\x00") && stat[3] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestFreeze(t *testing.T) {
	folder := t.TempDir()
	other := mountTest(t, folder+"/other.img", folder+"/other")
	outer, inner := mountNested(t)
	machine, host := pair(t)
	s := &freezeService{hooks: t.TempDir()}
	out := s.hooks + "/out.txt"
	os.WriteFile(s.hooks+"/10-note", []byte("#!/bin/sh\necho $1 >> "+out+"\n"), 0o700)
	machine.services["freeze"] = s.serve
	begin := func(forMs int) (*stream, chan error) {
		t.Helper()
		os.Remove(out)
		os.WriteFile(inner+"/dirty", make([]byte, 1<<20), 0o600)
		st := freezeStream(t, host, freezeOf(forMs, outer, inner))
		if paths := expect(t, st, freezeFrozen, "paths"); !reflect.DeepEqual(paths, []any{inner, outer}) || !isFrozen.Load() {
			t.Fatal(paths)
		}
		return st, startWriter(t, inner)
	}
	end := func(why string) {
		t.Helper()
		for tries := 0; tries < 100 && s.current.Load() != nil; tries++ {
			time.Sleep(20 * time.Millisecond)
		}
		if isFrozen.Load() || s.current.Load() != nil || readFile(out) != "freeze\nthaw" || len(freezers()) > 0 {
			t.Error(why, isFrozen.Load(), readFile(out), freezers())
		}
	}

	asked, writer := begin(10_000)
	again := freezeStream(t, host, freezeOf(1000, inner))
	if text := expect(t, again, freezeFailed, "message"); !strings.Contains(text.(string), "already") {
		t.Error(text)
	}
	asked.Write(record(99, []byte("later")))
	asked.CloseWrite()
	mustEnd(t, writer, time.Second)
	if cause := expect(t, asked, freezeThawed, "cause"); cause != "asked" {
		t.Error(cause)
	}
	end("asked")

	late, writer := begin(1500)
	began := time.Now()
	if cause := expect(t, late, freezeThawed, "cause"); cause != "time" || time.Since(began) > 2*time.Second {
		t.Error(cause, time.Since(began))
	}
	mustEnd(t, writer, time.Second)
	end("time")

	reset, writer := begin(10_000)
	reset.Reset("cancelled", "")
	mustEnd(t, writer, time.Second)
	end("reset")

	stopped, writer := begin(10_000)
	stopped.stop(failf("cancelled", ""))
	mustEnd(t, writer, time.Second)
	end("stop")

	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		killed, writer := begin(10_000)
		for _, pid := range freezers() {
			syscall.Kill(pid, syscall.SIGHUP) // ignored
			syscall.Kill(pid, signal)
		}
		mustEnd(t, writer, time.Second)
		if text := expect(t, killed, freezeFailed, "message"); !strings.Contains(text.(string), "was killed") {
			t.Error(text)
		}
		end(signal.String())
	}

	for _, cause := range []string{"asked", "time"} { // though what froze them is stopped
		held, writer := begin(1500)
		syscall.Kill(freezers()[0], syscall.SIGSTOP)
		if cause == "asked" {
			held.CloseWrite()
		}
		mustEnd(t, writer, 3*time.Second)
		if told := expect(t, held, freezeThawed, "cause"); told != cause {
			t.Error(told)
		}
		end("stopped, " + cause)
	}

	// Another program has frozen one of them, which stays frozen; the first one is thawed.
	others := opened(t, other)
	defer closeMounts(others)
	others[0].control(freezeRequest)
	busy := freezeStream(t, host, freezeOf(1000, other, outer))
	if text := expect(t, busy, freezeFailed, "message"); text != other+": resource busy or locked (EBUSY)" {
		t.Error(text)
	}
	writer = startWriter(t, other)
	if err := os.WriteFile(outer+"/file", nil, 0o600); err != nil {
		t.Error(err)
	}
	thawAll(others, true)
	mustEnd(t, writer, time.Second)
	os.WriteFile(s.hooks+"/20-refuse", []byte("#!/bin/sh\necho no room >&2\n[ $1 = thaw ]\n"), 0o700)
	refused := freezeStream(t, host, freezeOf(1000, inner))
	if text := expect(t, refused, freezeFailed, "message"); text != s.hooks+"/20-refuse: no room" {
		t.Error(text)
	}
	os.WriteFile(s.hooks+"/20-refuse", []byte("#!/bin/sh\n[ $1 = thaw ] || sleep 100\n"), 0o700)
	slow := freezeStream(t, host, freezeOf(1000, inner))
	slow.CloseWrite()
	if text := expect(t, slow, freezeFailed, "message"); !strings.Contains(text.(string), "was cancelled") {
		t.Error(text)
	}

	os.Remove(s.hooks + "/20-refuse")
	_, writer = begin(10_000)
	s.stop()
	mustEnd(t, writer, time.Second)
	expect(t, freezeStream(t, host, freezeOf(1000, inner)), freezeFailed, "message")
}

// TestWrongOrder: a freeze that waits for a frozen file system ends when the time is over.
func TestWrongOrder(t *testing.T) {
	outer, inner := mountNested(t)
	os.WriteFile(inner+"/dirty", make([]byte, 1<<20), 0o600)
	freezer := exec.Command("/proc/self/exe")
	freezer.Args = []string{freezerName, "1500", outer, inner}
	mounts := opened(t, outer, inner)
	defer closeMounts(mounts)
	freezer.ExtraFiles = []*os.File{mounts[0].folder, mounts[1].folder}
	stdin, _ := freezer.StdinPipe()
	began := time.Now()
	output, err := freezer.Output()
	if string(output) != "frozen\nthawed time\n" || err != nil || time.Since(began) > 5*time.Second {
		t.Error(string(output), err, time.Since(began))
	}
	stdin.Close()
	if err := os.WriteFile(inner+"/file", nil, 0o600); err != nil {
		t.Error(err)
	}
}

// TestFreezeLife: the end of the process, however it comes, thaws; its log is written then. After SIGKILL, a thread that hangs in
// another frozen file system may keep the process.
func TestFreezeLife(t *testing.T) {
	folder := t.TempDir()
	other := mountTest(t, folder+"/other.img", folder+"/other")
	outer, _ := mountNested(t)
	others := opened(t, other)
	defer closeMounts(others)
	for _, each := range []struct {
		signal syscall.Signal
		log    string
		hangs  bool
	}{{syscall.SIGTERM, outer + "/log", false}, {syscall.SIGKILL, outer + "/log", false}, {syscall.SIGKILL, other + "/log", true}} {
		log, _ := os.Create(each.log)
		if each.hangs {
			others[0].control(freezeRequest)
		}
		guest := exec.Command("/proc/self/exe")
		guest.Args = []string{"vproxy-guest", "-c", "stdio:", "--allow-freeze"}
		guest.Stderr = log
		in, _ := guest.StdinPipe()
		out, _ := guest.StdoutPipe()
		if err := guest.Start(); err != nil {
			t.Fatal(err)
		}
		spec, _ := parseChannel("unix-connect:/test")
		host := newChannel(spec, "")
		go host.serve(struct {
			io.Reader
			io.WriteCloser
		}{out, in})
		st := freezeStream(t, host, freezeOf(30_000, outer))
		expect(t, st, freezeFrozen, "paths")
		writer := startWriter(t, outer)
		guest.Process.Signal(each.signal)
		mustEnd(t, writer, 2*time.Second)
		thawAll(others, false)
		ended := make(chan error, 1)
		go func() {
			guest.Wait() // SIGKILL is an error
			ended <- nil
		}()
		mustEnd(t, ended, 10*time.Second)
		log.Close()
		text := readFile(each.log)
		isSaid := strings.Contains(text, "freezing "+outer)
		if !each.hangs && !isSaid || strings.Contains(text, "thawed file systems after ") != (each.signal == syscall.SIGTERM) {
			t.Error(each, text)
		}
	}
}

// TestThawByDescriptor: what was mounted over a frozen file system, or over its folder, is not thawed in its place; a frozen file
// system cannot be unmounted; and another program's thaw is a failure, whichever process notices it.
func TestThawByDescriptor(t *testing.T) {
	outer, inner := mountNested(t)
	machine, host := pair(t)
	machine.services["freeze"] = (&freezeService{hooks: t.TempDir()}).serve
	begin := func() *stream {
		t.Helper()
		st := freezeStream(t, host, freezeOf(10_000, outer, inner))
		expect(t, st, freezeFrozen, "paths")
		return st
	}
	for _, place := range []string{inner, filepath.Dir(inner)} {
		for _, isKilled := range []bool{false, true} {
			st, writer := begin(), startWriter(t, inner)
			if err := syscall.Unmount(inner, 0); err != syscall.EBUSY {
				t.Error(err)
			}
			if err := syscall.Mount("tmpfs", place, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			if isKilled {
				syscall.Kill(freezers()[0], syscall.SIGKILL)
				mustEnd(t, writer, time.Second)
				if text := expect(t, st, freezeFailed, "message"); text != "the process that froze them was killed; all are thawed" {
					t.Error(text)
				}
			} else {
				st.CloseWrite()
				mustEnd(t, writer, time.Second)
				expect(t, st, freezeThawed, "cause")
			}
			syscall.Unmount(place, 0)
			st.CloseWrite()
			st.waitEnd()
		}
	}
	mounts := opened(t, outer)
	defer closeMounts(mounts)
	st := begin()
	mounts[0].control(thawRequest)
	st.CloseWrite()
	if text := expect(t, st, freezeFailed, "message"); text != outer+": another program had thawed it" {
		t.Error(text)
	}
}
