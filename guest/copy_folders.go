package main

import (
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	// Names of folders are read in parts: of more than minNames bytes while all copies hold less than maxNames.
	minNames, maxNames = 16384, 2 << 20
	nameBytes          = 96 // of a name without its text
)

// folder is an open folder. Its entries are looked up in it, wherever its path leads by now.
type folder struct{ *os.File }

// path returns the path of an entry, or of the folder itself (".").
func (f folder) path(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) + "/" + name
}

// enter opens the folder that the names lead to from here, following no link.
func (f folder) enter(names ...string) (folder, error) {
	const pathOnly = 0x200000 // O_PATH
	below := f
	for index, name := range append([]string{"."}, names...) {
		file, err := os.OpenFile(below.path(name), pathOnly|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if index > 0 {
			below.Close()
		}
		if err != nil {
			return folder{}, err
		}
		below = folder{file}
	}
	return below, nil
}

// openFolder opens a folder by a path without links, and fails if a link has replaced one of its folders.
func openFolder(path string) (folder, error) {
	root, err := os.Open("/")
	if err != nil {
		return folder{}, err
	}
	defer root.Close()
	return folder{root}.enter(strings.FieldsFunc(path, func(char rune) bool { return char == '/' })...)
}

// level is a folder of a walk.
type level struct {
	name    string
	entries []os.DirEntry // that have been read
	bytes   int64
	isLast  bool   // no others follow them
	after   string // the name up to which all are done
}

// step is an entry of a folder, or one that a walk leaves.
type step struct {
	name   string
	kind   os.FileMode
	isLeft bool
}

// walk goes through a tree in the order of names, and holds only some of them. Of its folders only the innermost is open,
// so that a deep tree takes few descriptors: the way up opens the way down again.
type walk struct {
	folder
	service  *copyService
	top      folder // where it starts
	levels   []level
	isOpener bool // folders are made accessible to their owner
}

func (s *copyService) walk(top folder, isOpener bool) (*walk, error) {
	in, err := top.enter()
	return &walk{folder: in, service: s, top: top, isOpener: isOpener}, err
}

// names returns the names from the top to the innermost folder.
func (w *walk) names() (names []string) {
	for _, level := range w.levels {
		names = append(names, level.name)
	}
	return names
}

// down enters a folder.
func (w *walk) down(name string) error {
	below, err := w.enter(name)
	if err != nil {
		return err
	}
	w.Close()
	w.folder, w.levels = below, append(w.levels, level{name: name})
	if w.isOpener { // by the folder alone: its entries, and so ".", may not be accessible yet
		err = syscall.Chmod(strings.TrimSuffix(w.path("."), "/."), 0o700)
	}
	return err
}

// up leaves the innermost folder, and returns its name.
func (w *walk) up() (name string, err error) {
	last := len(w.levels) - 1
	name = w.levels[last].name
	w.drop(last)
	w.levels = w.levels[:last]
	w.Close()
	w.folder, err = w.top.enter(w.names()...)
	return name, err
}

// end releases all names and closes the innermost folder. It does nothing for nil.
func (w *walk) end() {
	if w == nil {
		return
	}
	for index := range w.levels {
		w.drop(index)
	}
	w.Close()
}

// drop releases the names of a folder, which are read again when needed.
func (w *walk) drop(index int) {
	l := &w.levels[index]
	w.service.names.Add(-l.bytes)
	l.entries, l.bytes, l.isLast = nil, 0, l.isLast && len(l.entries) == 0
}

// next returns the next entry of the innermost folder, or nil after the last one. If before is not empty, it also returns
// nil for an entry of this name and those after it; the next calls begin after it.
func (w *walk) next(before string) (os.DirEntry, error) {
	l := &w.levels[len(w.levels)-1]
	if len(l.entries) == 0 && !l.isLast {
		if err := w.read(l); err != nil {
			return nil, err
		}
	}
	if len(l.entries) > 0 && (before == "" || l.entries[0].Name() < before) {
		first := l.entries[0]
		l.entries, l.after = l.entries[1:], first.Name()
		return first, nil
	}
	if len(l.entries) > 0 && l.entries[0].Name() == before {
		l.entries = l.entries[1:]
	}
	l.after = before
	return nil, nil
}

// read reads the first entries of the innermost folder that are not done.
func (w *walk) read(l *level) error {
	w.drop(len(w.levels) - 1)
	for index := range w.levels {
		if w.service.names.Load() > maxNames*3/4 {
			w.drop(index)
		}
	}
	most := (maxNames - w.service.names.Load()) / 8
	if most < minNames {
		most = minNames
	}
	w.service.names.Add(2 * most) // until this part is read
	file, err := os.Open(w.path("."))
	defer file.Close()
	l.isLast = true
	for end := ""; err == nil; { // the first name that has no room; empty: all have
		var found []os.DirEntry
		found, err = file.ReadDir(256)
		for _, each := range found {
			if name := each.Name(); name > l.after && (end == "" || name < end) {
				l.entries = append(l.entries, each)
				l.bytes += int64(nameBytes + len(name))
			}
		}
		if l.bytes > 2*most || err != nil {
			sort.Slice(l.entries, func(a, b int) bool { return l.entries[a].Name() < l.entries[b].Name() })
			for last := len(l.entries) - 1; l.bytes > most && last > 0; last-- {
				end, l.isLast = l.entries[last].Name(), false
				l.bytes -= int64(nameBytes + len(end))
				l.entries[last], l.entries = nil, l.entries[:last]
			}
		}
	}
	w.service.names.Add(l.bytes - 2*most)
	if err == io.EOF || os.IsNotExist(err) { // it may have been removed
		return nil
	}
	return err
}

// step returns the next entry of the tree. After the last entry of a folder it leaves the folder, and returns that.
func (w *walk) step() (s step, err error) {
	each, err := w.next("")
	if each != nil {
		return step{each.Name(), each.Type(), false}, nil
	}
	s.isLeft = true
	if err == nil {
		s.name, err = w.up()
	}
	return s, err
}

// remove removes a file, a link, or a folder with all that is in it. It does nothing if there is none.
func (s *copyService) remove(in folder, name string) error {
	err := os.Remove(in.path(name))
	if err == nil || os.IsNotExist(err) {
		return nil
	}
	w, err := s.walk(in, true)
	defer w.end()
	if err == nil {
		err = w.down(name)
	}
	for err == nil && len(w.levels) > 0 {
		var each step
		if each, err = w.step(); err != nil {
			break
		} else if each.kind.IsDir() {
			err = w.down(each.name)
		} else {
			err = os.Remove(w.path(each.name))
		}
	}
	return err
}

// setTime sets the time of the last change of a file, a folder, or a link itself.
func setTime(path string, changed time.Time) error {
	const noFollow, omit = 0x100, 0x3ffffffe // AT_SYMLINK_NOFOLLOW, UTIME_OMIT
	times := [2]syscall.Timespec{{Nsec: omit}, syscall.NsecToTimespec(changed.UnixNano())}
	text, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, number := syscall.Syscall6(syscall.SYS_UTIMENSAT, 0, uintptr(unsafe.Pointer(text)),
		uintptr(unsafe.Pointer(&times)), noFollow, 0, 0) // an absolute path: its first argument is ignored
	if number != 0 {
		return number
	}
	return nil
}

// complete gives a folder its time and permissions, with which it may take no more entries.
func complete(path string, changed time.Time, mode uint32) error {
	if err := setTime(path, changed); err != nil {
		return err
	}
	return syscall.Chmod(path, mode&0o1777)
}
