package main

import (
	"bytes"
	"time"
)

const (
	lookEvery  = 2500 * time.Millisecond
	pingAfter  = 4 // looks
	wakeAfter  = 2 // looks; the peer's port may have lost a wake-up, and wait for a byte
	doubtAfter = 1500 * time.Millisecond
	maxFrame   = 30 * time.Second
	maxGap     = 15 * time.Second
)

// liveness watches a session for silence and for lost bytes (R-LIVE-1, R-LIVE-4, R-FLOW-9).
type liveness struct {
	arrivedAt  time.Time
	isMidFrame bool
	frameSpent time.Duration // in gaps within the frame
	looks      int           // since the last PING
	answered   int64         // frames that had been sent when bytes last came
	doubt      []byte        // of the PING sent because the current frame is incomplete
	isAsked    bool          // since bytes last came
}

// noteArrival records that bytes came: all that was sent before counts as answered. A frame must not take too long.
func (s *session) noteArrival() {
	gap := time.Since(s.arrivedAt)
	if s.isMidFrame && gap < maxGap {
		s.frameSpent += gap
	}
	s.arrivedAt, s.isMidFrame = s.arrivedAt.Add(gap), true
	s.isAsked, s.answered = false, s.sentFrames
	if s.frameSpent > maxFrame {
		s.fail("desync", "frame %d has been incomplete for 30 s", s.sequenceIn)
	}
}

// look is the periodic liveness check. It sends a PING if bytes may be lost, or the last one is long ago.
func (s *session) look() {
	isInDoubt := !s.isAsked && (s.isMidFrame || s.sentFrames > s.answered && time.Since(s.arrivedAt) >= doubtAfter)
	s.looks++
	isDue := s.looks >= pingAfter || s.looks >= wakeAfter && time.Since(s.arrivedAt) >= lookEvery
	if s.isReady && s.resumes == nil && (isInDoubt || isDue && !s.link.isBusy()) {
		nonce := random(8) // nobody can know it before
		s.looks = 0
		if isInDoubt {
			s.isAsked = true
			if s.isMidFrame {
				s.doubt = nonce
			}
		}
		s.ping = nonce
		s.link.wake.Broadcast()
	}
	s.alarm("look", lookEvery, s.look)
}

// isLost reports whether an incomplete frame contains the bytes of a PONG, which the peer sends only after it. They may
// come in parts: the first seen bytes were looked at before.
func (s *session) isLost(frame []byte, seen int) bool {
	defer s.lock()()
	if seen -= len(s.doubt); seen < headerBytes {
		seen = headerBytes
	}
	return s.doubt != nil && bytes.Contains(frame[seen:], s.doubt)
}
