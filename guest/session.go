package main

import (
	"bufio"
	"crypto/hmac"
	"sync"
	"time"
)

const (
	drainTime   = 30 * time.Second
	maxStreamID = 1<<32 - 1
)

// session is one session, from the HELLOs that established it to its end.
type session struct {
	link      *link
	own, peer *hello
	began     time.Time
	over      *failure
	proof     proof
	isReady   bool // the peer has proved its key, if one is required
	draining  *failure

	checkIn    dataCheck
	sequenceIn uint32
	// inFlight is the credit for all DATA of the peer, and receivedData how much came (R-FLOW-5).
	inFlight, receivedData int64
	partial                []string // list of the peer's services

	streams     map[uint32]*stream
	room        *sync.Cond // for streams of this side
	nextID      uint64     // odd or even on each side
	lastPeerID  uint32
	mine, peers counts
	resets      *tokens // of streams opened and reset by the peer

	alarms
	outbox
	liveness
	continuity
}

// counts counts the streams of one side.
type counts struct{ open, unanswered int }

func newSession(l *link, own, peer *hello) *session {
	isFull, now := own.isFull || peer.isFull, time.Now()
	s := &session{link: l, own: own, peer: peer, began: now, streams: map[uint32]*stream{},
		alarms:     alarms{l.mutex, map[string]*time.Timer{}},
		continuity: continuity{nonces: []string{own.nonce, peer.nonce}, joined: now},
		checkIn:    newDataCheck(isFull, peer.nonce, own.nonce), sequenceIn: 1, inFlight: int64(own.limits[inFlightLimit]),
		nextID: 2, resets: newTokens(200, 1000, now), room: sync.NewCond(l), liveness: liveness{arrivedAt: now},
		outbox: outbox{checkOut: newDataCheck(isFull, own.nonce, peer.nonce), sequenceOut: 1,
			credit: int64(peer.limits[inFlightLimit]), maxFrame: least(own.limits[frameLimit], peer.limits[frameLimit])},
	}
	if own.nonce > peer.nonce {
		s.nextID = 1
	}
	return s
}

func (s *session) becomeReady() {
	s.isReady = true
	if s.resumes != nil {
		s.sendResume()
		return
	}
	s.silence("proof")
	if s.limit > 0 {
		s.part = random(secretBytes)
		s.control(frameSecret, 0, s.part)
	}
	s.sendServices()
	s.link.channel.established(s)
}

// sendServices sends the list of services, and of the ports among them (R-SERVICES-1, R-SERVICES-3).
func (s *session) sendServices() {
	// A list may need several frames (R-SERVICES-1): a name takes at most 64 characters, two quotes and a comma.
	const perFrame = (maxControlBytes - 96) / 67
	names := []string{}
	for name := range s.link.channel.services {
		names = append(names, name)
	}
	last := fields{"time": time.Now().UnixMilli()}
	if open := s.link.channel.ports; open != nil {
		ports := []fields{}
		for _, each := range open {
			port := fields{"port": each.number}
			if each.program != "" {
				port["program"] = each.program
			}
			ports = append(ports, port)
		}
		last["ports"] = ports
	}
	// Ports may fill a frame of their own.
	for ; len(names) > perFrame || len(names) > 0 && last["ports"] != nil; names = names[least(len(names), perFrame):] {
		s.appendControl(frameServices, 0, encode(fields{"services": names[:least(len(names), perFrame)], "more": true}))
	}
	last["services"] = names
	s.appendControl(frameServices, 0, encode(last))
}

// end ends the session, and tells the peer if it can still understand (R-CODE-3). One that lost bytes may wait instead.
func (s *session) end(reason *failure) {
	isLost := isWord(reason.code, "peer-restarted desync")
	if isLost && s.mayWait() {
		s.suspend(reason)
		return
	}
	s.leave(reason, !isLost && s.isLinked() && s.resumes == nil)
}

func (s *session) fail(code, format string, args ...any) { s.end(failf(code, format, args...)) }

// isBroken ends the session with a failure, unless that is nil, and reports whether it did.
func (s *session) isBroken(failed *failure) bool {
	if failed != nil {
		s.end(failed)
	}
	return failed != nil
}

func (s *session) leave(reason *failure, isTold bool) {
	if s.over != nil {
		return
	}
	l, isHere := s.link, s.link.session == s
	s.over = reason
	s.silence()
	if isHere {
		l.session = nil
	}
	for _, probe := range s.probes() {
		probe.leave(failf(reason.code, "the session to resume has ended: %s", reason.message), false)
	}
	for _, stream := range s.streams {
		if isTold && reason.code == "shutdown" {
			s.appendControl(stream.resetFrame(), stream.id, encodeReason(reason))
		}
		stream.finish(reason)
	}
	if isTold {
		s.sayGoodbye(reason)
	}
	if isTold || reason == s.draining {
		// A drained session has no more to send, except queued FINs.
		l.put(s.takeControls(s.unwritten()))
	}
	s.kept = nil
	s.room.Broadcast()
	if s.resumes == nil || l.closed == nil { // the link of a resumption may be lost
		l.channel.ended(s, reason)
	}
	if isHere {
		l.reopen(s.began, reason.code)
	}
}

