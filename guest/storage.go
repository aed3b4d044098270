package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	storageName     = "storage" // of the service by which emulators are found, at either side
	requestTime     = 10 * time.Second
	replyTime       = time.Minute
	lingerTime      = 5 * time.Second
	probeEvery      = time.Second
	maxStorageCalls = 1024
	maxEmulators    = 64
	maxStorageHeld  = 128 << 20
	singleRead      = 1024 // bytes, which an emulator reads that uses one recv
)

// broker passes each call of a wrapper to one emulator: one that is attached, or else the peer's service
// (docs/storage.md).
type broker struct {
	vm    string
	open  func() (*stream, *failure) // a stream to the peer's service
	calls chan *storageCall          // for any attached emulator
	turn  chan struct{}              // taken by the call that uses the peer's service

	mu                              sync.Mutex
	wrappers, held, attached, count int // held are bytes of requests and replies
	isOffered                       bool
	changed                         chan struct{} // closed when the peer's service is of use, or no more
}

// storageCall is a call that has no answer yet.
type storageCall struct {
	argv    []string
	request []byte
	began   time.Time
	answer  chan []byte
	gone    chan struct{} // closed when its wrapper has exited
}

// listen listens for wrappers: at an explicit path, which must work, or at the first default that does.
func (b *broker) listen(explicit string, c *channel) error {
	paths := storagePaths()
	if explicit != "" {
		paths = []string{explicit}
	}
	var failed *failure
	for _, path := range paths {
		os.MkdirAll(filepath.Dir(path), 0o700)
		listener, err := address{network: "unix", text: path}.listen()
		if err == nil {
			logLine(logInfo, "listening on %s for storage calls", path)
			c.sockets = append(c.sockets, path)
			go b.accept(listener)
			return nil
		}
		// Wrappers would find the other process first.
		if failed = toFailure(err, "internal"); failed.code == "address-in-use" {
			break
		}
	}
	if explicit != "" {
		return failed
	}
	logLine(logWarn, "not serving storage calls: %s", failed.message)
	return nil
}

func (b *broker) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			time.Sleep(firstRetry)
			continue
		}
		go b.serveWrapper(conn)
	}
}

// adjust changes a number that is bounded; false if it would exceed the bound.
func (b *broker) adjust(number *int, by, max int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *number+by > max {
		return false
	}
	*number += by
	return true
}

func (b *broker) serveWrapper(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestTime))
	if !b.adjust(&b.wrappers, 1, maxStorageCalls) {
		conn.Write(storageFailure(failf("storage-unavailable", "too many storage calls in progress (max %d)",
			maxStorageCalls)))
		return
	}
	defer b.adjust(&b.wrappers, -1, maxStorageCalls)
	c := &storageCall{began: time.Now(), answer: make(chan []byte, 1), gone: make(chan struct{})}
	from := &heldReader{b, conn, 0}
	defer from.release()
	_, o, failed := readMessage(from, "request", storageRequestBytes)
	if failed == nil {
		c.argv = o.texts("argv", isAny)
		o.require(len(c.argv) > 0, "argv", "must be a non-empty list of strings")
		failed = storageBad("request", *o.failed)
	}
	if failed != nil {
		c.log(0, failed)
		conn.Write(storageFailure(failed))
		return
	}
	request := fields{"argv": c.argv}
	if b.vm != "" {
		request["vm"] = b.vm
	}
	c.request = encodeASCII(request)
	go b.answer(c)
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		answer := []byte(" ") // JSON ignores a space; a wrapper that has gone does not take it
		select {
		case answer = <-c.answer:
		case <-probe.C:
		}
		conn.SetDeadline(time.Now().Add(replyTime))
		_, err := conn.Write(answer)
		if len(answer) > 1 {
			return
		}
		if err != nil {
			// No other call may get its reply.
			close(c.gone)
			c.log(0, failf("cancelled", "the wrapper disconnected before its answer"))
			return
		}
	}
}

// answer finds an emulator for a call.
func (b *broker) answer(c *storageCall) {
	pauses := backoff{first: firstRetry}
	for {
		isOfUse, changed := b.peer()
		turn := b.turn
		if !isOfUse {
			turn = nil
		}
		select {
		case <-c.gone:
			return
		case <-changed:
		case b.calls <- c:
			return
		case turn <- struct{}{}:
			isAnswered := false
			// An emulator that has not read it may do so later; other calls wait behind this one.
			for isOfUse && !isAnswered {
				if isAnswered = b.askPeer(c); !isAnswered {
					select {
					case <-c.gone:
						isAnswered = true
					case <-changed:
					case <-time.After(pauses.delay(maxRetry)):
					}
					isOfUse, changed = b.peer()
				}
			}
			if <-b.turn; isAnswered {
				return
			}
		}
	}
}

// peer tells whether the peer's service is of use: it is offered, and nothing is attached.
func (b *broker) peer() (isOfUse bool, changed chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isOffered && b.attached == 0, b.changed
}

