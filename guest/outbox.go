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

// outbox is what a session has to send. Its order: control frames, the newest PONG, credits, and then DATA, one frame
// per stream in turn (R-FLOW-7).
type outbox struct {
	checkOut    dataCheck
	sequenceOut uint32
	sentFrames  int64
	maxFrame    int
	// credit is the total of DATA that the peer accepts, sentData what was sent of it.
	credit, sentData int64

	controls     []byte
	controlCount int
	mostStreams  int // since nothing waited
	pong         []byte
	creditDue    bool
	credits      []*stream // their credit is due
	ready        []*stream // they have DATA
}

// control sends a control frame before all DATA. Too many that wait end the session.
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
	s.controls = appendFrame(s.controls, kind, stream, payload, s.nextOut())
	s.link.wake.Broadcast()
}

// raise raises a total of credit by the payload of a CREDIT.
func raise(total *int64, payload []byte) {
	if given := int64(least(binary.BigEndian.Uint64(payload), maxInteger)); given > *total {
		*total = given
	}
}

func (o *outbox) hasFrames() bool {
	return o.pong != nil || len(o.controls) > 0 || len(o.credits) > 0 || o.creditDue ||
		o.sentData < o.credit && len(o.ready) > 0
}

func (o *outbox) nextOut() uint32 {
	sequence := o.sequenceOut
	o.sequenceOut = nextSequence(sequence)
	o.sentFrames++
	return sequence
}

// fill appends what is to be written next.
func (s *session) fill(to []byte) []byte {
	credit := func(id uint32, total int64) {
		to = appendFrame(to, frameCredit, id, binary.BigEndian.AppendUint64(nil, uint64(total)), s.nextOut())
	}
	takeControls := func() {
		to = append(to, s.controls...)
		s.controls, s.controlCount = nil, 0
	}
	takeControls()
	if s.pong != nil {
		to = appendFrame(to, framePong, 0, s.pong, s.nextOut())
		s.pong = nil
	}
	if s.creditDue {
		credit(0, s.inFlight)
		s.creditDue = false
	}
	for _, st := range s.credits {
		if st.creditDue = false; st.mayRaise() {
			credit(st.id, st.window.granted)
		}
	}
	s.credits = nil
	batch, largest := batchBytes, least(s.maxFrame, pieceBytes)
	if s.maxFrame == limitRules[frameLimit].min {
		batch, largest = slowBytes, slowBytes
	}
	for s.sentData < s.credit && len(to) < batch && len(s.ready) > 0 {
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
		if st.offer(); len(st.out) == 0 {
			st.changed.Broadcast()
			st.sendFin()
			takeControls() // frames go in the order of their numbers
		}
	}
	return to
}
