package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// firstFlight is the most DATA that may precede the peer's answer (R-STREAM-4).
	firstFlight = 16384
	openTime    = 30 * time.Second
)

// stream is one stream of a session. Read, Write and CloseWrite work like those of a TCP connection; Write returns once
// its bytes are being written to the channel, so a slow peer blocks its caller. One goroutine reads, and one writes.
type stream struct {
	*mutex     // of the link
	session    *session
	changed    *sync.Cond
	counts     *counts // of the side that opened it
	id         uint32
	hasPlace   bool // counts as open
	isAnswered bool
	deadline   *time.Timer // for the answer
	retracted  *failure    // reset it when the answer comes
	isOver     bool        // for the protocol; received bytes may still be unread
	reason     *failure
	onEnd      func(*failure)

	// From this side to the peer. A Write waits until out is empty.
	out                          []byte
	credit, sent                 int64
	finWanted, finSent, isQueued bool
	stopped                      *failure // STOP came
	onStop                       func()

	// From the peer to this side.
	in, memory         []byte // memory is the buffer of in
	isKept             bool   // in can be read after a reset
	direct             *quick // of writeTo, while it waits
	finCame, creditDue bool
	refusing           *failure // STOP was sent
	window             window
}

func newStream(s *session, id uint32, of *counts) *stream {
	credit := s.own.limits[streamCreditLimit]
	st := &stream{mutex: s.link.mutex, session: s, changed: sync.NewCond(s.link), counts: of, id: id, hasPlace: true,
		credit: int64(s.peer.limits[streamCreditLimit]),
		window: window{first: credit, size: credit, granted: int64(credit)},
		onStop: func() {}, onEnd: func(*failure) {}}
	s.streams[id] = st
	of.open++
	of.unanswered++
	return st
}

// open opens a stream as soon as the peer's limits allow (R-STREAM-5). Data may be written at once.
func (s *session) open(service, from string) (*stream, *failure) {
	defer s.link.lock()()
	var st *stream
	var late *failure
	deadline := time.AfterFunc(openTime, func() {
		defer s.link.lock()()
		late = failf("open-timeout", "no answer within 30 s")
		s.room.Broadcast()
		if st != nil && !st.isAnswered {
			st.reset(late)
		}
	})
	for s.over == nil && s.draining == nil && late == nil && (s.controlCount >= congestedControls ||
		s.mine.open >= s.peer.limits[streamsLimit] || s.mine.unanswered >= s.peer.limits[opensLimit]) {
		s.room.Wait()
	}
	switch {
	case s.over != nil:
		return nil, failf("no-session", "the session is over")
	case late != nil:
		return nil, late
	case s.draining != nil:
		return nil, s.draining
	}
	st = newStream(s, uint32(s.nextID), &s.mine)
	st.deadline = deadline
	s.control(frameOpen, st.id, encode(fields{"service": service, "from": orNull(cut(from, 256))}))
	if s.nextID += 2; s.nextID > maxStreamID { // ids start again in the next session (R-STREAM-6)
		reason := failf("shutdown", "out of stream ids")
		s.sayGoodbye(reason)
		s.drain(reason)
	}
	return st, nil
}

func (st *stream) isIncoming() bool { return st.counts == &st.session.peers }

// ---- for its users ----

// logEnd logs how the stream to a target ended.
func (st *stream) logEnd(target string) {
	defer st.lock()()
	count := fmt.Sprintf("%d bytes sent, %d received", st.sent, st.window.received)
	if st.reason == nil {
		logLine(logDebug, "stream-closed", "stream %d to %s has ended: %s", st.id, target, count)
		return
	}
	logLine(logInfo, "stream-reset", "stream %d to %s was reset: %s (%s); %s", st.id, target, st.reason.message, st.reason.code, count)
}

// notify sets callbacks, called once with the lock held: when the peer stops reading, and at the end.
func (st *stream) notify(onStop func(), onEnd func(*failure)) {
	defer st.lock()()
	st.onStop, st.onEnd = onStop, onEnd
	if st.stopped != nil {
		onStop()
	}
	if st.isOver {
		onEnd(st.reason)
	}
}

