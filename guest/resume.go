package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

const (
	resumeFeature = "resume"
	secretBytes   = 32
	ackEvery      = 131072                 // bytes
	ackDelay      = 200 * time.Millisecond // for fewer bytes, after the first
	// maxBeyond is how far a session may exceed its limit before a peer that acknowledges nothing counts as a flood.
	maxBeyond = 4 << 20
)

// continuity lets a session continue on another link (R-RESUME-1 to R-RESUME-6). Totals are in bytes of its frames
// since it began.
type continuity struct {
	limit     int    // of kept bytes before DATA waits; 0: the session ends with its link
	part, key []byte // part is this side's, until the peer's makes the key
	id        string // in HELLOs
	resumes   *session
	// kept holds what the peer has not acknowledged, after gone bytes that it has.
	kept                    []byte
	gone                    int
	acked, written, reached int64    // by the peer; on this link; and on any
	received, settled       int64    // by this side; and what of it the peer knows, or need not know
	ackDue                  bool     // an ACK is due
	nonces                  []string // of the HELLOs on its link
	joined, suspended       time.Time
}

// features returns the features of this side's HELLO, which names the session of the channel (R-RESUME-1).
func (c *channel) features(keyIDs []string) []string {
	if c.spec.resume == 0 {
		return []string{}
	}
	s := c.session
	if s != nil && s.key != nil && (isAmong(s.proof.keyID, keyIDs) || s.proof.keyID == "" && len(keyIDs) == 0) {
		return []string{resumeFeature, s.id}
	}
	return []string{resumeFeature}
}

// endSuspended ends the session if it waits for a link.
func (c *channel) endSuspended(reason *failure) {
	defer c.lock()()
	if s := c.session; s != nil && !s.isLinked() {
		s.end(reason)
	}
}

// unwritten returns what is kept and not yet written on this link.
func (s *session) unwritten() []byte { return s.kept[s.gone+int(s.written-s.acked):] }

// isFull reports whether too much is kept to send more DATA.
func (s *session) isFull(kept []byte) bool { return s.limit > 0 && len(kept)-s.gone >= s.limit }

// collect appends what to write next, and keeps it until the peer has it.
func (s *session) collect(to []byte) []byte {
	if s.limit == 0 {
		return s.fill(to)
	}
	if len(s.unwritten()) == 0 {
		s.kept = s.fill(s.kept)
	}
	next := s.unwritten()
	next = next[:least(len(next), batchBytes)]
	if s.written += int64(len(next)); s.written > s.reached {
		s.reached = s.written
	}
	return append(to, next...)
}

// drop releases what the peer has. Once that is more than half, it moves the rest.
func (s *session) drop(total, most int64) {
	if total < s.acked || total > most {
		s.fail("protocol-error", "the peer acknowledges %d bytes, but can have %d to %d", total, s.acked, most)
		return
	}
	s.gone += int(total - s.acked)
	s.acked = total
	if rest := s.kept[s.gone:]; len(rest) <= s.gone {
		s.kept, s.gone = append(s.kept[:0], rest...), 0
	}
	if len(s.kept) == 0 && cap(s.kept) > batchBytes {
		s.kept = nil
	}
	s.link.wake.Broadcast()
}

// owe schedules an ACK of what came.
func (s *session) owe() {
	owed := s.received - s.settled
	switch {
	case s.limit == 0 || s.over != nil || owed <= 0 || s.ackDue:
	case owed >= ackEvery:
		s.acknowledge()
	case s.timers["ack"] == nil:
		s.alarm("ack", ackDelay, s.acknowledge)
	}
	if kept := len(s.kept) - s.gone; s.limit > 0 && kept > s.limit+maxBeyond {
		s.fail("flood", "the peer has not acknowledged %d bytes", kept)
	}
}

func (s *session) acknowledge() {
	s.ackDue = true
	s.link.wake.Broadcast()
}

// noteTold records that the peer learns how much came.
func (s *session) noteTold() {
	s.silence("ack")
	s.settled, s.ackDue = s.received, false
}