func (s *session) sayGoodbye(reason *failure) {
	s.appendControl(frameGoaway, 0, encode(fields{"code": reason.code, "message": cut(reason.message, maxMessageBytes),
		"last": s.lastPeerID}))
}

// drain accepts no new streams, and ends the session after the last one (R-LIVE-3).
func (s *session) drain(reason *failure) {
	if s.draining == nil {
		s.draining = reason
		s.alarm("leave", drainTime, func() { s.end(reason) })
		s.room.Broadcast()
		s.leaveIfDrained()
	}
}

func (s *session) leaveIfDrained() {
	if s.draining != nil && len(s.streams) == 0 && s.isLinked() {
		s.leave(s.draining, false)
	}
}

// ---- frames of the peer ----

// read reads and handles a frame. It returns how many bytes to discard: none if they end the session, since a HELLO may
// be among them.
func (s *session) read(l *link, from *bufio.Reader) (int, error) {
	start, err := from.Peek(1)
	if err == nil && start[0] != 0 {
		start, err = from.Peek(headerBytes)
	}
	if err != nil {
		return 0, err
	}
	l.Lock()
	h, isRight, sequence := header{}, false, s.sequenceIn
	l.Unlock()
	if len(start) == headerBytes {
		h, isRight = readHeader(start, sequence)
	}
	failed := h.judge(s.own.limits[frameLimit])
	switch {
	case start[0] == 0:
		failed = failf("peer-restarted", "the peer restarted: it sent a flush")
	case start[0] == magic[0]:
		return s.readMagic(l, from, string(start))
	case !isRight:
		failed = failf("desync", "frame %d: header check failed", sequence)
	}
	end := headerBytes + int(h.length)
	if h.kind == frameData {
		end += s.checkIn.trailerBytes
	}
	frame := start
	for have := headerBytes; failed == nil && have < end; {
		if _, err = from.Peek(have + 1); err != nil {
			return 0, err
		}
		seen := have
		have = from.Buffered()
		if frame, _ = from.Peek(have); have < end && s.isLost(frame, seen) {
			failed = failf("desync", "bytes lost within %s", h)
		}
	}
	var payload []byte
	if failed == nil && !h.isExtension() {
		payload, failed = s.checkIn.verify(h, frame[headerBytes:end], sequence)
	}
	defer l.lock()()
	if l.session != s || s.isBroken(failed) { // it may have left the link
		return 0, nil
	}
	s.sequenceIn, s.doubt, s.received = nextSequence(sequence), nil, s.received+int64(end)
	s.isMidFrame, s.frameSpent = from.Buffered() > end, 0
	if !h.isExtension() {
		s.handle(h, payload)
	}
	s.owe()
	return end, nil
}

// readMagic reads a magic where a frame should begin (R-OPEN-14).
func (s *session) readMagic(l *link, from *bufio.Reader, start string) (length int, err error) {
	var found *hello
	failed := failf("desync", "FF without a valid HELLO where a frame should begin")
	if start == magic {
		if found, length, err = readHello(from); err != nil {
			return 0, err
		}
	}
	defer l.lock()()
	if found != nil {
		failed = failf("peer-restarted", "the peer restarted: it sent another HELLO")
		if isAmong(found.nonce, s.nonces) || found.instance == s.own.instance {
			failed = nil
		}
	}
	if l.session != s || s.isBroken(failed) {
		return 0, nil
	}
	s.isMidFrame, s.frameSpent = from.Buffered() > length, 0
	return length, nil
}

func (s *session) handle(h header, payload []byte) {
	if !s.isReady && h.kind != frameGoaway {
		switch {
		case h.kind != frameAuth:
			s.fail("protocol-error", "%s before AUTH", h)
		case !hmac.Equal(payload, s.proof.expected):
			s.fail("auth-failed", "the peer does not have the key %s", s.proof.keyID)
		default:
			s.becomeReady()
		}
		return
	}
	if size, isFixed := frameSizes[h.kind]; isFixed && len(payload) != size {
		s.fail("protocol-error", "%s of %d bytes instead of %d", frameNames[h.kind], len(payload), size)
		return
	}
	if s.resumes != nil && h.kind != frameGoaway {
		s.handleResume(h, payload)
		return
	}
	if due := s.link.due; due != nil && h.stream != 0 && h.stream != due.id { // in the order of arrival
		s.link.deliver()
	}
	switch h.kind {
	case frameData:
		s.handleData(h, payload)
	case frameServices:
		s.handleServices(payload)
	case frameOpen:
		s.handleOpen(h.stream, payload)
	case framePing:
		s.pong = append([]byte(nil), payload...)
		s.link.wake.Broadcast()
	case framePong:
	case frameGoaway:
		s.handleGoaway(payload)
	case frameAuth, frameSecret, frameResume, frameAck:
		s.handleContinuity(h, payload)
	default:
		s.handleStream(h, payload)
	}
}