// accept accepts a stream of the peer, and reports whether it is still open.
func (st *stream) accept() bool {
	defer st.lock()()
	if !st.isOver {
		st.setAnswered()
		st.session.control(frameAccept, st.id, nil)
		st.offer()
		st.sendFin()
	}
	return !st.isOver || st.reason == nil
}

// waitData waits for bytes. It returns io.EOF after the last one, or the reason of a reset.
func (st *stream) waitData() error {
	for len(st.in) == 0 && !st.finCame && !st.isOver && st.refusing == nil {
		st.changed.Wait()
	}
	switch {
	case st.isOver && st.reason != nil && (len(st.in) == 0 || !st.isKept):
		return st.reason
	case len(st.in) > 0:
		return nil
	case st.refusing != nil:
		return st.refusing
	}
	return io.EOF
}

// Read returns received bytes and counts them as delivered.
func (st *stream) Read(to []byte) (int, error) {
	defer st.lock()()
	if err := st.waitData(); err != nil {
		return 0, err
	}
	count := copy(to, st.in)
	if st.in = st.in[count:]; len(st.in) == 0 {
		used := st.memory
		memory.Put(&used)
		st.in = nil
	}
	st.release(count)
	return count, nil
}

func (st *stream) received() int64 {
	defer st.lock()()
	return st.window.received
}

// memory pools receive buffers: a new one for each burst would keep the collector busy.
var memory = sync.Pool{New: func() any { return new([]byte) }}

// room returns a receive buffer; memory.Put returns it to the pool.
func room(bytes int) []byte {
	for tries := 0; tries < 2 && bytes > 4096; tries++ {
		if used := *memory.Get().(*[]byte); cap(used) >= bytes {
			return used[:bytes]
		}
	}
	return make([]byte, bytes)
}

// isAwaited reports whether the peer neither ended its direction nor the stream.
func (st *stream) isAwaited() bool {
	defer st.lock()()
	return !st.isOver && !st.finCame
}

// isEmpty reports whether a Read would wait.
func (st *stream) isEmpty() bool {
	defer st.lock()()
	return len(st.in) == 0
}

// writeTo copies received bytes to a writer until the end. An idle stream holds no buffer.
func (st *stream) writeTo(to io.Writer) error {
	defer st.lock()()
	direct, _ := to.(*quick)
	for {
		st.direct = direct
		err := st.waitData()
		st.direct = nil
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		data, used := st.in, st.memory
		st.in = nil
		st.Unlock()
		_, err = to.Write(data)
		st.Lock()
		if err != nil {
			return err
		}
		st.release(len(data))
		memory.Put(&used)
	}
}

// deliver wakes the stream's user. The reader of the channel itself writes what a socket accepts without blocking, since woken
// goroutines would not run in the order in which the data of their streams arrived.
func (st *stream) deliver() {
	isLive := st.direct != nil && st.reason == nil && st.refusing == nil
	if isLive && len(st.in) > 0 {
		count := st.direct.writeNow(st.in)
		if st.in = st.in[count:]; len(st.in) == 0 {
			used := st.memory
			memory.Put(&used)
			st.in = nil
		}
		st.release(count)
	}
	if isLive && len(st.in) == 0 && st.finCame {
		st.direct.closeWrite()
	}
	if !isLive || len(st.in) > 0 || st.finCame {
		st.changed.Broadcast()
	}
}

// Write sends bytes. It fails if the stream has ended, or the peer no longer reads.
func (st *stream) Write(bytes []byte) (int, error) {
	defer st.lock()()
	st.out = bytes
	st.offer()
	for len(st.out) > 0 && !st.isOver && st.stopped == nil {
		st.changed.Wait()
	}
	left := len(st.out)
	st.out = nil
	switch {
	case st.stopped != nil:
		return 0, st.stopped
	case left == 0:
		return len(bytes), nil
	case st.reason != nil:
		return len(bytes) - left, st.reason
	}
	return len(bytes) - left, io.ErrClosedPipe
}

// waitRoom waits until the peer accepts this many bytes, and returns how many it accepts; 0 if it wants no more: it has ended its
// direction, no longer reads, or has gone.
func (st *stream) waitRoom(least int64) int {
	defer st.lock()()
	for st.credit-st.sent < least && !st.finCame && !st.isOver && st.stopped == nil {
		st.changed.Wait()
	}
	if st.finCame || st.isOver || st.stopped != nil {
		return 0
	}
	return int(st.credit - st.sent)
}

