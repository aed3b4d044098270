package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"sync"
	"syscall"
	"time"
)

// link is one open channel, with its sessions, one after another, and their streams.
//
// One lock guards all of them. Three kinds of goroutines use it: the reader, which calls run; the writer, which holds
// it only while it collects frames; and those that use streams. Reading never waits for writing or for a stream
// (R-FLOW-1).
type link struct {
	channel *channel
	conn    io.ReadWriteCloser

	mu   sync.Mutex
	wake *sync.Cond // for the writer
	// raw has bytes to be written before all frames: flush, HELLOs, the last words of a session.
	raw       []byte
	isWriting bool
	closed    *failure
	isLast    bool // no handshake follows the session
	session   *session
	opening   *opening
	pauses    backoff
	next      *hello // counts as the first one of the next attempt (R-OPEN-13)
	serving   int    // streams of the peer
	budget    int    // for windows to grow
	alarms    map[string]*time.Timer
}

func newLink(c *channel, conn io.ReadWriteCloser) *link {
	l := &link{channel: c, conn: conn, budget: channelBudget, pauses: backoff{first: 100 * time.Millisecond},
		alarms: map[string]*time.Timer{}}
	l.wake = sync.NewCond(&l.mu)
	return l
}

// run opens sessions until the channel closes, and returns why it did.
func (l *link) run() *failure {
	l.mu.Lock()
	l.open()
	l.mu.Unlock()
	go l.writeAll()
	err := l.readAll()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail(err)
	for l.isWriting {
		l.wake.Wait()
	}
	return l.closed
}

// stop ends the session with a reason, and closes the channel when the peer was told, or after a while.
func (l *link) stop(reason *failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isLast = true
	if l.session != nil {
		l.session.end(reason)
	}
	for deadline := time.Now().Add(500 * time.Millisecond); l.isBusy() && time.Now().Before(deadline) &&
		l.closed == nil; {
		l.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		l.mu.Lock()
	}
	l.close(reason)
}

// close ends everything on the link.
func (l *link) close(reason *failure) {
	if l.closed == nil {
		l.closed = reason
		if l.session != nil {
			l.session.leave(reason, false)
		}
		l.silence()
		l.wake.Broadcast()
		l.conn.Close()
	}
}

// fail closes the link because of an error of the channel.
func (l *link) fail(err error) {
	reason := toFailure(err, "channel-failed")
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		reason = failf("channel-closed", "the other end closed the channel")
	}
	l.close(reason)
}

// isBusy tells whether bytes wait to be written.
func (l *link) isBusy() bool { return l.isWriting || len(l.raw) > 0 }

func (l *link) put(bytes []byte) {
	l.raw = append(l.raw, bytes...)
	l.wake.Broadcast()
}

// Read reads the channel, and notes when bytes come.
func (l *link) Read(to []byte) (int, error) {
	count, err := l.conn.Read(to)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil && count > 0 {
		l.session.noteArrival()
	}
	return count, err
}

// readAll reads one frame or HELLO after the other.
func (l *link) readAll() error {
	// Two frames of the largest size fit, and so does a HELLO.
	from := bufio.NewReaderSize(l, 2*l.channel.spec.limits[frameLimit]+maxControlBytes)
	for {
		l.mu.Lock()
		read, s := l.seekHello, l.session
		l.mu.Unlock()
		if s != nil {
			read = s.read
		}
		count, err := read(from)
		if err != nil {
			return err
		}
		from.Discard(count)
	}
}

// seekHello skips bytes, or reads a HELLO (R-OPEN-3). It returns how many bytes are done with.
func (l *link) seekHello(from *bufio.Reader) (int, error) {
	start, err := from.Peek(len(magic))
	if err != nil {
		return 0, err
	}
	if string(start) != magic {
		waiting, _ := from.Peek(from.Buffered())
		if next := bytes.IndexByte(waiting[1:], magic[0]); next >= 0 {
			return 1 + next, nil
		}
		return len(waiting), nil
	}
	found, length, err := readHello(from)
	if found == nil {
		return 1, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeHello(found)
	return length, nil
}

// batches are lent to writers while they have something to write.
var batches = sync.Pool{New: func() any { return new([]byte) }}

// writeAll writes what is due until the channel closes.
func (l *link) writeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.closed == nil && len(l.raw) == 0 && (l.session == nil || !l.session.hasFrames()) {
			l.wake.Wait()
		}
		if l.closed != nil {
			return
		}
		buffer := batches.Get().(*[]byte)
		*buffer = append((*buffer)[:0], l.raw...)
		l.raw = nil
		if l.session != nil {
			*buffer = l.session.fill(*buffer)
		}
		l.isWriting = true
		l.mu.Unlock()
		_, err := l.conn.Write(*buffer)
		batches.Put(buffer)
		l.mu.Lock()
		l.isWriting = false
		l.wake.Broadcast()
		switch {
		case err != nil:
			l.fail(err)
		case l.opening != nil && len(l.raw) == 0 && l.opening.owesAnswer:
			l.answer()
		case l.session != nil:
			l.session.room.Broadcast()
		}
	}
}

// alarm calls a function later, with the lock held, unless it is silenced or replaced by one of the same name before.
func (l *link) alarm(name string, delay time.Duration, ring func()) {
	l.silence(name)
	var timer *time.Timer
	timer = time.AfterFunc(delay, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.alarms[name] == timer {
			delete(l.alarms, name)
			ring()
		}
	})
	l.alarms[name] = timer
}

// silence stops alarms, all of them if none is named.
func (l *link) silence(names ...string) {
	for name, timer := range l.alarms {
		if len(names) == 0 || isAmong(name, names) {
			timer.Stop()
			delete(l.alarms, name)
		}
	}
}

// backoff gives growing delays, each varied by up to a quarter.
type backoff struct{ first, next time.Duration }

func (b *backoff) delay(max time.Duration) time.Duration {
	delay := b.next
	if delay < b.first {
		delay = b.first
	}
	if delay > max {
		delay = max
	}
	b.next = 2 * delay
	return delay*3/4 + time.Duration(random(1)[0])*delay/512
}

// tokens bound a rate: so many a second, and so many at once.
type tokens struct {
	rate, most, left float64
	at               time.Time
}

func newTokens(rate, most float64, now time.Time) *tokens { return &tokens{rate, most, most, now} }

func (t *tokens) take(now time.Time) bool {
	t.left = math.Min(t.most, t.left+now.Sub(t.at).Seconds()*t.rate)
	t.at = now
	if t.left < 1 {
		return false
	}
	t.left--
	return true
}

func random(count int) []byte {
	bytes := make([]byte, count)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return bytes
}

func newNonce() string { return hex.EncodeToString(random(16)) }
