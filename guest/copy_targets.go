package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// target is the place of a file or folder, and of its part, next to it, until the copy is complete.
type target struct {
	folder     // shared by all targets
	path       string
	base, part string
	name       string // in the tar
	isFolder   bool
	inode      uint64 // of the part, as this copy has made it
}

func (t *target) kind() os.FileMode { return either(t.isFolder, os.ModeDir, 0) }

// findTargets finds the targets as cp(1) does: in a folder, or of a single source by its new name.
func (c *copyCall) findTargets(place string, targets []*target) error {
	is, err := os.Stat(place)
	last := place[strings.LastIndexByte(place, '/')+1:]
	isInto := err == nil && is.IsDir()
	switch {
	case errors.Is(err, syscall.ENOTDIR), err == nil && !isInto && (len(targets) > 1 || !isFileName(last)):
		return refusedCopy(place, "not a folder")
	case err != nil && !os.IsNotExist(err):
		return err
	case err != nil && (len(targets) > 1 || !isFileName(last)):
		return refusedCopy(place, "no such folder")
	case !isInto:
		place = filepath.Dir(place)
		if is, err := os.Stat(place); err != nil || !is.IsDir() {
			return refusedCopy(place, "no such folder")
		}
	}
	if c.service.root == "" { // otherwise it was checked to have no links
		if place, err = filepath.EvalSymlinks(place); err != nil {
			return err
		}
	}
	in, err := openFolder(place)
	if err != nil {
		return err
	}
	for _, t := range targets {
		t.folder, t.base = in, last
		if isInto {
			t.base = t.name
		}
		short := t.base
		if len(short) > 240 { // with more around it, it might be too long
			hash := sha256.Sum256([]byte(short))
			short = hex.EncodeToString(hash[:])
		}
		t.path, t.part = filepath.Join(place, t.base), "."+short+".vproxy-part"
		there, err := lookAt(t.folder.path(t.base))
		if err == nil {
			err = checkReplaceable(t.path, there, t.kind())
		}
		if err == nil {
			err = c.keep(200 + 2*len(t.path))
		}
		if err != nil {
			in.Close()
			return err
		}
	}
	return nil
}

// lookAt is os.Lstat, but returns nil for what does not exist.
func lookAt(path string) (os.FileInfo, error) {
	is, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return is, err
}

// checkReplaceable refuses to replace what is at a path, or to put entries into it, if it is of another kind.
func checkReplaceable(path string, there os.FileInfo, kind os.FileMode) error {
	switch {
	case there == nil:
		return nil
	case there.IsDir() && !kind.IsDir():
		return refusedCopy(path, "is a folder; cannot replace it with a "+either(kind == 0, "file", "link"))
	case !there.IsDir() && kind.IsDir():
		return refusedCopy(path, "not a folder; cannot replace it with one")
	case there.Mode().Type()&^(os.ModeDir|os.ModeSymlink) != 0:
		return refusedCopy(path, "not a file, folder or link")
	}
	return nil
}

// paths returns what a copy to this target writes to.
func (t *target) paths() [2]string {
	return [2]string{t.path, filepath.Join(filepath.Dir(t.path), t.part)}
}

// claim reserves the targets and their parts, to which no other copy may write. It returns one that is taken, or nil.
func (s *copyService) claim(targets []*target) *target {
	defer s.lock()()
	for index, t := range targets {
		for _, path := range t.paths() {
			if s.parts[path] {
				s.drop(targets[:index])
				return t
			}
		}
		for _, path := range t.paths() {
			s.parts[path] = true
		}
	}
	return nil
}

func (s *copyService) release(targets []*target) {
	defer s.lock()()
	s.drop(targets)
}

func (s *copyService) drop(targets []*target) {
	for _, t := range targets {
		for _, path := range t.paths() {
			delete(s.parts, path)
		}
	}
}
