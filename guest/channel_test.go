package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestLeadsToHost: the device decides, not its path; one that does not exist yet is no host, and another one cannot take the
// place of the line that was judged.
func TestLeadsToHost(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	var number, unlocked int32
	ioctl(master, syscall.TIOCGPTN, &number)
	ioctl(master, syscall.TIOCSPTLCK, &unlocked)
	pts, link := fmt.Sprintf("/dev/pts/%d", number), filepath.Join(t.TempDir(), "line")
	for path, want := range map[string]bool{"/dev/null": true, link: false, pts: false, "/dev/./pts/" + filepath.Base(pts): false,
		"/dev/tty": false, "/": false} {
		if s := (&channelSpec{kind: "tty-open", path: path}); s.leadsToHost() != want {
			t.Error(path)
		}
	}
	os.Symlink("/dev/null", link)
	s := &channelSpec{kind: "tty-open", path: link}
	isHost := s.leadsToHost()
	os.Remove(link)
	os.Symlink(pts, link)
	if _, err := s.openLine(); !isHost || err == nil || toFailure(err, "").code != "channel-unusable" {
		t.Error(isHost, err)
	}
	if ioctl(master, getTermios2, &termios2{}) != nil {
		return // an emulator without this call
	}
	s.leadsToHost() // is asked again at the next start
	file, err := s.openLine()
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
}

// What can never be connected to is not tried again.
func TestUnusableSockets(t *testing.T) {
	folder := t.TempDir()
	file, packets := filepath.Join(folder, "file"), filepath.Join(folder, "packets")
	os.WriteFile(file, nil, 0o600)
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: packets, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, path := range []string{file, packets, folder, filepath.Join(file, "x")} {
		s := &channelSpec{kind: "unix-connect", path: path}
		if _, err := s.dial(nil); err == nil || toFailure(err, "").code != "channel-unusable" {
			t.Error(path, err)
		}
	}
}
