package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// failure is an error with a code of the protocol, or of docs/errors.md.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.message }

func failf(code, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// toFailure returns an error as a failure, with the code if it has none; nil stays nil.
func toFailure(err error, code string) *failure {
	if failed, ok := err.(*failure); ok || err == nil {
		return failed
	}
	return &failure{code, describe(err)}
}

// advised returns the failure of a channel with what to do about it at the end of its message, unless that is there.
func (f *failure) advised(kind string) *failure {
	remedy := remedies[kind+" "+f.code]
	if remedy == "" || strings.HasSuffix(f.message, remedy) {
		return f
	}
	return &failure{f.code, f.message + "; " + remedy}
}

// exitStatus returns the exit status of a program that fails with this code.
func (f *failure) exitStatus() int {
	if status, isKnown := exitCodes[f.code]; isKnown {
		return status
	}
	return usualExit
}

// errorTexts are messages for the errno values that users see most.
var errorTexts = map[syscall.Errno]string{
	syscall.EACCES: "permission denied (EACCES)", syscall.EAGAIN: "resource temporarily unavailable (EAGAIN)",
	syscall.EADDRINUSE:    "address already in use (EADDRINUSE)",
	syscall.EADDRNOTAVAIL: "not an address of this machine (EADDRNOTAVAIL)",
	syscall.ECONNREFUSED:  "connection refused (ECONNREFUSED)", syscall.ECONNRESET: "connection reset (ECONNRESET)",
	syscall.EHOSTUNREACH: "no route to host (EHOSTUNREACH)", syscall.EISDIR: "is a directory (EISDIR)",
	syscall.EMFILE: "too many open files (EMFILE)", syscall.ENOENT: "no such file or directory (ENOENT)",
	syscall.ENOTDIR: "not a directory (ENOTDIR)", syscall.EPERM: "operation not permitted (EPERM)",
	syscall.EPIPE: "broken pipe (EPIPE)", syscall.ENOSPC: "no space left on device (ENOSPC)",
	syscall.EEXIST: "file already exists (EEXIST)", syscall.ENOTEMPTY: "directory not empty (ENOTEMPTY)",
	syscall.EROFS: "read-only file system (EROFS)", syscall.EXDEV: "cross-device link not permitted (EXDEV)",
	syscall.EINVAL: "invalid argument (EINVAL)", syscall.EBUSY: "resource busy or locked (EBUSY)",
	syscall.ENAMETOOLONG: "name too long (ENAMETOOLONG)", syscall.ELOOP: "too many symbolic links encountered (ELOOP)",
	syscall.EFBIG: "file too large (EFBIG)", syscall.ETXTBSY: "text file is busy (ETXTBSY)",
	syscall.EDQUOT: "disk quota exceeded (EDQUOT)", syscall.EIO: "i/o error (EIO)",
}

// describe formats an error in one line, a system error as `permission denied (EACCES)`.
func describe(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return escape(err.Error(), 200)
	}
	if text := errorTexts[number]; text != "" {
		return text
	}
	return number.Error()
}

// escape makes foreign text safe to display: it cannot move the cursor or forge a line. It is cut to max characters.
func escape(text string, max int) string {
	end := ""
	for at := range text {
		max--
		if max < 0 {
			text, end = text[:at], "…"
			break
		}
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + end
}

// formatElapsed formats a measured time as 61.2 s or 80 ms.
func formatElapsed(milliseconds float64) string {
	if milliseconds < 1000 {
		return fmt.Sprintf("%.0f ms", milliseconds)
	}
	return fmt.Sprintf("%.1f s", milliseconds/1000)
}

// cut shortens a text to max bytes, at a character boundary.
func cut(text string, max int) string { return strings.ToValidUTF8(text[:least(len(text), max)], "") }

// isWord reports whether a text is one of the words of a list.
func isWord(text, words string) bool { return isAmong(text, strings.Fields(words)) }

func isAmong(text string, list []string) bool { return indexOf(text, list) >= 0 }

func indexOf(text string, list []string) int {
	for index, each := range list {
		if each == text {
			return index
		}
	}
	return -1
}

// either returns yes if the condition holds, otherwise no. Both are evaluated.
func either[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

func least[T ~int | ~int64 | ~uint64](a, b T) T {
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

	logTime     = 500 * time.Millisecond // for the last lines
	maxLogLines = 4096                   // waiting for the reader of stderr; more are dropped
	logBurst    = 200                    // lines of one kind: a peer must not fill the log
	logRate     = 10                     // a second
)

var logLevels = [...]struct{ word, journal string }{
	{"error: ", "<3>"}, {"warning: ", "<4>"}, {"", "<6>"}, {"debug: ", "<7>"}}

// levelNames are the levels in --log-format json and VPROXY_LOG_LEVEL.
var levelNames = []string{"error", "warn", "info", "debug"}

var log = struct {
	mutex
	level   int
	isJSON  bool
	bounds  map[string]*tokens // by event
	lines   chan string
	written chan struct{} // closed after the last line
}{level: logInfo, bounds: map[string]*tokens{}, lines: make(chan string, maxLogLines), written: make(chan struct{})}

// logLine logs an event of vproxy's table (docs/errors.md). Foreign text in its message must be escaped.
func logLine(level int, event, format string, args ...any) {
	defer log.lock()()
	now := time.Now()
	if log.bounds[event] == nil {
		log.bounds[event] = newTokens(logRate, logBurst, now)
	}
	if level > log.level || level != logError && !log.bounds[event].take(now) {
		return
	}
	message := fmt.Sprintf(format, args...)
	line := now.Format("2006-01-02 15:04:05.000 ") + "vproxy: " + logLevels[level].word + message
	switch {
	case log.isJSON:
		line = string(encode(struct {
			Time    string `json:"time"`
			Level   string `json:"level"`
			Event   string `json:"event"`
			Message string `json:"message"`
		}{isoTime(now), levelNames[level], event, message}))
	case isJournal:
		line = logLevels[level].journal + "vproxy: " + logLevels[level].word + message
	}
	select {
	case log.lines <- line + "\n":
	default:
	}
}

// isJournal reports whether stderr is a stream of systemd's journal.
var isJournal = func() bool {
	var stat syscall.Stat_t
	return syscall.Fstat(2, &stat) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}()

// writeLog writes lines in the background, because the reader of stderr may be slow.
func writeLog() {
	for line := range log.lines {
		waitForThaw()
		os.Stderr.WriteString(line)
	}
	close(log.written)
}
