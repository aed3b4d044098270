package main

import (
	"bytes"
	"encoding/json"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// requestObject reads the fields of a request for exec. Its failures are bad-argument, with the texts of vproxy.
type requestObject struct {
	object
	prefix string // of names in failures
}

// parseRequest parses the JSON object of a request. Unlike parseObject, it refuses strings that Go would change.
func parseRequest(payload []byte, what string) requestObject {
	o, start := object{what, "bad-argument", nil, new(*failure)}, bytes.TrimLeft(payload, " \t\r\n")
	why := whyLarge(payload)
	switch {
	case !utf8.Valid(payload):
		why = "is not UTF-8"
	case len(start) == 0 || start[0] != '{':
		why = "is not a JSON object"
	case why != "":
	default:
		parsed := parseObject(payload, what)
		o.fields = parsed.fields
		if *parsed.failed != nil {
			why = "is not a JSON object"
		} else if hasHalfPair(payload) {
			why = "has half a surrogate pair"
		}
	}
	if why != "" {
		o.fields, *o.failed = nil, failf("bad-argument", "%s %s", what, why)
	}
	return requestObject{o, ""}
}

// parseNames parses a JSON object whose strings name files: it refuses those that Go would change.
func parseNames(payload []byte, what string) object {
	o := parseObject(payload, what)
	if *o.failed == nil && hasHalfPair(payload) {
		*o.failed = failf("protocol-error", "%s has half a surrogate pair", what)
	}
	return o
}

// hasHalfPair reports whether JSON has an escaped half of a surrogate pair without the other, which Go would replace.
func hasHalfPair(text []byte) bool {
	isHigh := false // the previous unit
	for at := 0; at < len(text); at++ {
		unit := 0
		if text[at] == '\\' {
			at++
			if at+4 < len(text) && text[at] == 'u' {
				value, _ := strconv.ParseUint(string(text[at+1:at+5]), 16, 16)
				unit, at = int(value), at+4
			}
		}
		isLow := unit >= 0xdc00 && unit <= 0xdfff
		if isLow != isHigh {
			return true
		}
		isHigh = unit >= 0xd800 && unit <= 0xdbff
	}
	return false
}

// check records what is wrong with a field, as in execFaults with its limit, unless it is right.
func (o requestObject) check(name string, isRight bool, fault string, limit int64) {
	if !isRight && *o.failed == nil {
		why := strings.Replace(execFaults[fault], "#", strconv.FormatInt(limit, 10), 1)
		*o.failed = failf("bad-argument", "%s: %s%s: %s", o.what, o.prefix, name, why)
	}
}

// part returns a field that must be an object.
func (o requestObject) part(name string) requestObject {
	fields, isObject := o.fields[name].(map[string]any)
	o.check(name, isObject, "object", 0)
	return requestObject{object{o.what, o.code, fields, o.failed}, o.prefix + name + "."}
}

// plain returns a value that must be a string without NUL.
func (o requestObject) plain(name string, value any) string {
	text, isText := value.(string)
	o.check(name, isText, "text", 0)
	o.check(name, isPlain(text), "nul", 0)
	return text
}

// plainText returns such a field, or "" if it is absent.
func (o requestObject) plainText(name string) string {
	if !o.has(name) {
		return ""
	}
	return o.plain(name, o.fields[name])
}

// boolean returns a field, or false if it is absent.
func (o requestObject) boolean(name string) bool {
	value, isBoolean := o.fields[name].(bool)
	o.check(name, isBoolean || !o.has(name), "boolean", 0)
	return value
}

// ranged returns a field that must be a number from 0 or, for a size, from 1 to a limit, and whole unless it is a time.
func (o requestObject) ranged(name, fault string, limit int64) float64 {
	number, _ := o.fields[name].(json.Number)
	value, err := number.Float64()
	isRight := err == nil && value >= 0 && value <= float64(limit) && (fault != "size" || value > 0) &&
		(fault == "range" || value == math.Trunc(value))
	o.check(name, isRight, fault, limit)
	if !isRight {
		return 0
	}
	return value
}

// delay returns a time in milliseconds, by default the usual one.
func (o requestObject) delay(name string, usual time.Duration) time.Duration {
	if !o.has(name) {
		return usual
	}
	return time.Duration(o.ranged(name, "range", 1<<31-1) * float64(time.Millisecond))
}

func sortedNames(fields map[string]any) (names []string) {
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
