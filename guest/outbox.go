package main

import "encoding/binary"

const (
	// The most control frames that wait, and those of each stream in addition (R-FLOW-6).
	maxControls       = 1024
	controlsPerStream = 4
	congestedControls = 512

	// DATA is collected up to so many bytes, in frames that are not too large, and least on a slow line: so that a
	// stream with little to say does not wait for long behind others (R-FLOW-8).
	batchBytes = 65536
	pieceBytes = 32768
	slowBytes  = 1024
)

// outbox is what a session has to send. Its order: the newest PONG, control frames, credits, and then DATA, one frame
// per stream in turn (R-FLOW-7).
type outbox struct {
	checkOut    dataCheck
	sequenceOut uint32
	sentFrames  int64
	maxFrame    int
	// credit is the total of DATA that the peer accepts, sentData what was sent of it.
	credit, sentData int64

	pong        []byte
	controls    []control
	mostStreams int // since nothing waited
	creditDue   bool
	credits     []*stream // their credit is due
	ready       []*stream // they have DATA
}

type control struct {
	kind    byte
	stream  uint32
	payload []byte
}

// control sends a control frame before all DATA. Too many that wait end the session.
func (s *session) control(kind byte, stream uint32, payload []byte) {
	if s.over != nil {
		return
	}
	if len(s.controls) == 0 || len(s.streams) > s.mostStreams {
		s.mostStreams = len(s.streams)
	}
	if len(s.controls) >= maxControls+controlsPerStream*s.mostStreams {
		// Behind what waits the peer would not see a GOAWAY either.
		s.controls = nil
		s.end(failf("flood", "the peer makes this side send more than it reads"))
		return
	}
	s.enqueueControl(kind, stream, payload)
}

func (s *session) enqueueControl(kind byte, stream uint32, payload []byte) {
	s.controls = append(s.controls, control{kind, stream, payload})
	s.link.wake.Broadcast()
}

// raise raises a total of credit by the payload of a CREDIT.
func raise(total *int64, payload []byte) {
	given := binary.BigEndian.Uint64(payload)
	if given > maxInteger {
		given = maxInteger
	}
	if int64(given) > *total {
		*total = int64(given)
	}
}

// hasFrames tells whether something can be sent.
func (o *outbox) hasFrames() bool {
	return o.pong != nil || len(o.controls) > 0 || len(o.credits) > 0 || o.creditDue ||
		o.sentData < o.credit && len(o.ready) > 0
}

// nextOut is the sequence number of the next frame.
func (o *outbox) nextOut() uint32 {
	sequence := o.sequenceOut
	o.sequenceOut = nextSequence(sequence)
	o.sentFrames++
	return sequence
}

func (o *outbox) appendControls(to []byte) []byte {
	for _, each := range o.controls {
		to = appendFrame(to, each.kind, each.stream, each.payload, o.nextOut())
	}
	o.controls = nil
	return to
}

// fill appends what is to be written next.
func (s *session) fill(to []byte) []byte {
	total := func(credit int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(credit)) }
	if s.pong != nil {
		to = appendFrame(to, framePong, 0, s.pong, s.nextOut())
		s.pong = nil
	}
	to = s.appendControls(to)
	if s.creditDue {
		to = appendFrame(to, frameCredit, 0, total(s.inFlight), s.nextOut())
		s.creditDue = false
	}
	for _, st := range s.credits {
		st.creditDue = false
		if st.mayRaise() {
			to = appendFrame(to, frameCredit, st.id, total(st.window.granted), s.nextOut())
		}
	}
	s.credits = nil
	batch, largest := batchBytes, least(s.maxFrame, pieceBytes)
	if s.maxFrame == limitRules[frameLimit].min {
		batch, largest = slowBytes, slowBytes
	}
	for s.sentData < s.credit && len(to) < batch && len(s.ready) > 0 {
		st := s.ready[0]
		s.ready = s.ready[1:]
		st.isQueued = false
		size := least(st.sendable(), largest)
		if left := s.credit - s.sentData; left < int64(size) {
			size = int(left)
		}
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
		}
	}
	return to
}
