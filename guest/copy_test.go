package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLinks: a link stays inside if it goes up no further than its folder is deep, and only at its beginning.
func TestLinks(t *testing.T) {
	for text, want := range map[string]bool{"0a": true, "0./a/b": true, "1..": true, "1../a": true, "2.././../a/": true,
		"0a..b/...": true, "0.": true, "5": false, "5/a": false, "0..": false, "1../..": false, "5a/..": false} {
		if isLinkInside(text[1:], int(text[0]-'0')) != want {
			t.Error(text)
		}
	}
}

// TestWalk: names that do not fit into one part are read in parts, each name once and in order; then all are removed.
func TestWalk(t *testing.T) {
	const count = 3000
	s, path := &copyService{}, t.TempDir()
	os.Mkdir(path+"/large", 0o700)
	for number := 0; number < count; number++ {
		os.WriteFile(fmt.Sprintf("%s/large/%04d", path, number*7919%count), nil, 0o600)
	}
	s.names.Store(maxNames) // other copies hold as much as they may
	top, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := s.walk(top)
	err = w.down("large")
	for number := 0; number < count && err == nil; number++ {
		var each step
		if each, err = w.step(); each.name != fmt.Sprintf("%04d", number) || s.names.Load() > maxNames+minNames {
			t.Fatal(number, each, s.names.Load(), err)
		}
	}
	if each, err := w.step(); !each.isLeft || err != nil || s.names.Load() != maxNames {
		t.Error(each, err, s.names.Load())
	}
	os.Chmod(path+"/large", 0o500)
	if err := s.remove(top, "large"); err != nil || exists(path+"/large") {
		t.Error(err)
	}
}

// TestRemoveReadOnly: what cannot be removed is named as the reason, whether it is there or not.
func TestRemoveReadOnly(t *testing.T) {
	path := t.TempDir()
	if err := syscall.Mount("tmpfs", path, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skip(err) // needs root
	}
	defer syscall.Unmount(path, 0)
	top, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	if err := (&copyService{}).remove(top, "missing"); !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
}

// TestTimes: times are kept whole, also where a word has 32 bits, as far as the file system goes.
func TestTimes(t *testing.T) {
	path := t.TempDir() + "/file"
	file, _ := os.Create(path)
	defer file.Close()
	for _, second := range []int64{-1<<31 + 1, -2, -1, 0, 1<<31 - 1, 1 << 31, 1<<32 + 1, 15032385534} {
		for name, set := range map[string]func(time.Time) error{
			"descriptor": func(at time.Time) error { return setTime(file.Fd(), "", at) },
			"path":       func(at time.Time) error { return setTime(0, path, at) },
		} {
			want := time.Unix(second, 999_999_999)
			err := set(want)
			is, _ := os.Lstat(path)
			if got := changedAt(path, is); err != nil || !got.Equal(want) {
				t.Error(name, second, got.Unix(), got.Nanosecond(), err)
			}
		}
	}
}

// TestLength: the length of a message takes no memory before the message comes.
func TestLength(t *testing.T) {
	header := []byte{copyPlan, 0, 0x10, 0, 0, 'x'}
	c := &copyCall{service: &copyService{}, in: bufio.NewReader(bytes.NewReader(header))}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := c.next()
	runtime.ReadMemStats(&after)
	if err == nil || after.TotalAlloc-before.TotalAlloc > 100_000 {
		t.Error(err, after.TotalAlloc-before.TotalAlloc)
	}
}

// TestNames: a message whose texts would be changed is refused, since they name files.
func TestNames(t *testing.T) {
	for _, name := range []string{`\ud800`, `\udc00\ud800`, "\xff"} {
		message := record(copyStart, []byte(`{"direction":"put","target":"/`+name+`"}`))
		c := &copyCall{service: &copyService{}, in: bufio.NewReader(bytes.NewReader(message))}
		if o, err := c.expect(copyStart, "START"); err != nil || *o.failed == nil || (*o.failed).code != "protocol-error" {
			t.Error(name, err)
		}
	}
}

// TestConfined: a path that had no links when it was checked is not followed through one that was made then.
func TestConfined(t *testing.T) {
	path := t.TempDir()
	os.MkdirAll(path+"/out/sub", 0o700)
	os.Symlink(path+"/out", path+"/in")
	c := &copyCall{service: &copyService{root: path, parts: map[string]bool{}}}
	// However many names there are, few are looked at.
	deep := path + "/out" + strings.Repeat("/a", 400)
	os.MkdirAll(deep, 0o700)
	if steps := testing.AllocsPerRun(1, func() { c.service.allow(deep + strings.Repeat("/b", 400)) }); steps > 20000 {
		t.Error(steps)
	}
	for _, place := range []string{path + "/in/", path + "/in/sub", path + "/in/new"} {
		if err := c.findTargets(place, []*target{{name: "file"}}); err == nil {
			t.Error(place)
		}
	}
}

// TestCancelled: a copy that is cancelled while it is put into place was not lost, so that its part is removed.
func TestCancelled(t *testing.T) {
	for _, sent := range [][]byte{record(copyError, encode(fields{"code": "cancelled", "message": ""})), {}, record(copyEnd, nil)} {
		s := newTestSession(false)
		st := newStream(s, 2, &s.peers)
		st.isAnswered, st.finCame, st.in = true, true, append(st.in, sent...)
		c := &copyCall{service: &copyService{}, stream: st, in: bufio.NewReader(st)}
		failed := toFailure(c.checkAlive(), "")
		if isLost := len(sent) == 0; failed == nil || c.isLost.Load() != isLost {
			t.Error(failed, isLost)
		}
	}
}
