package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"
)

// header is the header of a frame (R-FRAME-1).
type header struct {
	kind, flags byte
	stream      uint32
	length      uint32
	crc         uint32
}

// frameNames are the types of frames (R-FRAME-5).
var frameNames = strings.Fields("00 HELLO AUTH SERVICES OPEN ACCEPT REFUSE DATA CREDIT FIN STOP RESET PING PONG " +
	"GOAWAY SECRET RESUME ACK")

// frameSizes are the payload sizes of types with a fixed one.
var frameSizes = map[byte]int{frameAccept: 0, frameCredit: 8, frameFin: 0, framePing: 8, framePong: 8,
	frameSecret: secretBytes, frameResume: 8 + secretBytes, frameAck: 8}

// isExtension reports whether a later version may add the type, which this one skips.
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

// judge validates a header whose checksum matched (R-FRAME-6).
func (h header) judge(maxData int) *failure {
	max := uint32(maxControlBytes)
	if h.kind == frameData || h.isExtension() {
		max = uint32(maxData)
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

// readHeader reads the 16 bytes of a header, and reports whether its checksum matches.
func readHeader(from []byte, sequence uint32) (header, bool) {
	return header{kind: from[0], flags: from[1], stream: binary.BigEndian.Uint32(from[4:]),
		length: binary.BigEndian.Uint32(from[8:]), crc: binary.BigEndian.Uint32(from[12:]),
	}, binary.BigEndian.Uint16(from[2:]) == headerCheck(from, sequence)
}

func appendHeader(to []byte, kind byte, stream uint32, length int, crc, sequence uint32) []byte {
	header := [headerBytes]byte{kind}
	binary.BigEndian.PutUint32(header[4:], stream)
	binary.BigEndian.PutUint32(header[8:], uint32(length))
	binary.BigEndian.PutUint32(header[12:], crc)
	setNumber(header[:], sequence)
	return append(to, header[:]...)
}

// setNumber sets the sequence number of the frame that begins with header.
func setNumber(header []byte, sequence uint32) {
	binary.BigEndian.PutUint16(header[2:], headerCheck(header, sequence))
}

// appendFrame appends a frame with its payload's CRC.
func appendFrame(to []byte, kind byte, stream uint32, payload []byte, sequence uint32) []byte {
	return append(appendHeader(to, kind, stream, len(payload), crc32.ChecksumIEEE(payload), sequence), payload...)
}

// nextSequence returns the next sequence number: 1 follows 2^32−1, because HELLOs have 0 (R-FRAME-3).
func nextSequence(sequence uint32) uint32 { return sequence%(1<<32-1) + 1 }

// dataCheck checks DATA of one direction (R-INTEGRITY-2): by a trailer, or by a CRC as in other frames.
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

// verify checks payload and trailer, and returns the payload (R-INTEGRITY-3). The zeros of a flush within a frame
// indicate a restart.
func (c dataCheck) verify(h header, body []byte, sequence uint32) ([]byte, *failure) {
	payload, what, isRight, isCut := body[:h.length], "payload checksum", false, false
	if len(body) > len(payload) {
		trailer := binary.BigEndian.Uint32(body[len(payload):])
		what, isRight, isCut = "trailer", trailer == c.tag^sequence, trailer == 0
	} else {
		isRight = crc32.ChecksumIEEE(payload) == h.crc
		isCut = h.length > 0 && bytes.HasSuffix(payload, make([]byte, least(len(payload), 16)))
	}
	switch {
	case isRight:
		return payload, nil
	case isCut:
		return nil, failf("peer-restarted", "%s was cut off: the peer restarted", h)
	}
	return nil, failf("desync", "%s: wrong %s", h, what)
}

// object reads the fields of a JSON object, and records the first malformed one: callers read all fields, then check
// failed once. (Structs of encoding/json would ignore the case of names.)
type object struct {
	what, code string // for failures
	fields     map[string]any
	failed     **failure
}

// maxInteger is the largest integer that every JSON parser represents exactly.
const maxInteger = 1<<53 - 1

// parseObject parses a JSON object in strict UTF-8 (R-FRAME-7). Anything else yields an empty object with its error set.
func parseObject(payload []byte, what string) object {
	o := object{what, "protocol-error", nil, new(*failure)}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	err := decoder.Decode(&o.fields)
	if _, end := decoder.Token(); err != nil || end != io.EOF || !utf8.Valid(payload) || o.fields == nil {
		*o.failed = failf("protocol-error", "%s: payload is not a JSON object in valid UTF-8", what)
	}
	return o
}

// require records an error of a field unless it is valid.
func (o object) require(isRight bool, name, why string) {
	if !isRight && *o.failed == nil {
		*o.failed = failf(o.code, `%s: "%s" %s`, o.what, name, why)
	}
}

func (o object) has(name string) bool { return o.fields[name] != nil }

// required returns a field of a type.
func required[T any](o object, name string) T {
	value, ok := o.fields[name].(T)
	o.require(ok, name, "is missing or not valid")
	return value
}

// optional returns a field of a type, or the zero value if it is absent or null.
func optional[T any](o object, name string) (value T) {
	if o.has(name) {
		value = required[T](o, name)
	}
	return value
}

func (o object) text(name string) string { return required[string](o, name) }

// object returns a field that must be an object, which shares this object's error.
func (o object) object(name string) object {
	return object{o.what, o.code, required[map[string]any](o, name), o.failed}
}

// number returns a field that must be a number in a range.
func (o object) number(name string, min, max float64) float64 {
	value, err := required[json.Number](o, name).Float64()
	o.require(err == nil && value >= min && value <= max, name, "is out of range")
	return value
}

// integer is like number, for integers: 4096.0 is one.
func (o object) integer(name string, min, max float64) int64 {
	value := o.number(name, min, max)
	o.require(value == math.Trunc(value), name, "is not an integer")
	return int64(math.Min(value, maxInteger))
}

// texts returns a field that must be a list of valid strings.
func (o object) texts(name string, isValid func(string) bool) []string {
	texts := []string{}
	for _, each := range required[[]any](o, name) {
		text, isText := each.(string)
		o.require(isText && isValid(text), name, "is not a list of valid strings")
		texts = append(texts, text)
	}
	return texts
}

// reason reads why something ended; its message is safe to show (R-CODE-1, R-CODE-2).
func (o object) reason() *failure {
	code, message := o.text("code"), o.text("message")
	o.require(codeNames.MatchString(code), "code", "is missing or invalid")
	return &failure{code, escape(message, maxMessageBytes)}
}

// fields are the fields of an object to be written.
type fields map[string]any

func encode(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return encoded
}

func encodeReason(reason *failure) []byte {
	return encode(fields{"code": reason.code, "message": cut(reason.message, maxMessageBytes)})
}

// orNull returns a text, or nil if it is empty.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// Formats of fields: hex numbers, names of services (R-STREAM-3), and codes (R-CODE-1).
var (
	hexDigits    = regexp.MustCompile(`^[0-9a-f]*$`)
	serviceNames = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	codeNames    = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

func isHex(text string, length int) bool { return len(text) == length && hexDigits.MatchString(text) }
func isPlain(text string) bool           { return !strings.Contains(text, "\x00") }
func isAny(string) bool                  { return true }

const recordHeaderBytes = 5

// record encodes a record of a built-in service: u8 kind, u32 length, payload.
func record(kind byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

// readRecord reads the next record; most gives the longest payload of each kind. io.EOF is a clean end.
func readRecord(from io.Reader, most func(kind byte) int) (kind byte, payload []byte, err error) {
	var header [recordHeaderBytes]byte
	if _, err = io.ReadFull(from, header[:]); err != nil {
		return 0, nil, err
	}
	kind, length := header[0], binary.BigEndian.Uint32(header[1:])
	if length > uint32(most(kind)) {
		return 0, nil, failf("protocol-error", "a record of kind %d and %d bytes is too long", kind, length)
	}
	payload, err = readPayload(from, int(length))
	return kind, payload, err
}

// readPayload reads length bytes, and allocates memory as they arrive: a length alone allocates little.
func readPayload(from io.Reader, length int) (payload []byte, err error) {
	for payload = room(least(length, 65536))[:0]; len(payload) < length && err == nil; {
		if len(payload) == cap(payload) {
			payload = append(make([]byte, 0, least(length, 2*len(payload))), payload...)
		}
		var count int
		count, err = from.Read(payload[len(payload):least(length, cap(payload))])
		payload = payload[:len(payload)+count]
	}
	if err == io.EOF && len(payload) < length {
		err = io.ErrUnexpectedEOF
	}
	return payload, err
}

// isLargeJSON reports whether a JSON text has more values than a message may have.
func isLargeJSON(text []byte) bool { return whyLarge(text) != "" }

// whyLarge returns what is wrong with a JSON text that has more than 65,536 commas, braces and brackets outside of strings, or is
// nested deeper than 1,000; otherwise "".
func whyLarge(text []byte) string {
	signs, open, inString := 0, 0, false
	for at := 0; at < len(text) && signs <= 65536 && open <= 1000; at++ {
		switch char := text[at]; {
		case char == '"':
			inString = !inString
		case inString && char == '\\':
			at++
		case inString:
		case char == ',':
			signs++
		case char == '{' || char == '[':
			signs, open = signs+1, open+1
		case char == '}' || char == ']':
			open--
		}
	}
	switch {
	case open > 1000:
		return "is nested deeper than 1000"
	case signs > 65536:
		return "has more than 65536 commas, braces and brackets"
	}
	return ""
}