// CloseWrite half-closes the stream.
func (st *stream) CloseWrite() {
	defer st.lock()()
	st.finWanted = true
	st.sendFin()
}

// stop tells the peer that this side no longer reads.
func (st *stream) stop(reason *failure) {
	defer st.lock()()
	st.in = nil
	if !st.isOver && !st.finCame && st.refusing == nil {
		st.refusing = reason
		st.session.control(frameStop, st.id, encodeReason(reason))
		st.changed.Broadcast()
	}
}

// Reset ends both directions at once; it refuses a stream of the peer that has no answer yet.
func (st *stream) Reset(code, format string, args ...any) {
	defer st.lock()()
	st.reset(failf(code, format, args...))
}

// Close resets the stream unless it has ended, and discards unread bytes.
func (st *stream) Close() { st.Reset("cancelled", "the program at this end has gone") }

// isGone reports whether the peer cannot receive anything more.
func (st *stream) isGone() bool {
	defer st.lock()()
	return st.isOver || st.stopped != nil
}

// isLeaving reports whether the peer sends nothing more, or receives nothing more.
func (st *stream) isLeaving() bool {
	defer st.lock()()
	return st.finCame || st.isOver || st.stopped != nil
}

// unread returns the peer's STOP, if it came, whether the stream has ended, and how many bytes came.
func (st *stream) unread() (stopped *failure, isOver bool, received int64) {
	defer st.lock()()
	return st.stopped, st.isOver, st.window.received
}

// waitEnd waits until the stream has ended.
func (st *stream) waitEnd() {
	defer st.lock()()
	for !st.isOver {
		st.changed.Wait()
	}
}

// waitAnswer waits for the peer's answer to OPEN, and returns why it refused.
func (st *stream) waitAnswer() *failure {
	defer st.lock()()
	for !st.isAnswered {
		st.changed.Wait()
	}
	return st.reason
}

// drain discards bytes until the peer ends the stream.
func (st *stream) drain() {
	st.writeTo(io.Discard)
	st.waitEnd()
}

// ---- with the lock held ----

func (st *stream) reset(reason *failure) {
	switch {
	case st.isOver:
		st.in = nil // nobody reads it
	case !st.isIncoming() && !st.isAnswered && reason.code != "open-timeout":
		// Otherwise the peer might see a flood of streams opened and reset (R-FLOW-6).
		st.retracted = reason
	default:
		st.session.control(st.resetFrame(), st.id, encodeReason(reason))
		st.finish(reason)
	}
}

// resetFrame returns the type of frame that ends the stream at once.
func (st *stream) resetFrame() byte {
	if st.isIncoming() && !st.isAnswered {
		return frameRefuse
	}
	return frameReset
}

func (st *stream) setAnswered() {
	if st.isAnswered {
		return
	}
	st.isAnswered = true
	if st.deadline != nil {
		st.deadline.Stop()
	}
	st.counts.unanswered--
	st.changed.Broadcast()
	st.session.room.Broadcast()
}

// finish ends the stream, cleanly (nil) or with a reason.
func (st *stream) finish(reason *failure) {
	if st.isOver {
		return
	}
	st.isOver, st.reason = true, reason
	delete(st.session.streams, st.id)
	if reason != nil || !st.isIncoming() {
		st.leave()
	}
	st.setAnswered()
	st.onEnd(reason)
	st.changed.Broadcast()
	st.session.leaveIfDrained()
}

// leave releases the stream's slot and its share of the window budget. A stream of the peer that ended cleanly keeps
// them until all its bytes are delivered.
func (st *stream) leave() {
	if st.hasPlace {
		st.hasPlace = false
		st.counts.open--
		st.session.link.channel.budget += st.window.size - st.window.first
		st.session.room.Broadcast()
	}
}

// mayRaise reports whether the peer may still use credit (R-FLOW-3).
func (st *stream) mayRaise() bool { return !st.isOver && !st.finCame && st.refusing == nil }

// release counts bytes as delivered, and raises the credit.
func (st *stream) release(count int) {
	s := st.session
	if st.mayRaise() && st.window.release(count, time.Now(), &s.link.channel.budget) && !st.creditDue {
		st.creditDue = true
		s.credits = append(s.credits, st)
		s.link.wake.Broadcast()
	}
}

