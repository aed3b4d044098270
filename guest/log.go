package main

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// The levels of the log, the most important first.
const (
	logError = iota
	logWarn
	logInfo
	logDebug
)

var logLevels = [...]struct{ word, journal string }{{"error: ", "<3>"}, {"warning: ", "<4>"}, {"", "<6>"}, {"debug: ",
	"<7>"}}

const (
	maxLogBytes = 1 << 20 // lines that wait for the reader of stderr
	logBurst    = 200     // lines of one kind: a peer must not fill the log
	logRate     = 10
)

// log has the lines that wait to be written, in the background, because the reader of stderr may be slow.
var log = struct {
	sync.Mutex
	level, lost int
	waiting     []byte
	bounds      map[string]*tokens // by the format of a line
	wake        chan struct{}
}{level: logInfo, bounds: map[string]*tokens{}, wake: make(chan struct{}, 1)}

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
	if log.lost > 0 {
		addLine(now, logWarn, fmt.Sprintf("%d lines were lost: stderr is read too slowly", log.lost))
	}
	addLine(now, level, fmt.Sprintf(format, args...))
}

func addLine(now time.Time, level int, message string) {
	start := now.Format("2006-01-02 15:04:05.000 ")
	if isJournal {
		start = logLevels[level].journal
	}
	if len(log.waiting) > maxLogBytes {
		log.lost++
		return
	}
	log.lost = 0
	log.waiting = append(log.waiting, start+"vproxy: "+logLevels[level].word+message+"\n"...)
	select {
	case log.wake <- struct{}{}:
	default:
	}
}

// isJournal tells whether stderr is the stream of systemd's journal.
var isJournal = func() bool {
	var stat syscall.Stat_t
	return syscall.Fstat(2, &stat) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}()

// writeLog writes lines as they come.
func writeLog() {
	for range log.wake {
		flushLog()
	}
}

// flushLog writes the lines that wait.
func flushLog() {
	log.Lock()
	lines := log.waiting
	log.waiting = nil
	log.Unlock()
	os.Stderr.Write(lines)
}
