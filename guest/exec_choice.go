package main

import (
	"errors"
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
	r := &execRequest{argv: o.texts("argv", isPlain), cwd: optional[string](o, "cwd"), user: optional[string](o,
		"user"),
		env: map[string]string{}, hasInput: !o.has("hasInput") || required[bool](o,
			"hasInput"), killAfter: killAfterUsual}
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

// choose turns a request into a command, or denies it. It also tells the name of its user.
func (e *execService) choose(q *execRequest) (cmd *exec.Cmd, name string, failed *failure) {
	user, failed := findUser(q.user)
	if failed != nil {
		return nil, q.user, failed
	}
	cmd = &exec.Cmd{SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if own := os.Geteuid(); user.uid != own {
		if own != 0 {
			return nil, user.name, failf("command-denied", "cannot run commands as %s: only root can switch users",
				escape(user.name, 64))
		}
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
	if cmd.Dir, failed = findFolder(q.cwd, user.home); failed != nil {
		return nil, user.name, failed
	}
	program := user.shell
	if len(q.argv) > 0 {
		program = q.argv[0]
	}
	if cmd.Path, failed = findProgram(program, cmd.Dir, env["PATH"]); failed == nil && e.programs != nil {
		// The caller cannot choose argv[0] freely.
		if cmd.Path, failed = e.allow(cmd.Path, q); strings.Contains(program, "/") {
			program = cmd.Path
		} else {
			program = filepath.Base(cmd.Path)
		}
	}
	if cmd.Args = append([]string{program}, q.argv[least(1, len(q.argv)):]...); len(q.argv) == 0 {
		cmd.Args[0] = "-" + filepath.Base(program) // a login shell
	}
	return cmd, user.name, failed
}

// allow returns the entry of the list of programs that a path names, and denies others. Variables are denied that could
// make a program run another one, or load code.
func (e *execService) allow(file string, q *execRequest) (string, *failure) {
	// The last name must be the entry's: many programs are links to one file that acts by its name (busybox).
	placeOf := func(file string) string {
		folder, _ := filepath.EvalSymlinks(filepath.Dir(file))
		return filepath.Join(folder, filepath.Base(file))
	}
	variables := map[string]string{"TERM": q.term}
	for name, value := range q.env {
		variables[name] = value
	}
	for name, value := range variables {
		isCategory := strings.HasPrefix(name, "LC_") && hasOnly(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
		isPath := strings.HasPrefix(strings.TrimPrefix(value, ":"), "/") || strings.Contains(value, "..")
		if isPath || !isCategory && !isWord(name, "TERM LANG TZ") {
			return "", failf("command-denied",
				"variable %s: cannot be set, or name a path, where only certain programs are allowed",
				escape(name, 64))
		}
	}
	for _, entry := range e.programs {
		if entry == file || placeOf(entry) == placeOf(file) {
			return entry, nil
		}
	}
	return "", failf("command-denied", "%s: not an allowed program", escape(file, 200))
}

// findFolder returns the working folder; a relative one starts at the home. A missing home matters only if it was asked
// for.
func findFolder(cwd, home string) (string, *failure) {
	folder := filepath.Join(home, cwd)
	if filepath.IsAbs(cwd) {
		folder = cwd
	}
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil && cwd != "" {
		return "", failf("command-failed", "folder %s: %s", escape(folder, 200), describe(err))
	} else if err != nil {
		return "/", nil
	}
	return folder, nil
}

// findProgram finds a program as execvp(3) does.
func findProgram(name, cwd, path string) (string, *failure) {
	folders := strings.Split(path, ":")
	if strings.Contains(name, "/") {
		folders = []string{""}
	}
	code, why := "command-not-found", "command not found"
	for _, folder := range folders {
		file := filepath.Join(cwd, folder, name)
		if filepath.IsAbs(folder + name) {
			file = filepath.Join(folder, name)
		}
		_, err := exec.LookPath(file)
		switch {
		case err == nil && name != "":
			return file, nil
		case errors.Is(err, os.ErrPermission): // also what is no file
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

// rows are the lines of a file of /etc, in fields.
func rows(file string, fields int) (found [][]string) {
	for _, line := range strings.Split(readFile(file), "\n") {
		if row := strings.Split(line, ":"); len(row) >= fields {
			found = append(found, row)
		}
	}
	return found
}

// findUser is the account that a command runs as: the one asked for, or that of this process.
func findUser(name string) (account, *failure) {
	orElse := func(text, other string) string {
		if text == "" {
			return other
		}
		return text
	}
	own := os.Geteuid()
	for _, row := range rows("/etc/passwd", 7) {
		uid, err := strconv.Atoi(row[2])
		gid, gidErr := strconv.Atoi(row[3])
		if err == nil && gidErr == nil && (name == "" && uid == own || name != "" && row[0] == name) {
			return account{row[0], orElse(row[5], "/"), orElse(row[6], "/bin/sh"), uid, gid}, nil
		}
	}
	if name != "" {
		return account{}, failf("command-failed", `unknown user "%s"`, escape(name, 64))
	}
	return account{strconv.Itoa(own), "/", "/bin/sh", own, os.Getegid()}, nil
}

// groups are the numbers of the account's groups.
func (a account) groups() []uint32 {
	groups := []uint32{uint32(a.gid)}
	for _, row := range rows("/etc/group", 4) {
		id, err := strconv.ParseUint(row[2], 10, 32)
		if err == nil && isAmong(a.name, strings.Split(row[3], ",")) {
			groups = append(groups, uint32(id))
		}
	}
	return groups
}

// signalNames are those of Linux.
var signalNames = map[syscall.Signal]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
	9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
	16: "SIGSTKFLT",
	17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG",
	24: "SIGXCPU",
	25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}

// signalNumber is that of a name; 0: none.
func signalNumber(name string) syscall.Signal {
	for number, each := range signalNames {
		if each == name {
			return number
		}
	}
	return 0
}