// handleContinuity handles the frames of resumable sessions.
func (s *session) handleContinuity(h header, payload []byte) {
	switch {
	case h.kind == frameAck && s.limit > 0:
		total := s.acked // a repeated one may be older
		raise(&total, payload)
		s.settled += headerBytes + 8 // or two idle sides would answer each other for ever
		s.drop(total, s.written)
	case h.kind == frameSecret && s.part != nil:
		odd, even := s.part, payload
		if s.nextID%2 == 0 {
			odd, even = even, odd
		}
		key := sha256.Sum256(append(append([]byte(nil), odd...), even...))
		s.part, s.key = nil, key[:]
		s.id = resumeFeature + ":" + hex.EncodeToString(authenticate(s.key, []byte("vproxy-resume-id"))[:8])
	default:
		s.fail("protocol-error", "unexpected %s", h)
	}
}

func (s *session) isLinked() bool { return s.suspended.IsZero() }

// mayWait reports whether the session may wait for another link.
func (s *session) mayWait() bool {
	c := s.link.channel
	return s.key != nil && s.over == nil && s.isLinked() && c.session == s && !c.isStopping && !s.link.isLast
}

// suspend takes the session off its link. With a reason, the link lost bytes, and stays open.
func (s *session) suspend(reason *failure) {
	l, why, unit := s.link, "lost", either(len(s.streams) == 1, "stream", "streams")
	if reason != nil {
		why = "out of step: " + reason.message + " (" + reason.code + ")"
	}
	logLine(logInfo, "session-suspended", "session on %s %s; waiting to resume (%d %s)", l.channel.spec.text, why, len(s.streams), unit)
	l.session, s.suspended = nil, time.Now()
	s.silence("look")
	s.noteTold() // by RESUME
	wait := l.channel.spec.resume
	s.alarm("expire", wait, func() { s.fail("resume-expired", "no new link within %g s", wait.Seconds()) })
	for _, probe := range s.probes() {
		probe.sendResume()
	}
	if reason != nil {
		l.reopen(s.joined, reason.code)
	}
}

// probes are the links whose HELLOs name the session.
func (s *session) probes() (list []*session) {
	for l := range s.link.channel.links {
		if l.session != nil && l.session.resumes == s {
			list = append(list, l.session)
		}
	}
	return list
}

// sendResume sends RESUME once the peer's key is proved, and the session has no other link (R-RESUME-4).
func (s *session) sendResume() {
	if known := s.resumes; s.isReady && !known.isLinked() {
		total := binary.BigEndian.AppendUint64(nil, uint64(known.received))
		s.control(frameResume, 0, append(total, known.prove(s.own, s.peer, total)...))
	}
}

func (s *session) prove(sender, receiver *hello, total []byte) []byte {
	return authenticate(s.key, []byte("vproxy-resume-v1"), sender.payload, receiver.payload, total)
}

// handleResume handles a frame on a link whose HELLOs name a session, which continues here once the peer proves it has it.
func (s *session) handleResume(h header, payload []byte) {
	l, known, total := s.link, s.resumes, int64(0)
	if h.kind != frameResume {
		s.fail("protocol-error", "%s while a session is resumed", h)
		return
	}
	if !hmac.Equal(payload[8:], known.prove(s.peer, s.own, payload[:8])) {
		s.fail("auth-failed", "the peer does not have the session that it named")
		return
	}
	moved := failf("channel-displaced", "the session moved to another link")
	if known.isLinked() {
		old := known.link
		known.suspend(nil) // this sends RESUME
		old.close(moved)
	}
	s.silence()
	l.put(s.fill(nil))
	l.session, known.link = known, l
	for _, other := range known.probes() {
		other.link.close(moved)
	}
	raise(&total, payload)
	known.drop(total, known.reached)
	if known.over != nil {
		return
	}
	logLine(logInfo, "session-resumed", "session on %s resumed after %d ms; %d bytes resent", l.channel.spec.text,
		time.Since(known.suspended).Milliseconds(), known.reached-total)
	known.silence("expire")
	known.written, known.nonces, known.suspended, known.joined = total, s.nonces, time.Time{}, time.Now()
	known.liveness = liveness{arrivedAt: known.joined, isMidFrame: s.isMidFrame, answered: known.sentFrames}
	known.alarm("look", lookEvery, known.look)
	l.channel.announce()
	known.leaveIfDrained()
}