// setPeer changes something of that.
func (b *broker) setPeer(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.changed)
	b.changed = make(chan struct{})
}

// askPeer makes a call to the peer's service, on a stream of its own. False: no emulator can have read it.
func (b *broker) askPeer(c *storageCall) bool {
	st, failed := b.open()
	if failed == nil {
		e := &emulator{broker: b, name: "peer", stream: st}
		if failed = e.ask(c); failed == nil || !e.isUnread(failed) {
			go func() {
				// The stream ends in order after its call, or is reset if the peer does not end it, too.
				st.CloseWrite()
				late := time.AfterFunc(lingerTime, st.Close)
				st.drain()
				late.Stop()
			}()
			return true
		}
	}
	logLine(logDebug, "storage emulator peer refused: %s (%s)", failed.message, failed.code)
	return false
}

// attach serves an emulator that the peer connects to this side.
func (b *broker) attach(st *stream) {
	if !b.adjust(&b.count, 1, maxEmulators) {
		st.Reset("too-many-streams", "too many emulators (max %d)", maxEmulators)
		return
	}
	defer b.adjust(&b.count, -1, maxEmulators)
	if !st.accept() {
		return
	}
	b.setPeer(func() { b.attached++ })
	e := &emulator{broker: b, name: fmt.Sprintf("attached on stream %d", st.id), stream: st}
	logLine(logDebug, "storage emulator %s attached", e.name)
	var failed *failure
	for failed == nil {
		idle := make(chan *failure, 1)
		go func() {
			if err := st.skipSpace(); err != nil {
				idle <- toFailure(err, "storage-unavailable")
			} else {
				idle <- failf("cancelled", "it sent data that was not asked for")
			}
		}()
		select {
		case c := <-b.calls:
			failed = e.ask(c)
		case failed = <-idle:
		}
	}
	b.setPeer(func() { b.attached-- })
	st.Close()
	logLine(logDebug, "storage emulator %s detached: %s (%s)", e.name, failed.message, failed.code)
}

// emulator answers calls on one stream, one at a time.
type emulator struct {
	broker     *broker
	name       string
	stream     *stream
	isReceived bool // something of the reply
}

// ask sends a request, and answers the call with the reply, or with why there is none: then the stream has ended. A
// call that no emulator can have read gets no answer.
func (e *emulator) ask(c *storageCall) *failure {
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-c.gone:
			e.stream.Reset("cancelled", "storage call cancelled after its request was sent")
		case <-answered:
		}
	}()
	from := &heldReader{e.broker, e.stream, 0}
	defer from.release()
	var message []byte
	var reply *storageReply
	var failed *failure
	if _, err := e.stream.Write(c.request); err != nil {
		failed = toFailure(err, "storage-unavailable")
	} else {
		var o object
		if message, o, failed = readMessage(from, "reply", storageReplyBytes); failed == nil {
			reply, failed = readReply(o)
		}
	}
	e.isReceived = from.count > 0
	if failed == nil {
		c.log(reply.status, nil)
		c.answer <- append(message, '\n')
		return nil
	}
	e.stream.Close()
	if e.isUnread(failed) {
		return failed
	}
	code, what := "storage-unavailable", failed.message
	if failed.code == "storage-bad-reply" {
		code = failed.code
	} else if failed.code != code {
		what = failed.code + ": " + what
	}
	if length := len(c.request) - 1; length > singleRead && !e.isReceived {
		what += fmt.Sprintf("; the request has %d bytes, too many for an emulator that reads with a single recv(%d)",
			length, singleRead)
	}
	told := failf(code, "storage emulator (%s) failed: %s", e.name, what)
	c.log(0, told)
	c.answer <- storageFailure(told)
	return failed
}

// isUnread tells a failure after which no emulator can have read the request.
func (e *emulator) isUnread(failed *failure) bool {
	return !e.isReceived && isWord(failed.code, "unknown-service connect-refused too-many-streams")
}

// heldReader counts what is held of what is read: all calls share its bound.
type heldReader struct {
	broker *broker
	from   io.Reader
	count  int
}

func (h *heldReader) Read(to []byte) (int, error) {
	count, err := h.from.Read(to)
	if !h.broker.adjust(&h.broker.held, count, maxStorageHeld) {
		return 0, failf("storage-unavailable", "too many bytes buffered for storage calls")
	}
	h.count += count
	return count, err
}

func (h *heldReader) release() { h.broker.adjust(&h.broker.held, -h.count, maxStorageHeld) }

func (c *storageCall) log(status int, failed *failure) {
	command := escape(strings.Join(c.argv, " "), 200)
	duration := time.Since(c.began).Milliseconds()
	if failed == nil {
		logLine(logInfo, "storage call %s: status %d, %d ms", command, status, duration)
		return
	}
	logLine(logWarn, "storage call %s: %s (%s), %d ms", command, failed.message, failed.code, duration)
}
