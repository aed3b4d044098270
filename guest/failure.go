package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode/utf8"
)

// failure is an error with a code of the protocol, or of docs/errors.md.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.message }

func failf(code, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// toFailure returns an error as a failure; the code is for one that has none.
func toFailure(err error, code string) *failure {
	if failed, ok := err.(*failure); ok {
		return failed
	}
	return &failure{code, describe(err)}
}

// exitStatus is that of a program that fails with this code.
func (f *failure) exitStatus() int {
	for status, codes := range exitCodes {
		if isWord(f.code, codes) {
			return status
		}
	}
	return 69
}

// errorNames has the names of the system's errors that users see most.
var errorNames = map[syscall.Errno]string{
	syscall.EACCES: "EACCES", syscall.EADDRINUSE: "EADDRINUSE", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL",
	syscall.EBUSY: "EBUSY", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET",
	syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.EIO: "EIO", syscall.EISDIR: "EISDIR", syscall.EMFILE: "EMFILE",
	syscall.ENETUNREACH: "ENETUNREACH", syscall.ENODEV: "ENODEV", syscall.ENOENT: "ENOENT", syscall.ENOTDIR: "ENOTDIR",
	syscall.ENXIO: "ENXIO", syscall.EPERM: "EPERM", syscall.EPIPE: "EPIPE", syscall.ETIMEDOUT: "ETIMEDOUT",
}

// describe shows an error in one line, one of the system as `permission denied (EACCES)`.
func describe(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return escape(err.Error(), 200)
	}
	words := number.Error()
	switch number {
	case syscall.ECONNRESET:
		words = "connection reset"
	case syscall.EADDRNOTAVAIL:
		words = "not an address of this machine"
	}
	if name, ok := errorNames[number]; ok {
		words += " (" + name + ")"
	}
	return words
}

// escape shows a foreign text so that it cannot move the cursor or forge a line, cut to max characters.
func escape(text string, max int) string {
	var shown strings.Builder
	for at, char := range text {
		if max--; max < 0 {
			return shown.String() + "…"
		}
		// Zero-width and bidirectional controls, line separators and the BOM change how the text around them looks.
		isObeyed := char == 0x61c || char == 0xfeff || char >= 0x200b && char <= 0x200f ||
			char >= 0x2028 && char <= 0x202e || char >= 0x2060 && char <= 0x206f
		switch {
		case char == '\\' || char == '\n' || char == '\t':
			shown.WriteString(map[rune]string{'\\': `\\`, '\n': `\n`, '\t': `\t`}[char])
		case char == utf8.RuneError && text[at] != 0xef:
			fmt.Fprintf(&shown, `\x%02x`, text[at])
		case char < 0x20 || char >= 0x7f && char <= 0x9f:
			fmt.Fprintf(&shown, `\x%02x`, char)
		case isObeyed:
			fmt.Fprintf(&shown, `\u{%x}`, char)
		default:
			shown.WriteRune(char)
		}
	}
	return shown.String()
}

// cut shortens a text to max bytes, at the boundary of a character.
func cut(text string, max int) string { return strings.ToValidUTF8(text[:least(len(text), max)], "") }

// isWord tells whether a text is one of the words of a list.
func isWord(text, words string) bool { return isAmong(text, strings.Fields(words)) }

func isAmong(text string, list []string) bool {
	for _, each := range list {
		if each == text {
			return true
		}
	}
	return false
}

func least(a, b int) int {
	if a < b {
		return a
	}
	return b
}
