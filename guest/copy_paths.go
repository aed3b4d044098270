package main

import (
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// findHome makes a path absolute: without a leading slash it is relative to the home of ~NAME, or of this user.
func (s *copyService) findHome(path string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return path, nil
	}
	name, rest := "", path
	if strings.HasPrefix(path, "~") {
		name, rest, _ = strings.Cut(path[1:], "/")
	}
	account, failed := findUser(name)
	switch {
	case failed == nil && filepath.IsAbs(account.HomeDir):
		return account.HomeDir + "/" + rest, nil
	case s.root != "":
		return "", errDenied
	case name != "":
		return "", refusedCopy("~"+name, "no such user, or the user has no home directory")
	}
	return "", failf("copy-failed", "user %s has no home directory; use an absolute path", account.Uid)
}

var errDenied = failf("denied", "path not allowed")

// allow returns the path to use for one that the peer named. If copies are confined to a folder, it contains no links:
// what is checked is what is used. It fails with errDenied for what leads out of the folder, and with the error of the system for
// what leads nowhere inside: through a file, or by a link.
func (s *copyService) allow(path string) (string, error) {
	if s.root == "" {
		return path, nil
	}
	root, err := filepath.EvalSymlinks(s.root)
	isInside := func(real string) bool {
		return err == nil && (real == root || strings.HasPrefix(real, strings.TrimSuffix(root, "/")+"/"))
	}
	names := strings.Split(filepath.Clean(path), "/")
	first := func(count int) string { return either(count < 2, "/", strings.Join(names[:count], "/")) }
	for end, links := len(names), 0; ; {
		absent := error(syscall.ENOENT)
		// In few steps, as each takes longer the more names there are.
		there := 1 + sort.Search(end-1, func(count int) bool {
			err := syscall.Lstat(first(count+2), new(syscall.Stat_t))
			absent = either(err == nil, absent, err)
			return err != nil
		})
		real, failed := filepath.EvalSymlinks(first(there))
		switch {
		case failed == nil && !isInside(real):
			return "", errDenied
		case failed == nil && (absent != syscall.ENOENT || links > 0 && there < len(names)):
			return "", absent
		case failed == nil:
			real = filepath.Join(append([]string{real}, names[there:]...)...)
			return real + either(strings.HasSuffix(path, "/"), "/", ""), nil
		}
		// A link that leads nowhere, perhaps outside. Or it is gone by now, with all that was below it.
		above, failed := filepath.EvalSymlinks(first(there - 1))
		target, gone := os.Readlink(first(there))
		end = there - 1
		if failed != nil || gone != nil {
			continue
		}
		if !isInside(above) {
			return "", errDenied
		}
		links++
		if links > maxLinks {
			return "", syscall.ELOOP
		}
		target = either(filepath.IsAbs(target), "", above+"/") + target
		names = append(strings.Split(target, "/"), names[there:]...)
		end = len(names)
	}
}

const maxLinks = 40 // of a path, as Linux has it

// isFileName reports whether a text is the name of a single file in a folder.
func isFileName(text string) bool {
	return text != "" && text != "." && text != ".." && !strings.ContainsAny(text, "/\x00") && len(text) <= maxCopyPath
}

// isLinkInside reports whether a link in a folder so many levels below the top of the copied tree stays within the tree,
// whatever other links there are: it is relative, and goes up only at its beginning, where each step is a real folder.
func isLinkInside(target string, depth int) bool {
	hasName := false
	for _, part := range strings.Split(target, "/") {
		if part == ".." {
			depth--
		}
		if depth < 0 || hasName && part == ".." {
			return false
		}
		hasName = hasName || part != "" && part != "." && part != ".."
	}
	return target != "" && target[0] != '/'
}

// checkLink refuses a link that points outside the copied tree, unless such links are kept.
func (c *copyCall) checkLink(path, target string, depth int) error {
	if c.keepsLinks || isLinkInside(target, depth) {
		return nil
	}
	return refusedCopy(path, "link points outside the copied tree: "+escape(target, maxCopyPath))
}

func refusedCopy(path, why string) error {
	return failf("copy-refused", "%s: %s", escape(path, maxCopyPath), why)
}

// copyFailed turns a system error into one of a copy, with the path. It returns nil and failures unchanged.
func copyFailed(path string, err error) error {
	var failed *failure
	if err == nil || errors.As(err, &failed) {
		return err
	}
	return failf("copy-failed", "%s: %s", escape(path, maxCopyPath), describe(err))
}
