package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// object reads the fields of a JSON object, and keeps the failure of the first that has not the form that it must have:
// a caller reads all of them, and looks at failed once. (Structs of encoding/json would compare names without case.)
type object struct {
	what   string // for failures
	fields map[string]any
	failed **failure
}

// maxInteger is the largest integer that every reader of JSON has exactly.
const maxInteger = 1<<53 - 1

// parseObject reads one JSON object in strict UTF-8 (R-FRAME-7). One that is none has no fields, and has failed.
func parseObject(payload []byte, what string) object {
	o := object{what, nil, new(*failure)}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	if _, end := decoder.Token(); err != nil || end != io.EOF || !utf8.Valid(payload) {
		*o.failed = failf("protocol-error", "%s: payload is not valid UTF-8 JSON", what)
	}
	var isObject bool
	if o.fields, isObject = value.(map[string]any); !isObject && *o.failed == nil {
		*o.failed = failf("protocol-error", "%s: payload is not a JSON object", what)
	}
	return o
}

// require makes a field fail unless it is as it must be.
func (o object) require(isRight bool, name, why string) {
	if !isRight && *o.failed == nil {
		*o.failed = failf("protocol-error", `%s: "%s" %s`, o.what, name, why)
	}
}

func (o object) has(name string) bool { return o.fields[name] != nil }

// required returns a field of a type.
func required[T any](o object, name string) T {
	value, ok := o.fields[name].(T)
	o.require(ok, name, "is missing or not valid")
	return value
}

// optional returns a field of a type, or its zero if the field is absent or null.
func optional[T any](o object, name string) (value T) {
	if o.has(name) {
		value = required[T](o, name)
	}
	return value
}

func (o object) text(name string) string { return required[string](o, name) }

// object returns a field that must be an object, whose failures are those of this one.
func (o object) object(name string) object {
	return object{o.what, required[map[string]any](o, name), o.failed}
}

// number returns a field that must be a number in a range.
func (o object) number(name string, min, max float64) float64 {
	value, err := required[json.Number](o, name).Float64()
	o.require(err == nil && value >= min && value <= max, name, "is out of range")
	return value
}

// integer is as number; 4096.0 is an integer.
func (o object) integer(name string, min, max float64) int {
	value := o.number(name, min, max)
	o.require(value == math.Trunc(value), name, "is not an integer")
	return int(math.Min(value, maxInteger))
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
	o.require(len(code) >= 1 && len(code) <= 64 && hasOnly(code, letters+"-"), "code", "is missing or invalid")
	return &failure{code, escape(message, maxMessageBytes)}
}

// fields are those of an object that is written.
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

// orNull is a text, or null for none.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

const (
	hexDigits = "0123456789abcdef"
	letters   = "abcdefghijklmnopqrstuvwxyz0123456789"
)

func hasOnly(text, allowed string) bool { return strings.Trim(text, allowed) == "" }

func isHex(text string, length int) bool { return len(text) == length && hasOnly(text, hexDigits) }

// isService tells whether a text names a service (R-STREAM-3).
func isService(text string) bool {
	return len(text) >= 1 && len(text) <= 64 && hasOnly(text[:1], letters) && hasOnly(text, letters+"._-")
}

func isAny(string) bool { return true }

func isPlain(text string) bool { return !strings.Contains(text, "\x00") }

// record is one of a built-in service: u8 kind, u32 length, payload.
func record(kind byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

// readRecord reads the header of the next record; io.EOF before its first byte is the end.
func readRecord(from io.Reader) (kind byte, length int, err error) {
	var header [5]byte
	_, err = io.ReadFull(from, header[:])
	return header[0], int(binary.BigEndian.Uint32(header[1:])), err
}

// hasManySigns tells whether a JSON text has too many commas, braces and brackets outside of strings: they bound the
// memory of its values.
func hasManySigns(text []byte) bool {
	count, inString, isEscaped := 0, false, false
	for _, char := range text {
		switch {
		case isEscaped:
			isEscaped = false
		case inString:
			isEscaped, inString = char == '\\', char != '"'
		case char == '"':
			inString = true
		case char == ',' || char == '{' || char == '[':
			count++
		}
	}
	return count > 65536
}
