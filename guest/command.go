package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// execRequest is a START.
type execRequest struct {
	argv               []string
	cwd, user, term    string // empty: none
	env                map[string]string
	columns, rows      int // 0: no terminal
	hasInput           bool
	timeout, killAfter time.Duration
}

func parseExecRequest(payload []byte) (*execRequest, *failure) {
	if hasManySigns(payload) {
		return nil, failf("protocol-error", "too many values")
	}
	o := parseObject(payload, "exec: START")
	r := &execRequest{argv: o.texts("argv", isPlain), cwd: optional[string](o, "cwd"), user: optional[string](o, "user"),
		env: map[string]string{}, hasInput: !o.has("hasInput") || required[bool](o, "hasInput"),
		killAfter: killAfterUsual}
	for name, value := range optional[map[string]any](o, "env") {
		text, isText := value.(string)
		r.env[name] = text
		o.require(isText && name != "" && !strings.Contains(name, "=") && isPlain(name+text), "env", "is not valid")
	}
	if o.has("terminal") {
		terminal := o.object("terminal")
		r.columns, r.rows = terminal.integer("columns", 1, 65535), terminal.integer("rows", 1, 65535)
		r.term = terminal.text("term")
	}
	o.require(isPlain(r.cwd+r.user+r.term), "START", "has a NUL")
	for name, to := range map[string]*time.Duration{"timeoutMs": &r.timeout, "killAfterMs": &r.killAfter} {
		if o.has(name) {
			*to = time.Duration(o.number(name, 0, 1<<31-1) * float64(time.Millisecond))
		}
	}
	return r, *o.failed
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command makes a command of the request, or denies it. It also tells the name of its user.
func (q *execRequest) command() (cmd *exec.Cmd, name string, failed *failure) {
	user, failed := findUser(q.user)
	if failed != nil {
		return nil, q.user, failed
	}
	cmd = &exec.Cmd{SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if own := os.Geteuid(); user.uid != own && own != 0 {
		return nil, user.name, failf("command-denied", "cannot run commands as %s: only root can switch users",
			escape(user.name, 64))
	} else if user.uid != own {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user.uid), Gid: uint32(user.gid),
			Groups: user.groups()}
	}
	env := map[string]string{"PATH": searchPath, "HOME": user.home, "USER": user.name, "LOGNAME": user.name,
		"SHELL": user.shell}
	if q.columns > 0 {
		env["TERM"] = q.term
	}
	for name, value := range q.env {
		env[name] = value
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if cmd.Args = q.argv; len(q.argv) == 0 {
		cmd.Args = []string{user.shell}
	}
	if cmd.Dir, failed = findFolder(q.cwd, user.home); failed == nil {
		cmd.Path, failed = findProgram(cmd.Args[0], cmd.Dir, env["PATH"])
	}
	if len(q.argv) == 0 {
		cmd.Args = []string{"-" + filepath.Base(user.shell)} // a login shell
	}
	return cmd, user.name, failed
}

func (q *execRequest) line() string {
	if len(q.argv) == 0 {
		return "(login shell)"
	}
	return escape(strings.Join(q.argv, " "), 200)
}

// findFolder returns the working folder; a relative one starts at the home. A missing home matters only if it was asked
// for.
func findFolder(cwd, home string) (string, *failure) {
	folder := filepath.Join(home, cwd)
	if filepath.IsAbs(cwd) {
		folder = cwd
	}
	info, err := os.Stat(folder)
	switch {
	case err == nil && info.IsDir():
		return folder, nil
	case cwd == "":
		return "/", nil
	case err == nil:
		err = syscall.ENOTDIR
	}
	return "", failf("command-failed", "folder %s: %s", escape(folder, 200), describe(err))
}

// findProgram finds a program as execvp(3) does.
func findProgram(name, cwd, path string) (string, *failure) {
	folders := strings.Split(path, ":")
	if strings.Contains(name, "/") {
		folders = []string{""}
	}
	code, why := "command-not-found", "command not found"
	for _, folder := range folders {
		file := filepath.Join(folder, name)
		if !filepath.IsAbs(folder + name) {
			file = filepath.Join(cwd, file)
		}
		_, err := exec.LookPath(file)
		if err == nil && name != "" {
			return file, nil
		} else if errors.Is(err, os.ErrPermission) { // also what is no file
			code, why = "command-failed", "permission denied (EACCES)"
		}
	}
	return "", failf(code, "%s: %s", escape(name, 200), why)
}

// account is a user of this machine, as /etc/passwd has it: a static program cannot ask the name services.
type account struct {
	name, home, shell string
	uid, gid          int
}

// rows are the lines of a file of /etc, in fields, whose third one is a number.
func rows(file string, fields int) (found [][]string, numbers []int) {
	for _, line := range strings.Split(readFile(file), "\n") {
		row := append(strings.Split(line, ":"), make([]string, fields)...)
		if number, err := strconv.Atoi(row[2]); err == nil {
			found, numbers = append(found, row), append(numbers, number)
		}
	}
	return found, numbers
}

// findUser is the account that a command runs as: the one asked for, or that of this process.
func findUser(name string) (account, *failure) {
	own := os.Geteuid()
	users, ids := rows("/etc/passwd", 7)
	for index, row := range users {
		gid, err := strconv.Atoi(row[3])
		if err != nil || row[0] != name && (name != "" || ids[index] != own) {
			continue
		}
		user := account{row[0], filepath.Join("/", row[5]), row[6], ids[index], gid}
		if user.shell == "" {
			user.shell = "/bin/sh"
		}
		return user, nil
	}
	if name != "" {
		return account{}, failf("command-failed", `unknown user "%s"`, escape(name, 64))
	}
	return account{strconv.Itoa(own), "/", "/bin/sh", own, os.Getegid()}, nil
}

// groups are the numbers of the account's groups.
func (a account) groups() []uint32 {
	list := []uint32{uint32(a.gid)}
	groups, ids := rows("/etc/group", 4)
	for index, row := range groups {
		if isAmong(a.name, strings.Split(row[3], ",")) {
			list = append(list, uint32(ids[index]))
		}
	}
	return list
}

// signalNames are those of Linux, by their numbers.
var signalNames = strings.Fields("0 SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV " +
	"SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ " +
	"SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS")

func signalName(number syscall.Signal) string {
	if int(number) < len(signalNames) {
		return signalNames[number]
	}
	return fmt.Sprintf("SIG%d", number)
}

// signalNumber is that of a name; 0: none.
func signalNumber(name string) syscall.Signal {
	for number, each := range signalNames {
		if each == name {
			return syscall.Signal(number)
		}
	}
	return 0
}
