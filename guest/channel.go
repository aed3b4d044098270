package main

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	firstRetry  = 100 * time.Millisecond
	maxRetry    = 5 * time.Second
	maxUnproved = 16
)

// channel keeps a session with the peer: it opens its channel, and opens it again whenever it is lost.
type channel struct {
	spec           *channelSpec
	instance, name string
	keys           func() []key
	// services handle streams of the peer, each in a goroutine of its own: they accept or refuse a stream, and use it.
	services map[string]func(*stream)
	// servicesChanged tells the peer's services, and nil when there is no session any more.
	servicesChanged func(services []string)

	// mu may be taken within the lock of a link, and not the other way round.
	mu         sync.Mutex
	changed    chan struct{} // closed at the next session
	session    *session
	links      map[*link]bool
	isStopping bool
	sockets    []string // files to be removed at the end
	told       string   // the last state that was logged
	refused    string   // the last refusal of a session that was logged
}

func (c *channel) serviceNames() []string {
	names := []string{}
	for name := range c.services {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// run serves the channel until it ends for good: standard input when its other end closes it, any other when it can
// never work.
func (c *channel) run() *failure {
	if strings.HasSuffix(c.spec.kind, "-listen") {
		return c.listen()
	}
	pauses := backoff{first: firstRetry}
	for {
		began := time.Now()
		var reason *failure
		if conn, err := c.spec.dial(func() { c.tell("%s: waiting for the host", c.spec.text) }); err != nil {
			reason = toFailure(err, "channel-failed")
		} else {
			reason = c.serve(conn)
		}
		if c.spec.kind == "stdio" || isWord(reason.code, "channel-unusable channel-denied shutdown") {
			return reason
		}
		if time.Since(began) > 2*maxRetry {
			pauses.next = 0
		}
		message := reason.message
		if !strings.HasPrefix(message, c.spec.text) {
			message = c.spec.text + ": " + message
		}
		c.tell("%s; retrying", message)
		time.Sleep(pauses.delay(maxRetry))
	}
}

// listen takes connections; each is a channel of its own, and displaces another once it has a session (R-CHANNEL-2).
func (c *channel) listen() *failure {
	accept, err := c.spec.listen()
	if err != nil {
		return toFailure(err, "channel-failed")
	}
	c.sockets = append(c.sockets, c.spec.path)
	c.tell("waiting for the peer on %s", c.spec.text)
	for {
		conn, err := accept()
		if err != nil {
			c.tell("%s: %s; retrying", c.spec.text, describe(err))
			time.Sleep(firstRetry)
			continue
		}
		c.mu.Lock()
		for l := range c.links { // in random order
			if len(c.links) > maxUnproved && (c.session == nil || l != c.session.link) {
				delete(c.links, l)
				go l.stop(failf("channel-displaced", "too many connections wait"))
			}
		}
		c.mu.Unlock()
		go c.serve(conn)
	}
}

// serve runs the sessions on an open channel until it closes.
func (c *channel) serve(conn io.ReadWriteCloser) *failure {
	l := newLink(c, conn)
	c.mu.Lock()
	c.links[l] = true
	isStopping := c.isStopping
	c.mu.Unlock()
	if isStopping {
		l.closed = failf("shutdown", "shutting down")
	}
	reason := l.run()
	c.mu.Lock()
	delete(c.links, l)
	c.mu.Unlock()
	return reason
}

// tell logs the state of the channel, unless that was the last line.
func (c *channel) tell(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	c.mu.Lock()
	isKnown := line == c.told
	c.told = line
	c.mu.Unlock()
	if !isKnown {
		logLine(logInfo, "%s", line)
	}
}

// open opens a stream, and waits for a session if there is none.
func (c *channel) open(service, from string, wait time.Duration) (*stream, *failure) {
	late := time.After(wait)
	for {
		c.mu.Lock()
		s, changed := c.session, c.changed
		c.mu.Unlock()
		if s != nil {
			// A session that is over, or drains, is followed by another one.
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

// stop ends the session in order, and closes the channel.
func (c *channel) stop() {
	c.mu.Lock()
	c.isStopping = true
	links := c.links
	c.links = map[*link]bool{}
	c.mu.Unlock()
	for l := range links {
		l.stop(failf("shutdown", "shutting down"))
	}
	for _, path := range c.sockets {
		os.Remove(path)
	}
}

// ---- what links tell, with their lock held ----

func (c *channel) established(s *session) {
	c.mu.Lock()
	displaced := c.session
	c.session, c.told, c.refused = s, "", ""
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if displaced != nil && displaced.link != s.link {
		// Not now: the lock of this link is held.
		go displaced.link.stop(failf("channel-displaced", "a newer connection replaced this one"))
	}
	peer := escape(s.peer.agent, 80)
	if s.peer.name != "" {
		peer = escape(s.peer.name, 80) + ", " + peer
	}
	logLine(logInfo, "session established with %s on %s", peer, c.spec.text)
}

func (c *channel) ended(s *session, reason *failure) {
	c.mu.Lock()
	if c.session == s {
		c.session = nil
		c.servicesChanged(nil)
	}
	level := logInfo
	if isWord(reason.code, "auth-failed channel-busy") {
		if level = logWarn; c.refused == reason.message {
			level = logDebug
		}
		c.refused = reason.message
	}
	c.mu.Unlock()
	logLine(level, "session on %s ended: %s (%s)", c.spec.text, reason.message, reason.code)
}

func (c *channel) noteQuiet() {
	c.tell("no answer on %s: no vproxy at the other end yet, or another process has the channel", c.spec.text)
}

func (c *channel) noteEcho() {
	c.tell("%s echoes everything sent: is the line raw, and is vproxy running at the other end?", c.spec.text)
}
