package main

import "encoding/binary"

const (
	// The most control frames that may wait, plus some for each stream (R-FLOW-6).
	maxControls       = 1024
	controlsPerStream = 4
	congestedControls = 512

	// Limits on a batch of DATA and on one frame in it, smaller on a slow line, so that a stream with little to send
	// does not wait long behind others (R-FLOW-8).
	batchBytes = 65536
	pieceBytes = 32768
	slowBytes  = 1024
)

// outbox is what a session has to send, in this order: an ACK, control frames, the newest list of services, PING and PONG,
// credits, then DATA, one frame per stream in turn (R-FLOW-7). Frames that replace earlier ones are not queued: only the newest is
// kept for a slow or suspended peer.
type outbox struct {
	checkOut    dataCheck
	sequenceOut uint32
	sentFrames  int64
	maxFrame    int
	// credit is the total of DATA that the peer accepts, sentData how much was sent.
	credit, sentData int64

	controls     []byte
	controlCount int
	mostStreams  int // since the outbox was empty
	ping, pong   []byte
	servicesDue  bool
	creditDue    bool
	credits      []*stream // their credit is due
	ready        []*stream // they have DATA
}

// control queues a control frame before all DATA. Too many end the session.
func (s *session) control(kind byte, stream uint32, payload []byte) {
	if s.controlCount == 0 || len(s.streams) > s.mostStreams {
		s.mostStreams = len(s.streams)
	}
	if s.over == nil && s.controlCount >= maxControls+controlsPerStream*s.mostStreams {
		s.fail("flood", "the peer makes this side send more than it reads")
	} else if s.over == nil {
		s.controlCount++
		s.appendControl(kind, stream, payload)
	}
}

func (s *session) appendControl(kind byte, stream uint32, payload []byte) {
	s.controls = appendFrame(s.controls, kind, stream, payload, 0)
	s.link.wake.Broadcast()
}

// takeControls appends the queued control frames. They get their numbers now, because others may overtake them.
func (s *session) takeControls(to []byte) []byte {
	for rest := s.controls; len(rest) > 0; rest = rest[headerBytes+binary.BigEndian.Uint32(rest[8:]):] {
		setNumber(rest[:headerBytes], s.nextOut())
	}
	to = append(to, s.controls...)
	s.controls, s.controlCount = nil, 0
	return to
}

// raise adds the payload of a CREDIT to a total.
func raise(total *int64, payload []byte) {
	if given := int64(least(binary.BigEndian.Uint64(payload), maxInteger)); given > *total {
		*total = given
	}
}

func (s *session) hasFrames() bool {
	return s.servicesDue || s.ping != nil || s.pong != nil || len(s.controls) > 0 || len(s.credits) > 0 || s.creditDue || s.ackDue || len(s.unwritten()) > 0 ||
		s.sentData < s.credit && len(s.ready) > 0 && !s.isFull(s.kept)
}

func (o *outbox) nextOut() uint32 {
	sequence := o.sequenceOut
	o.sequenceOut = nextSequence(sequence)
	o.sentFrames++
	return sequence
}

// fill appends what to write next.
func (s *session) fill(to []byte) []byte {
	tell := func(kind byte, id uint32, total int64) {
		to = appendFrame(to, kind, id, binary.BigEndian.AppendUint64(nil, uint64(total)), s.nextOut())
	}
	if s.ackDue {
		tell(frameAck, 0, s.received)
		s.noteTold()
	}
	if s.servicesDue {
		s.servicesDue = false
		s.sendServices()
	}
	to = s.takeControls(to)
	if s.ping != nil {
		to = appendFrame(to, framePing, 0, s.ping, s.nextOut())
	}
	if s.pong != nil {
		to = appendFrame(to, framePong, 0, s.pong, s.nextOut())
	}
	s.ping, s.pong = nil, nil
	if s.creditDue {
		tell(frameCredit, 0, s.inFlight)
		s.creditDue = false
	}
	for _, st := range s.credits {
		st.creditDue = false
		if st.mayRaise() {
			tell(frameCredit, st.id, st.window.granted)
		}
	}
	s.credits = nil
	batch, largest := batchBytes, least(s.maxFrame, pieceBytes)
	if s.maxFrame == limitRules[frameLimit].min {
		batch, largest = slowBytes, slowBytes
	}
	for end := len(to) + batch; s.sentData < s.credit && len(to) < end && len(s.ready) > 0 && !s.isFull(to); {
		st := s.ready[0]
		s.ready, st.isQueued = s.ready[1:], false
		size := int(least(int64(least(st.sendable(), largest)), s.credit-s.sentData))
		if size == 0 {
			continue
		}
		to = s.checkOut.appendData(to, st.id, st.out[:size], s.nextOut())
		st.out = st.out[size:]
		st.sent += int64(size)
		s.sentData += int64(size)
		st.offer()
		if len(st.out) == 0 {
			st.changed.Broadcast()
			st.sendFin()
			to = s.takeControls(to) // a FIN follows its DATA, and frees a place
		}
	}
	return to
}