func (s *session) handleData(h header, payload []byte) {
	s.receivedData += int64(len(payload))
	window := int64(s.own.limits[inFlightLimit])
	if s.receivedData > s.inFlight {
		s.fail("flow-control", "%d bytes of DATA exceed the session's credit of %d", s.receivedData, s.inFlight)
		return
	}
	if s.inFlight-s.receivedData <= window*3/4 {
		s.inFlight, s.creditDue = s.receivedData+window, true
		s.link.wake.Broadcast()
	}
	if stream := s.find(h); stream != nil {
		stream.handleData(h, payload)
	}
}

func (s *session) handleServices(payload []byte) {
	o := parseObject(payload, "SERVICES")
	s.partial = append(s.partial, o.texts("services", serviceNames.MatchString)...)
	hasMore := optional[bool](o, "more")
	if o.has("time") {
		o.integer("time", 0, maxInteger)
	}
	ports := optional[[]any](o, "ports")
	o.require(len(ports) <= maxPorts, "ports", "has more than 64 ports")
	for _, each := range ports {
		port, _ := each.(map[string]any)
		p := object{"SERVICES", "protocol-error", port, o.failed}
		p.integer("port", 1, highestPort)
		optional[string](p, "program")
	}
	switch {
	case s.isBroken(*o.failed):
	case len(s.partial) > maxServices:
		s.fail("flood", "the peer offers too many services (max %d)", maxServices)
	case !hasMore:
		s.link.channel.offered, s.partial = s.partial, nil
	}
}

func (s *session) handleGoaway(payload []byte) {
	o := parseObject(payload, "GOAWAY")
	reason, last := o.reason(), o.integer("last", 0, maxStreamID)
	if s.isBroken(*o.failed) {
		return
	}
	if reason.code != "shutdown" || s.resumes != nil {
		s.leave(reason, false)
		return
	}
	// Drain first: another stream must not take the place of one that ends below.
	s.drain(reason)
	for id, stream := range s.streams {
		if s.isOwn(id) && id > uint32(last) {
			stream.finish(reason)
		}
	}
}

func (s *session) isOwn(id uint32) bool { return uint64(id)%2 == s.nextID%2 }

// find returns the live stream of a frame, or nil if it has ended or never existed (R-STREAM-11).
func (s *session) find(h header) *stream {
	wasOpened := h.stream <= s.lastPeerID
	if s.isOwn(h.stream) {
		wasOpened = uint64(h.stream) < s.nextID
	}
	if !wasOpened {
		s.fail("protocol-error", "%s, which was never opened", h)
	}
	return s.streams[h.stream]
}

// handleOpen accepts or refuses a stream of the peer (R-STREAM-1, R-STREAM-3, R-STREAM-5).
func (s *session) handleOpen(id uint32, payload []byte) {
	o := parseObject(payload, "OPEN")
	service, _ := o.text("service"), optional[string](o, "from")
	o.require(!optional[bool](o, "datagram"), "datagram", "in a session without datagrams")
	c, streams, opens := s.link.channel, s.own.limits[streamsLimit], s.own.limits[opensLimit]
	serve := c.services[service]
	var refused *failure
	switch {
	case s.isBroken(*o.failed):
		return
	case s.isOwn(id) || id <= s.lastPeerID:
		s.fail("protocol-error", "OPEN with id %d: not of its opener, or not above %d", id, s.lastPeerID)
		return
	case s.peers.open >= streams || s.peers.unanswered >= opens || c.serving >= 2*streams:
		refused = failf("too-many-streams", "too many streams (max %d open, %d unanswered)", streams, opens)
	case s.draining != nil:
		refused = failf("shutdown", "the session is shutting down")
	case serve == nil:
		refused = failf("unknown-service", "service %s is not offered", escape(service, 64))
	}
	s.lastPeerID = id
	if refused != nil {
		s.control(frameRefuse, id, encodeReason(refused))
		return
	}
	stream := newStream(s, id, &s.peers)
	c.serving++
	c.starts.begin(func() {
		serve(stream)
		defer c.lock()()
		stream.reset(failf("cancelled", "the program at this end has gone"))
		stream.leave()
		c.serving--
	})
}

// handleStream handles all other frames of streams.
func (s *session) handleStream(h header, payload []byte) {
	if h.kind == frameCredit && h.stream == 0 {
		raise(&s.credit, payload)
		s.link.wake.Broadcast()
		return
	}
	var reason *failure
	if _, isFixed := frameSizes[h.kind]; !isFixed {
		o := parseObject(payload, h.String())
		reason = o.reason()
		if s.isBroken(*o.failed) {
			return
		}
	}
	st := s.find(h)
	switch {
	case st == nil || s.over != nil:
	case h.kind == frameCredit:
		raise(&st.credit, payload)
		st.offer()
		if len(st.out) == 0 {
			st.changed.Broadcast() // for waitRoom
		}
	case h.kind == frameAccept || h.kind == frameRefuse:
		st.handleAnswer(h, reason)
	case h.kind == frameFin:
		st.handleFin(h)
	case h.kind == frameStop:
		st.handleStop(reason)
	case st.isIncoming() && !st.isAnswered && !s.resets.take(time.Now()):
		s.fail("flood", "more than 200 streams per second opened and reset")
	default: // RESET
		st.finish(reason)
	}
}
