package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// newTestCall returns a call in a new folder, which it is confined to, and what it answers.
func newTestCall(t *testing.T) (*sftpCall, *bytes.Buffer) {
	c, answers := (&sftpService{copies: &copyService{root: t.TempDir()}}).newCall(nil), new(bytes.Buffer)
	c.out, c.isReady = answers, true
	return c, answers
}

// TestSftpAnyBytes: whatever a packet has, it gets one answer or ends the stream, and no descriptor is left.
func TestSftpAnyBytes(t *testing.T) {
	before, _ := os.ReadDir("/proc/self/fd")
	c, answers := newTestCall(t)
	random := rand.New(rand.NewSource(1))
	seen := map[byte]bool{}
	parts := []string{"\x00\x00\x00\x04", "\x00\x00\x00\x01", "\x00\x00\x00\x00", "\x00\x00\x00\x01a", "\x00\x00\x00\x01b",
		"\xff\xff\xff\xff", "\x00\x00\x00\x07../../x", "\x00\x00\x00\x09a\x00b\xff\xfe", "\x00\x00\x00\x18posix-rename@openssh.com",
		"\x00\x00\x00\x1b", "\x80\x00\x00\x0f", "\x00\x00\x00\x14hardlink@openssh.com", "\x00\x00\x00\x12limits@openssh.com"}
	for round := 0; round < 30000; round++ {
		packet := []byte("name")
		for count := random.Intn(6); count > 0; count-- {
			packet = append(packet, parts[random.Intn(len(parts))]...)
		}
		kind := byte(2 + random.Intn(22))
		if kind > sftpSymlink {
			kind = sftpExtended
		}
		answers.Reset()
		err := c.answer(kind, packet)
		answer := answers.Bytes()
		if (err == nil) == (len(answer) == 0) || err == nil && int(binary.BigEndian.Uint32(answer)) != len(answer)-4 {
			t.Fatalf("%d %q: %v, %x", kind, packet, err, answer)
		}
		if err == nil {
			seen[answer[4]] = true
		}
		c.release()
	}
	for _, file := range c.files {
		if file != nil {
			file.Close()
		}
	}
	if after, _ := os.ReadDir("/proc/self/fd"); len(after) > len(before) || len(seen) < 5 {
		t.Errorf("%d descriptors, before %d; answers of kinds %v", len(after), len(before), seen)
	}
}

// TestSftpReplacedFolder: a folder that a link replaces after the check is still the one that is used.
func TestSftpReplacedFolder(t *testing.T) {
	c, _ := newTestCall(t)
	inside, outside := c.copies.root+"/sub", t.TempDir()
	os.Mkdir(inside, 0o700)
	at, err := c.place("sub/file", true)
	if err != nil || os.Rename(inside, inside+"2") != nil || os.Symlink(outside, inside) != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(at, nil, 0o600); err != nil || exists(outside+"/file") || !exists(inside+"2/file") {
		t.Error(err)
	}
	if _, err = c.place("sub/file", true); err != errDenied {
		t.Error(err)
	}
}

// TestSftpNeverWaits: a READ does not wait for data, even of a file that can be polled.
func TestSftpNeverWaits(t *testing.T) {
	c, _ := newTestCall(t)
	c.copies.root = ""
	if _, err := c.open(&sftpRequest{at: "/proc/self/mounts", flags: 1}); err != nil {
		t.Fatal(err)
	}
	defer c.files[0].Close()
	r := &sftpRequest{}
	(&sftpFields{[]byte("\x00\x00\x00\x04\x00\x00\x00\x00"), true}).readForm(r, "f", c)
	fd, err := strconv.Atoi(filepath.Base(r.at))
	if err != nil {
		t.Fatal(r.at, err)
	}
	// Not from /proc, which has the numbers of the machine under qemu-user.
	if flags, _, number := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0); flags&syscall.O_NONBLOCK == 0 {
		t.Error(flags, number)
	}
}

func TestSftpLongNames(t *testing.T) {
	path := t.TempDir() + "/file"
	os.WriteFile(path, []byte("12345"), 0o640)
	for mode, want := range map[os.FileMode]string{0o640: "-rw-r-----", 0o755 | os.ModeSetuid | os.ModeSetgid: "-rwsr-sr-x",
		0o001 | os.ModeSticky: "---------t", 0o600 | os.ModeSticky | os.ModeSetuid: "-rwS-----T"} {
		os.Chmod(path, mode)
		is, _ := os.Lstat(path)
		if long := longName("file", is); !strings.HasPrefix(long, fmt.Sprintf("%s    1 %-8d", want, os.Geteuid())) {
			t.Error(long)
		}
	}
}

// TestSftpRefusedRename: a file that cannot leave its folder gets no second name.
func TestSftpRefusedRename(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	top := t.TempDir()
	from := top + "/from"
	os.Chmod(filepath.Dir(top), 0o755)
	os.Chmod(top, 0o777)
	os.Mkdir(from, 0o700)
	os.WriteFile(from+"/file", nil, 0o666)
	os.Chmod(from, 0o555)
	defer os.Chmod(from, 0o700)
	if os.Geteuid() == 0 {
		os.Chown(from+"/file", 65534, 65534)
		syscall.Setfsuid(65534)
		defer syscall.Setfsuid(0)
	}
	err := renameNew(&sftpRequest{at: from + "/file", to: top + "/to"})
	if status, _ := statusOf(err); status != statusPermissionDenied || exists(top+"/to") || !exists(from+"/file") {
		t.Error(err, exists(top+"/to"))
	}
}
