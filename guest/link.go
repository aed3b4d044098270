package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxUnproved = 16
	// growthBudget bounds what all windows together grow by; the protocol allows more (R-FLOW-4).
	growthBudget = 16 << 20
)

// channel keeps a session with the peer: it opens the channel, and reopens it whenever it is lost.
type channel struct {
	spec           *channelSpec
	instance, name string
	// services handle streams of the peer, each in its own goroutine: they accept or refuse a stream, and use it.
	services map[string]func(*stream)
	retry    chan struct{} // ends a pause before the next attempt

	mutex      // guards the fields below, and all links
	keys       []key
	changed    chan struct{} // closed at the next session
	session    *session
	offered    []string   // the peer's services
	ports      []openPort // that are announced; nil: none yet
	links      map[*link]bool
	isStopping bool
	sockets    []string     // files to be removed at the end
	told       atomic.Value // the last state that was logged; no lock guards it
	refused    string       // the last refusal of a session that was logged
	serving    int          // streams of the peer
	starts     queue        // of their services
	budget     int          // for windows to grow
}

func newChannel(spec *channelSpec, name string) *channel {
	return &channel{spec: spec, instance: newNonce(), name: name, services: map[string]func(*stream){},
		retry: make(chan struct{}, 1), changed: make(chan struct{}), links: map[*link]bool{}, budget: growthBudget}
}

// run serves the channel until it ends for good: when it can never work, or standard input has ended.
func (c *channel) run() *failure {
	if strings.HasSuffix(c.spec.kind, "-listen") {
		return c.listen()
	}
	var pauses backoff
	for {
		began := time.Now()
		conn, err := c.spec.dial(func() { c.tell("channel-waiting", "%s: waiting for the host", c.spec.text) })
		reason := toFailure(err, "channel-failed")
		if err == nil {
			reason = c.serve(conn)
		}
		if c.spec.kind == "stdio" || isWord(reason.code, "channel-unusable channel-denied shutdown") {
			c.endSuspended(reason) // no other link will come
			return reason.advised(c.spec.kind)
		}
		if time.Since(began) > 2*maxRetry {
			pauses = 0
		}
		what := reason.message
		if !strings.HasPrefix(what, c.spec.text) {
			what = c.spec.text + ": " + what
		}
		c.tell("channel-waiting", "%s; retrying", what)
		select {
		case <-time.After(pauses.delay(firstRetry, maxRetry)):
		case <-c.retry:
		}
	}
}

// listen accepts connections; each one displaces another once it has a session (R-CHANNEL-2).
func (c *channel) listen() *failure {
	accept, err := c.spec.listen()
	if err == nil {
		c.sockets = append(c.sockets, c.spec.path)
		c.tell("channel-listening", "waiting for the peer on %s", c.spec.text)
		acceptAll(accept, maxConnections, func(conn io.ReadWriteCloser) { c.serve(conn) })
	}
	return toFailure(err, "channel-failed")
}

// makeRoom closes a connection if too many wait: of the machine with the most, preferably one that has not answered a
// HELLO, otherwise a random one (R-CHANNEL-2).
func (c *channel) makeRoom(newcomer *link) {
	counts, waiting := map[string]int{newcomer.machine: 1}, []*link{}
	for l := range c.links { // in random order
		if l.session == nil || l.session != c.session {
			counts[l.machine]++
			waiting = append(waiting, l)
		}
	}
	rank := func(l *link) int { return 2*counts[l.machine] + either(l.session == nil, 1, 0) }
	sort.Slice(waiting, func(a, b int) bool { return rank(waiting[a]) > rank(waiting[b]) })
	if len(waiting) >= maxUnproved {
		delete(c.links, waiting[0])
		go waiting[0].stop(failf("channel-displaced", "too many connections wait"))
	}
}

// serve runs the sessions on an open channel until it closes.
func (c *channel) serve(conn io.ReadWriteCloser) *failure {
	machine := ""
	if file, isFile := conn.(*os.File); isFile {
		machine = file.Name()
	}
	if _, isPolled := conn.(syscall.Conn); isPolled {
		conn = newQuick(conn)
	}
	l := newLink(c, conn)
	l.machine = machine
	c.Lock()
	c.makeRoom(l)
	c.links[l] = true
	if c.isStopping {
		l.closed = failf("shutdown", "shutting down")
	}
	c.Unlock()
	reason := l.run()
	defer c.lock()()
	delete(c.links, l)
	return reason
}

// tell logs the state of the channel, unless it is unchanged.
func (c *channel) tell(event, format string, args ...any) {
	if line := fmt.Sprintf(format, args...); c.told.Swap(line) != line {
		logLine(logInfo, event, "%s", line)
	}
}

