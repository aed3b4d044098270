package main

import (
	"errors"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

const (
	// Names of folders are read in parts: of more than minNames bytes while all copies hold less than maxNames.
	minNames, maxNames = 16384, 2 << 20
	nameBytes          = 48        // of a name without its text
	pathOnly           = 0x20_0000 // O_PATH
)

// folder is an open folder. Its entries are looked up in it, even if its path leads elsewhere by now.
type folder struct{ *os.File }

// path returns the path of an entry, or of the folder itself (".").
func (f folder) path(name string) string {
	return f.self() + "/" + name
}

// self is the path of the folder itself, which needs no permission to search it.
func (f folder) self() string { return descriptorPath(int(f.Fd())) }

func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// enter opens the folder that the names lead to from here, following no link.
func (f folder) enter(names ...string) (folder, error) {
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

// openFolder opens a folder by a path that contained no links earlier. It fails if the path contains one now.
func openFolder(path string) (folder, error) {
	root, err := os.Open("/")
	if err != nil {
		return folder{}, err
	}
	defer root.Close()
	return folder{root}.enter(strings.FieldsFunc(path, func(char rune) bool { return char == '/' })...)
}

// level is a folder that a walk is in.
type level struct {
	name    string
	entries []entry // that have been read
	bytes   int64
	isLast  bool   // no others follow them
	after   string // the last name that is done
}

// entry is an entry of a folder, as read from it.
type entry struct {
	name string
	kind os.FileMode
}

// step is the next entry of a walk, or a folder that it leaves.
type step struct {
	entry
	isLeft bool
}

// walk goes through a tree in the order of names, and holds only some of them. Of its folders only the innermost is open,
// so that a deep tree takes few descriptors: the way up opens the way down again.
type walk struct {
	folder
	service   *copyService
	top       folder // where it starts
	levels    []level
	isRemoval bool // entries are read in any order: those returned before have been removed
}

func (s *copyService) walk(top folder) (*walk, error) {
	in, err := top.enter()
	return &walk{folder: in, service: s, top: top}, err
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
	if err == nil {
		w.Close()
		w.folder, w.levels = below, append(w.levels, level{name: name})
	}
	return err
}

// open makes the innermost folder accessible to its owner.
func (w *walk) open(err error) error {
	if err == nil {
		err = syscall.Chmod(w.self(), 0o700)
	}
	return err
}

// downOwn enters a folder if it belongs to this user, and makes it inaccessible to others, so that nobody else changes it.
func (w *walk) downOwn(name string) (isOwned bool, err error) {
	below, err := w.enter(name)
	if errors.Is(err, syscall.ENOTDIR) || os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if is, err := below.Stat(); err != nil || !isOwn(is) {
		below.Close()
		return false, err
	}
	w.Close()
	w.folder, w.levels = below, append(w.levels, level{name: name})
	return true, w.open(nil)
}

// downNew enters a folder that was just created, unless another user has replaced it. If the file system assigns what this user
// creates to another user, as NFS does for root, a new file shows to whom.
func (w *walk) downNew(name string) error {
	if err := w.down(name); err != nil {
		return err
	}
	is, err := w.Stat()
	if err != nil || isOwn(is) {
		return err
	}
	probe, err := os.OpenFile(w.path(".vproxy-owner"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		defer os.Remove(w.path(".vproxy-owner"))
		defer probe.Close()
		var made os.FileInfo
		if made, err = probe.Stat(); err == nil && statOf(made).Uid == statOf(is).Uid {
			return nil
		}
	}
	return errors.New("another user has put a folder there during the copy")
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
func (w *walk) next(before string) (*entry, error) {
	l := &w.levels[len(w.levels)-1]
	if len(l.entries) == 0 && !l.isLast {
		if err := w.read(l); err != nil {
			return nil, err
		}
	}
	if len(l.entries) > 0 && (before == "" || l.entries[0].name < before) {
		first := &l.entries[0]
		l.entries, l.after = l.entries[1:], first.name
		return first, nil
	}
	if len(l.entries) > 0 && l.entries[0].name == before {
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
	most := (maxNames - w.service.names.Load()) / 3
	if most < minNames {
		most = minNames
	}
	w.service.names.Add(2 * most) // until this part is read
	file, err := os.Open(w.path("."))
	defer file.Close()
	l.isLast = true
	if w.isRemoval {
		l.after = ""
	}
	for end := ""; err == nil; { // the first name that has no room; empty: all have
		var found []os.DirEntry
		found, err = file.ReadDir(256)
		for _, each := range found {
			if name := each.Name(); name > l.after && (end == "" || name < end) {
				l.entries = append(l.entries, entry{name, each.Type()})
				l.bytes += int64(nameBytes + len(name))
			}
		}
		if w.isRemoval && l.bytes > most {
			l.isLast = false
			break
		}
		if l.bytes > 2*most || err != nil {
			sort.Slice(l.entries, func(a, b int) bool { return l.entries[a].name < l.entries[b].name })
			for last := len(l.entries) - 1; l.bytes > most && last > 0; last-- {
				end, l.isLast = l.entries[last].name, false
				l.bytes -= int64(nameBytes + len(end))
				l.entries[last], l.entries = entry{}, l.entries[:last]
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
		return step{*each, false}, nil
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
	switch {
	case err == nil || os.IsNotExist(err):
		return nil
	case !os.IsExist(err): // not a folder with entries; a read-only file system does not report what is missing
		return err
	}
	w, err := s.walk(in)
	defer w.end()
	w.isRemoval = true
	if err == nil {
		err = w.open(w.down(name))
	}
	for err == nil && len(w.levels) > 0 {
		var each step
		if each, err = w.step(); err != nil {
			break
		}
		if each.kind.IsDir() {
			err = w.open(w.down(each.name))
		} else {
			err = os.Remove(w.path(each.name))
		}
	}
	return err
}
