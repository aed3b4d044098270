package main

import (
	"fmt"
	"os"
	"testing"
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
	w, _ := s.walk(top, false)
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