// open opens a stream, waiting for a session if there is none.
func (c *channel) open(service, from string, wait time.Duration) (*stream, *failure) {
	late := time.After(wait)
	for {
		c.Lock()
		s, changed := c.session, c.changed
		isLinked := s != nil && s.isLinked()
		c.Unlock()
		if isLinked {
			// Another session follows one that is over, or drains.
			if st, failed := s.open(service, from); failed == nil || !isWord(failed.code, "no-session shutdown") {
				return st, failed
			}
		}
		select {
		case <-changed:
		case <-late:
			return nil, failf("no-session", "no session with the peer within %g s", wait.Seconds())
		}
	}
}

// isOffered reports whether the peer offers a service now.
func (c *channel) isOffered(service string) bool {
	defer c.lock()()
	return isAmong(service, c.offered)
}

// stop ends the session cleanly, and closes the channel.
func (c *channel) stop() {
	c.Lock()
	links := c.links
	c.isStopping, c.links = true, map[*link]bool{}
	c.Unlock()
	c.endSuspended(failf("shutdown", "shutting down"))
	for l := range links {
		l.stop(failf("shutdown", "shutting down"))
	}
	for _, path := range c.sockets {
		os.Remove(path)
	}
}

// ---- called by links, with the lock held ----

func (c *channel) established(s *session) {
	switch displaced := c.session; {
	case displaced == nil:
	case !displaced.isLinked() && displaced.peer.instance == s.peer.instance:
		displaced.fail("resume-refused", "the peer reconnected without the session")
	case !displaced.isLinked():
		displaced.fail("peer-restarted", "the peer restarted")
	case displaced.link != s.link:
		// In a goroutine, since it takes the lock and waits.
		go displaced.link.stop(failf("channel-displaced", "a newer connection replaced this one"))
	}
	c.session, c.refused = s, ""
	c.announce()
	peer := escape(s.peer.agent, 80)
	if s.peer.name != "" {
		peer = escape(s.peer.name, 80) + ", " + peer
	}
	logLine(logInfo, "session-established", "session established with %s on %s", peer, c.spec.text)
}

// announce wakes those that wait for a session with a link.
func (c *channel) announce() {
	c.told.Store("")
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *channel) ended(s *session, reason *failure) {
	if c.session == s {
		c.session, c.offered = nil, nil
	}
	level := logInfo
	if isWord(reason.code, "auth-failed channel-busy") {
		level = logWarn
		if c.refused == reason.message {
			level = logDebug
		}
		c.refused = reason.message
	}
	logLine(level, "session-ended", "session on %s ended: %s (%s)", c.spec.text, reason.message, reason.code)
}

// link is one open channel, with its sessions, one after another, and their streams.
//
// Three kinds of goroutines use the lock: the reader, which calls run; the writer, which holds it only while it
// collects frames; and those that use streams. Reading never waits for writing or for a stream (R-FLOW-1).
type link struct {
	channel *channel
	conn    io.ReadWriteCloser
	machine string // at the other end, if known

	alarms
	wake *sync.Cond // for the writer
	// raw is written before all frames: a flush, HELLOs, the last frames of a session.
	raw       []byte
	isWriting bool
	closed    *failure
	isLast    bool // no handshake follows the session
	session   *session
	due       *stream // has data or an end that is not delivered yet; only the reader uses it
	opening
	pauses backoff
	next   *hello // counts as the first one of the next attempt (R-OPEN-13)
}

func newLink(c *channel, conn io.ReadWriteCloser) *link {
	l := &link{channel: c, conn: conn, alarms: alarms{&c.mutex, map[string]*time.Timer{}}}
	l.wake = sync.NewCond(l)
	return l
}

// run opens sessions until the channel closes, and returns the reason.
func (l *link) run() *failure {
	l.Lock()
	l.open()
	l.Unlock()
	go l.writeAll()
	err := l.readAll()
	defer l.lock()()
	l.deliver()
	l.close(err)
	// Nobody may read the pipe, which would block its writer forever.
	await(l, 500*time.Millisecond, func() bool { return !l.isWriting })
	return l.closed
}

// stop ends the session with a reason, and closes the channel once the peer knows it, or after a while.
func (l *link) stop(reason *failure) {
	defer l.lock()()
	l.isLast = true
	if l.session != nil {
		l.session.end(reason)
	}
	await(l, 500*time.Millisecond, func() bool { return l.closed != nil || !l.isBusy() })
	l.close(reason)
}

// mutex is a lock that a function holds until it returns: defer m.lock()().
type mutex struct{ sync.Mutex }

func (m *mutex) lock() (unlock func()) {
	m.Lock()
	return m.Unlock
}