func (st *stream) handleData(h header, payload []byte) {
	if !st.mayCome(h) {
		return
	}
	if st.window.received += int64(len(payload)); st.window.received > st.window.granted {
		st.session.fail("flow-control", "%s exceeds its credit of %d bytes", h, st.window.granted)
		return
	}
	if st.refusing != nil {
		return
	}
	if need := len(st.in) + len(payload); need > cap(st.in) {
		larger := *memory.Get().(*[]byte)
		if cap(larger) < need || cap(larger) > st.window.size { // unread bytes take no more than the window
			// With what a writer holds, they take no more either.
			larger = make([]byte, 0, least(2*need, need+int(st.window.granted-st.window.received)))
		}
		st.in = append(larger[:0], st.in...)
		st.memory = larger
	}
	st.in = append(st.in, payload...)
	st.session.link.due = st
}

// mayCome reports whether the peer may send DATA or FIN now (R-STREAM-2, R-STREAM-7).
func (st *stream) mayCome(h header) bool {
	switch {
	case st.finCame:
		st.session.fail("protocol-error", "%s after FIN", h)
	case !st.isIncoming() && !st.isAnswered:
		st.session.fail("protocol-error", "%s before ACCEPT", h)
	}
	return st.session.over == nil
}

func (st *stream) handleAnswer(h header, refused *failure) {
	switch {
	case st.isIncoming() || st.isAnswered:
		st.session.fail("protocol-error", "%s by the opener, or twice", h)
	case refused != nil:
		st.finish(refused)
	case st.retracted != nil:
		st.setAnswered()
		st.reset(st.retracted)
	default:
		st.setAnswered()
		st.offer()
	}
}

func (st *stream) handleFin(h header) {
	if st.mayCome(h) {
		st.finCame = true
		st.session.link.due = st
		if st.finSent {
			st.finish(nil)
		}
	}
}

// handleStop answers STOP with FIN, or with RESET if the other direction has ended (R-STREAM-9).
func (st *stream) handleStop(reason *failure) {
	if st.finSent || st.stopped != nil {
		return
	}
	st.stopped, st.out, st.finWanted = reason, nil, true
	if st.finCame {
		st.reset(reason)
		return
	}
	st.onStop()
	st.changed.Broadcast()
	st.sendFin()
}

// mayGo reports whether this side may send DATA or FIN.
func (st *stream) mayGo() bool { return !st.isOver && (st.isAnswered || !st.isIncoming()) }

// sendFin sends a due FIN after all DATA.
func (st *stream) sendFin() {
	if st.finWanted && !st.finSent && len(st.out) == 0 && st.mayGo() {
		st.finSent = true
		st.session.control(frameFin, st.id, nil)
		if st.finCame {
			st.finish(nil)
		}
	}
}

// sendable returns how much of out may be sent now.
func (st *stream) sendable() int {
	credit := st.credit
	if !st.isAnswered {
		credit = least(credit, firstFlight)
	}
	if !st.mayGo() {
		return 0
	}
	return int(least(credit-st.sent, int64(len(st.out))))
}

// offer adds the stream to those that take turns sending.
func (st *stream) offer() {
	if !st.isQueued && st.sendable() > 0 {
		st.isQueued = true
		st.session.ready = append(st.session.ready, st)
		st.session.link.wake.Broadcast()
	}
}

const (
	// The protocol allows more, but within one machine a larger window only costs memory.
	maxWindow = 1 << 20
	// A window grows while its reader consumes half of it within this time.
	growthTime = 25 * time.Millisecond
)

// window is this side's credit for a stream (R-FLOW-3, R-FLOW-4).
type window struct {
	first, size                 int
	granted, received, released int64
	raisedAt                    time.Time
}

// release counts delivered bytes, and reports whether to raise the credit: after half of the window.
func (w *window) release(count int, now time.Time, budget *int) bool {
	w.released += int64(count)
	if w.granted-w.released > int64(w.size/2) {
		return false
	}
	if now.Sub(w.raisedAt) <= growthTime && *budget >= w.size && 2*w.size <= maxWindow {
		*budget -= w.size
		w.size *= 2
	}
	w.raisedAt = now
	w.granted = w.released + int64(w.size)
	return true
}
