package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// failure is an error with a code of the protocol, or of docs/errors.md.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.message }

func failf(code, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// toFailure returns an error as a failure, and none as nil; the code is for one that has none.
func toFailure(err error, code string) *failure {
	if failed, ok := err.(*failure); ok || err == nil {
		return failed
	}
	return &failure{code, describe(err)}
}

// exitStatus is that of a program that fails with this code.
func (f *failure) exitStatus() int {
	for status, codes := range exitCodes {
		if isWord(f.code, codes) {
			return status
		}
	}
	return 69
}

// errorNames has the names of the system's errors that users see most.
var errorNames = map[syscall.Errno]string{
	syscall.EACCES: "EACCES", syscall.EADDRINUSE: "EADDRINUSE", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL",
	syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET", syscall.EHOSTUNREACH: "EHOSTUNREACH",
	syscall.EISDIR: "EISDIR", syscall.EMFILE: "EMFILE", syscall.ENOENT: "ENOENT", syscall.ENOTDIR: "ENOTDIR",
	syscall.EPERM: "EPERM", syscall.EPIPE: "EPIPE",
}

// describe shows an error in one line, one of the system as `permission denied (EACCES)`.
func describe(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return escape(err.Error(), 200)
	}
	words := number.Error()
	switch number {
	case syscall.ECONNRESET:
		words = "connection reset"
	case syscall.EADDRNOTAVAIL:
		words = "not an address of this machine"
	}
	if name, ok := errorNames[number]; ok {
		words += " (" + name + ")"
	}
	return words
}

// escape shows a foreign text so that it cannot move the cursor or forge a line, cut to max characters.
func escape(text string, max int) string {
	var shown strings.Builder
	for at, char := range text {
		if max--; max < 0 {
			return shown.String() + "…"
		}
		switch {
		case char == '\\' || char == '\n' || char == '\t':
			shown.WriteString(map[rune]string{'\\': `\\`, '\n': `\n`, '\t': `\t`}[char])
		case char == utf8.RuneError && text[at] != 0xef:
			fmt.Fprintf(&shown, `\x%02x`, text[at])
		case strconv.IsPrint(char):
			shown.WriteRune(char)
		case char < 0xa0:
			fmt.Fprintf(&shown, `\x%02x`, char)
		default: // such as zero-width and bidirectional controls, which change how the text around them looks
			fmt.Fprintf(&shown, `\u{%x}`, char)
		}
	}
	return shown.String()
}

// cut shortens a text to max bytes, at the boundary of a character.
func cut(text string, max int) string { return strings.ToValidUTF8(text[:least(len(text), max)], "") }

// isWord tells whether a text is one of the words of a list.
func isWord(text, words string) bool { return isAmong(text, strings.Fields(words)) }

func isAmong(text string, list []string) bool {
	for _, each := range list {
		if each == text {
			return true
		}
	}
	return false
}

func least(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// The levels of the log, the most important first.
const (
	logError = iota
	logWarn
	logInfo
	logDebug

	maxLogLines = 4096 // that wait for the reader of stderr; further ones are lost
	logBurst    = 200  // lines of one kind: a peer must not fill the log
	logRate     = 10   // of them a second
)

var logLevels = [...]struct{ word, journal string }{
	{"error: ", "<3>"}, {"warning: ", "<4>"}, {"", "<6>"}, {"debug: ", "<7>"}}

var log = struct {
	sync.Mutex
	level   int
	bounds  map[string]*tokens // by the format of a line
	lines   chan string
	written chan struct{} // closed after the last line
}{level: logInfo, bounds: map[string]*tokens{}, lines: make(chan string, maxLogLines), written: make(chan struct{})}

// logLine logs something that happened. Foreign text in it must be escaped.
func logLine(level int, format string, args ...any) {
	log.Lock()
	defer log.Unlock()
	now := time.Now()
	if log.bounds[format] == nil {
		log.bounds[format] = newTokens(logRate, logBurst, now)
	}
	if level > log.level || level != logError && !log.bounds[format].take(now) {
		return
	}
	start := now.Format("2006-01-02 15:04:05.000 ")
	if isJournal {
		start = logLevels[level].journal
	}
	select {
	case log.lines <- start + "vproxy: " + logLevels[level].word + fmt.Sprintf(format, args...) + "\n":
	default:
	}
}

// isJournal tells whether stderr is the stream of systemd's journal.
var isJournal = func() bool {
	var stat syscall.Stat_t
	return syscall.Fstat(2, &stat) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}()

// writeLog writes lines as they come, in the background, because the reader of stderr may be slow.
func writeLog() {
	for line := range log.lines {
		os.Stderr.WriteString(line)
	}
	close(log.written)
}