// await waits briefly for a condition that the lock guards.
func await(lock sync.Locker, max time.Duration, isSo func() bool) {
	for deadline := time.Now().Add(max); !isSo() && time.Now().Before(deadline); {
		lock.Unlock()
		time.Sleep(5 * time.Millisecond)
		lock.Lock()
	}
}

// close ends everything on the link, with the reason.
func (l *link) close(err error) {
	if l.closed != nil {
		return
	}
	l.closed = toFailure(err, "channel-failed")
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		l.closed = failf("channel-closed", "the other end closed the channel")
	}
	if s := l.session; s != nil && l.channel.spec.kind != "stdio" && s.mayWait() {
		s.suspend(nil)
	} else if s != nil {
		s.leave(l.closed, false)
	}
	l.silence()
	l.wake.Broadcast()
	l.conn.Close()
}

// isBusy reports whether bytes wait to be written.
func (l *link) isBusy() bool { return l.isWriting || len(l.raw) > 0 }

func (l *link) put(bytes []byte) {
	l.raw = append(l.raw, bytes...)
	l.wake.Broadcast()
}

// deliver delivers the data read last.
func (l *link) deliver() {
	if st := l.due; st != nil {
		l.due = nil
		st.deliver()
	}
}

// Read delivers the data read before, reads the channel, and notes the time.
func (l *link) Read(to []byte) (int, error) {
	if l.due != nil {
		l.Lock()
		l.deliver()
		l.Unlock()
	}
	count, err := l.conn.Read(to)
	defer l.lock()()
	if l.session != nil && count > 0 {
		l.session.noteArrival()
	}
	return count, err
}

// readAll reads frames and HELLOs until the channel closes.
func (l *link) readAll() error {
	// This holds two frames of the largest size, or a HELLO.
	from := bufio.NewReaderSize(l, 2*l.channel.spec.limits[frameLimit]+maxControlBytes)
	for {
		l.Lock()
		read, s := l.seekHello, l.session
		l.Unlock()
		if s != nil {
			read = func(from *bufio.Reader) (int, error) { return s.read(l, from) }
		}
		count, err := read(from)
		if err != nil {
			return err
		}
		from.Discard(count)
	}
}

// seekHello skips bytes, or reads a HELLO (R-OPEN-3). It returns how many bytes to discard.
func (l *link) seekHello(from *bufio.Reader) (int, error) {
	start, err := from.Peek(len(magic))
	if err != nil {
		return 0, err
	}
	if string(start) != magic {
		if next := bytes.IndexByte(start[1:], magic[0]); next >= 0 {
			return 1 + next, nil
		}
		return len(start), nil
	}
	found, length, err := readHello(from)
	if found == nil {
		return 1, err
	}
	defer l.lock()()
	l.takeHello(found)
	return length, nil
}

// writeAll writes what is queued until the channel closes.
func (l *link) writeAll() {
	defer l.lock()()
	var batch []byte
	for {
		for l.closed == nil && len(l.raw) == 0 && (l.session == nil || !l.session.hasFrames()) {
			l.wake.Wait()
		}
		if l.closed != nil {
			return
		}
		batch = append(batch[:0], l.raw...)
		l.raw = nil
		if l.session != nil {
			batch = l.session.collect(batch)
		}
		l.isWriting = true
		l.Unlock()
		_, err := l.conn.Write(batch)
		l.Lock()
		l.isWriting = false
		l.wake.Broadcast()
		switch {
		case err != nil:
			l.close(err)
		case l.own != nil && len(l.raw) == 0 && l.owesAnswer:
			l.answer()
		case l.session != nil:
			l.session.room.Broadcast()
		}
	}
}

// alarms are the timers of a link, or of a session.
type alarms struct {
	*mutex // of the channel
	timers map[string]*time.Timer
}

// alarm calls a function later, with the lock held, unless it is silenced, or replaced by one of the same name.
func (a *alarms) alarm(name string, delay time.Duration, ring func()) {
	a.silence(name)
	var timer *time.Timer
	timer = time.AfterFunc(delay, func() {
		defer a.lock()()
		if a.timers[name] == timer {
			delete(a.timers, name)
			ring()
		}
	})
	a.timers[name] = timer
}

// silence stops the named alarms, or all.
func (a *alarms) silence(names ...string) {
	for name, timer := range a.timers {
		if len(names) == 0 || isAmong(name, names) {
			timer.Stop()
			delete(a.timers, name)
		}
	}
}

// backoff is the next retry delay; it doubles, ±25 %.
type backoff time.Duration

func (b *backoff) delay(first, max time.Duration) time.Duration {
	delay := time.Duration(math.Min(math.Max(float64(*b), float64(first)), float64(max)))
	*b = backoff(2 * delay)
	return delay*3/4 + time.Duration(random(1)[0])*delay/512
}

// tokens is a token bucket: a rate and a burst.
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
