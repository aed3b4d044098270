package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
)

// header is that of a frame (R-FRAME-1).
type header struct {
	kind, flags byte
	stream      uint32
	length      int
	crc         uint32
}

// frameNames are the types of frames (R-FRAME-5).
var frameNames = strings.Fields("00 HELLO AUTH SERVICES OPEN ACCEPT REFUSE DATA CREDIT FIN STOP RESET PING PONG " +
	"GOAWAY SECRET RESUME ACK")

// frameSizes are those of payloads of one size.
var frameSizes = map[byte]int{frameAccept: 0, frameCredit: 8, frameFin: 0, framePing: 8, framePong: 8}

// isExtension tells types that a later version may add, and this one skips.
func (h header) isExtension() bool { return h.kind >= 0x80 && h.kind <= 0xfe }

func (h header) String() string {
	name := fmt.Sprintf("%02X", h.kind)
	if int(h.kind) < len(frameNames) {
		name = frameNames[h.kind]
	}
	if h.stream == 0 {
		return name
	}
	return fmt.Sprintf("%s on stream %d", name, h.stream)
}

// judge checks what a header alone tells (R-FRAME-6); its check was right.
func (h header) judge(maxData int) *failure {
	max := maxControlBytes
	if h.kind == frameData || h.isExtension() {
		max = maxData
	}
	isOfStream := h.kind >= frameOpen && h.kind <= frameReset
	switch {
	case h.flags != 0:
		return failf("protocol-error", "%s has flags %d", h, h.flags)
	case !h.isExtension() && (h.kind == frameHello || int(h.kind) >= len(frameNames)):
		return failf("protocol-error", "%s is unknown", h)
	case h.length > max:
		return failf("protocol-error", "%s too long: %d bytes (max %d)", h, h.length, max)
	case h.isExtension() || h.kind == frameCredit: // a CREDIT has either
		return nil
	case h.kind == frameData && h.length == 0:
		return failf("protocol-error", "%s is empty", h)
	case isOfStream != (h.stream != 0):
		return failf("protocol-error", "%s has the wrong stream id %d", h, h.stream)
	}
	return nil
}

// headerCheck is the CRC-16 over a sequence number and a header without its own field (R-FRAME-2).
func headerCheck(header []byte, sequence uint32) uint16 {
	input := binary.BigEndian.AppendUint32(make([]byte, 0, 18), sequence)
	input = append(append(input, header[:2]...), header[4:headerBytes]...)
	check := uint16(0xffff)
	for _, each := range input {
		check ^= uint16(each) << 8
		for bit := 0; bit < 8; bit++ {
			carry := check >> 15
			check = check<<1 ^ carry*0x1021
		}
	}
	return check
}

// readHeader reads the 16 bytes of a header, and tells whether its check is right.
func readHeader(from []byte, sequence uint32) (header, bool) {
	return header{
		kind:   from[0],
		flags:  from[1],
		stream: binary.BigEndian.Uint32(from[4:]),
		length: int(binary.BigEndian.Uint32(from[8:])),
		crc:    binary.BigEndian.Uint32(from[12:]),
	}, binary.BigEndian.Uint16(from[2:]) == headerCheck(from, sequence)
}

func appendHeader(to []byte, kind byte, stream uint32, length int, crc, sequence uint32) []byte {
	header := [headerBytes]byte{kind}
	binary.BigEndian.PutUint32(header[4:], stream)
	binary.BigEndian.PutUint32(header[8:], uint32(length))
	binary.BigEndian.PutUint32(header[12:], crc)
	binary.BigEndian.PutUint16(header[2:], headerCheck(header[:], sequence))
	return append(to, header[:]...)
}

// appendFrame appends a frame with the CRC of its payload.
func appendFrame(to []byte, kind byte, stream uint32, payload []byte, sequence uint32) []byte {
	return append(appendHeader(to, kind, stream, len(payload), crc32.ChecksumIEEE(payload), sequence), payload...)
}

// nextSequence follows a sequence number: 1 comes after 2^32−1, because 0 is that of HELLOs (R-FRAME-3).
func nextSequence(sequence uint32) uint32 { return sequence%(1<<32-1) + 1 }

// dataCheck is how one direction of a session checks DATA (R-INTEGRITY-2): with a trailer, or with a CRC as other
// frames.
type dataCheck struct {
	tag          uint32
	trailerBytes int
}

func newDataCheck(isFull bool, sender, receiver string) dataCheck {
	if isFull {
		return dataCheck{}
	}
	return dataCheck{crc32.ChecksumIEEE([]byte(sender + receiver)), 4}
}

func (c dataCheck) appendData(to []byte, stream uint32, payload []byte, sequence uint32) []byte {
	if c.trailerBytes == 0 {
		return appendFrame(to, frameData, stream, payload, sequence)
	}
	to = append(appendHeader(to, frameData, stream, len(payload), 0, sequence), payload...)
	return binary.BigEndian.AppendUint32(to, c.tag^sequence)
}

// verify checks the body of a frame, its payload and its trailer, and returns the payload (R-INTEGRITY-3). Zeros that a
// flush put into a frame that was cut off tell a restart.
func (c dataCheck) verify(h header, body []byte, sequence uint32) ([]byte, *failure) {
	payload, what, isRight, isCut := body[:h.length], "payload checksum", false, false
	if len(body) > h.length {
		trailer := binary.BigEndian.Uint32(body[h.length:])
		what, isRight, isCut = "trailer", trailer == c.tag^sequence, trailer == 0
	} else {
		isRight = crc32.ChecksumIEEE(payload) == h.crc
		isCut = h.length > 0 && bytes.HasSuffix(payload, make([]byte, least(h.length, 16)))
	}
	switch {
	case isRight:
		return payload, nil
	case isCut:
		return nil, failf("peer-restarted", "%s was cut off: the peer restarted", h)
	}
	return nil, failf("desync", "%s: wrong %s", h, what)
}
