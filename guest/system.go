//go:build !mips64le

package main

import "strings"

// What differs between processors: termios2 of serial lines, requests of the random device, and signals.
const (
	addEntropy, reseedPool   = 0x40085203, 0x5207 // RNDADDENTROPY, RNDRESEEDCRNG
	getTermios2, setTermios2 = 0x802c542a, 0x402c542b
	lineCharacters           = 19
	infoCode                 = 2 // where siginfo_t has si_code
)

// signalNames are the names of Linux's signals, by number.
var signalNames = strings.Fields("0 SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 " +
	"SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG " +
	"SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS")
