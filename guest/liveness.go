package main

import (
	"bytes"
	"time"
)

const (
	lookEvery  = 2500 * time.Millisecond
	pingAfter  = 10 * time.Second
	doubtAfter = 1500 * time.Millisecond
	maxFrame   = 30 * time.Second
	maxGap     = 15 * time.Second
)

// liveness watches a session for silence and for lost bytes (R-LIVE-1, R-LIVE-4, R-FLOW-9).
type liveness struct {
	arrivedAt  time.Time
	isMidFrame bool
	frameSpent time.Duration // in gaps within the frame spentOn
	spentOn    uint32

	lookedAt time.Time
	// Since when nothing came, nothing was sent, and no PING was, in time that this process ran.
	silent, quiet, unasked time.Duration
	hasArrived, isAsked    bool
	sentBefore             int64  // frames, when this was looked at
	answered               int64  // frames that had been sent when bytes last came
	doubt                  []byte // of a PING that was sent because bytes may be lost
}

// noteArrival follows bytes that came: all that was sent before counts as answered, and a frame must not take too long.
func (s *session) noteArrival() {
	now := time.Now()
	if gap := now.Sub(s.arrivedAt); !s.isMidFrame || s.spentOn != s.sequenceIn {
		s.frameSpent = 0
	} else if gap < maxGap {
		s.frameSpent += gap
	}
	s.arrivedAt, s.hasArrived, s.isMidFrame, s.spentOn = now, true, true, s.sequenceIn
	s.answered = s.sentFrames
	if s.frameSpent > maxFrame {
		s.end(failf("desync", "frame %d has been incomplete for 30 s", s.sequenceIn))
	}
}

// look looks after the session now and then.
func (s *session) look() {
	now := time.Now()
	elapsed := now.Sub(s.lookedAt)
	if elapsed > 2*lookEvery {
		// This process or its VM stood still, which tells nothing about the peer.
		elapsed = 2 * lookEvery
	}
	s.lookedAt = now
	s.silent, s.quiet, s.unasked = s.silent+elapsed, s.quiet+elapsed, s.unasked+elapsed
	if s.hasArrived {
		s.silent, s.hasArrived, s.isAsked = 0, false, false
	}
	if s.sentFrames != s.sentBefore {
		s.quiet, s.sentBefore = 0, s.sentFrames
	}
	isInDoubt := s.isMidFrame || s.sentFrames > s.answered && now.Sub(s.arrivedAt) >= doubtAfter
	isDue := (s.silent >= pingAfter || s.quiet >= pingAfter) && s.unasked >= pingAfter && !s.link.isBusy()
	switch {
	case !s.isReady:
	case isInDoubt && !s.isAsked:
		s.isAsked, s.doubt = true, random(8)
		s.ping(s.doubt)
	case isDue:
		s.ping(random(8))
	}
	s.link.alarm("look", lookEvery, s.look)
}

// ping sends a PING whose bytes nobody can know before.
func (s *session) ping(nonce []byte) {
	s.unasked = 0
	s.control(framePing, 0, nonce)
}

// isLost tells whether bytes are lost: the body of an incomplete frame has those of a PING, which the peer sends only
// after it.
func (s *session) isLost(body []byte) bool {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.doubt != nil && bytes.Contains(body, s.doubt)
}
