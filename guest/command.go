package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
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
	waits              bool // for a slot, if too many commands run
	isJob              bool // it outlives its caller
	tag                string
	isUnique           bool // no other job with this tag may run
	keepBytes          int  // of the job's output
}

const maxSide = 65535 // columns or rows of a terminal

// parseExecRequest parses a START (R-EXEC-1).
func parseExecRequest(payload []byte) (*execRequest, *failure) {
	o := parseRequest(payload, "START")
	r := &execRequest{argv: []string{}, env: map[string]string{}, killAfter: killAfterUsual, keepBytes: jobKeepBytes}
	words, isList := o.fields["argv"].([]any)
	o.check("argv", isList, "list", 0)
	for index, word := range words {
		r.argv = append(r.argv, o.plain("argv["+strconv.Itoa(index)+"]", word))
	}
	r.cwd, r.user = o.plainText("cwd"), o.plainText("user")
	if o.has("env") {
		env := o.part("env")
		for _, name := range sortedNames(env.fields) {
			o.check("env", name != "" && !strings.ContainsAny(name, "=\x00"), "name", 0)
			r.env[name] = o.plain("env["+escape(name, 64)+"]", env.fields[name])
		}
	}
	if o.has("terminal") {
		terminal := o.part("terminal")
		r.columns, r.rows = int(terminal.ranged("columns", "size", maxSide)), int(terminal.ranged("rows", "size", maxSide))
		r.term = terminal.plain("term", terminal.fields["term"])
	}
	r.isJob = o.has("detach")
	r.hasInput = o.boolean("hasInput") || !o.has("hasInput") && (r.columns > 0 || !r.isJob)
	r.timeout, r.killAfter = o.delay("timeoutMs", r.timeout), o.delay("killAfterMs", r.killAfter)
	r.waits = o.boolean("wait")
	if r.isJob {
		detach := o.part("detach")
		r.tag = detach.plainText("tag")
		detach.check("tag", len(r.tag) <= maxJobTagBytes, "tag", maxJobTagBytes)
		if detach.has("keepBytes") {
			r.keepBytes = int(detach.ranged("keepBytes", "whole", maxJobKeepBytes))
		}
		r.isUnique = detach.boolean("unique") && r.tag != ""
	}
	return r, *o.failed
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command returns the command of the request, and the name of its user. If programs is not nil, only they are allowed.
func (q *execRequest) command(programs []string) (cmd *exec.Cmd, name string, failed *failure) {
	if failed = q.checkEnv(); failed != nil && programs != nil {
		return nil, q.user, failed
	}
	account, failed := findUser(q.user)
	if failed != nil {
		return nil, q.user, failed
	}
	name = account.Username
	cmd = &exec.Cmd{SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if own := os.Geteuid(); account.Uid != strconv.Itoa(own) {
		if own != 0 {
			return nil, name, failf("command-denied", "cannot run commands as %s: only root can switch users",
				escape(name, 64))
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: numeric(account.Uid), Gid: numeric(account.Gid)}
		groups, _ := account.GroupIds()
		for _, group := range groups {
			cmd.SysProcAttr.Credential.Groups = append(cmd.SysProcAttr.Credential.Groups, numeric(group))
		}
	}
	home := filepath.Join("/", account.HomeDir)
	_, row, _ := strings.Cut("\n"+readFile("/etc/passwd"), "\n"+name+":")
	row, _, _ = strings.Cut(row, "\n")
	shell := row[strings.LastIndexByte(row, ':')+1:] // package user leaves it out
	if shell == "" {
		shell = "/bin/sh"
	}
	env := map[string]string{"PATH": searchPath, "HOME": home, "USER": name, "LOGNAME": name, "SHELL": shell}
	if q.columns > 0 {
		env["TERM"] = q.term
	}
	for name, value := range q.env {
		env[name] = value
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	program := shell
	cmd.Args = q.argv
	if len(q.argv) > 0 {
		program = q.argv[0]
	} else {
		cmd.Args = []string{"-" + filepath.Base(shell)} // a login shell
	}
	if cmd.Dir, failed = findFolder(q.cwd, home); failed == nil {
		cmd.Path, failed = findProgram(program, cmd.Dir, env["PATH"])
	}
	if failed == nil && programs != nil {
		if cmd.Path = findAllowed(programs, cmd.Path); cmd.Path == "" {
			failed = failf("command-denied", "%s: not an allowed program", escape(program, 200))
		} else if len(q.argv) > 0 { // the caller must not choose argv[0]
			cmd.Args = append([]string{cmd.Path}, q.argv[1:]...)
			if !strings.Contains(program, "/") {
				cmd.Args[0] = filepath.Base(cmd.Path)
			}
		}
	}
	return cmd, name, failed
}

var (
	harmlessName = regexp.MustCompile(`^(?:TERM|LANG|LC_[A-Z]+|TZ)$`)
	pathValue    = regexp.MustCompile(`^:?/|\.\.`) // TZ may begin with a colon, and its names have slashes
)

// checkEnv refuses variables that could make an allowed program run another one, or load code.
func (q *execRequest) checkEnv() *failure {
	if q.columns > 0 && q.env["TERM"] == "" && pathValue.MatchString(q.term) {
		return failf("command-denied", "variable TERM: cannot name a path where only certain programs are allowed")
	}
	for name, value := range q.env {
		what := ""
		if pathValue.MatchString(value) {
			what = "cannot name a path"
		}
		if !harmlessName.MatchString(name) {
			what = "cannot be set"
		}
		if what != "" {
			return failf("command-denied", "variable %s: %s where only certain programs are allowed", escape(name, 64), what)
		}
	}
	return nil
}

// findAllowed returns the allowed program that a path leads to, or "". Folders may be links (/bin to /usr/bin),
// but the last name must be that of the program: one file may act by the name of the link to it (busybox).
func findAllowed(programs []string, path string) string {
	placeOf := func(path string) string {
		folder, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return path
		}
		return filepath.Join(folder, filepath.Base(path))
	}
	for _, each := range programs {
		if each == path || placeOf(each) == placeOf(path) {
			return each
		}
	}
	return ""
}

func (q *execRequest) line() string {
	if len(q.argv) == 0 {
		return "(login shell)"
	}
	return escape(strings.Join(q.argv, " "), 200)
}

// findFolder returns the working folder; a relative one starts at the home, which need not exist if none was asked for.
func findFolder(cwd, home string) (string, *failure) {
	folder := filepath.Join(home, cwd)
	if filepath.IsAbs(cwd) {
		folder = cwd
	}
	_, err := os.Stat(folder + "/.") // fails for what is not a folder
	if err == nil {
		return folder, nil
	} else if cwd == "" {
		return "/", nil
	}
	return "", failf("command-failed", "folder %s: %s", escape(folder, 200), describe(err))
}

// findProgram finds a program as execvp(3) does.
func findProgram(name, cwd, path string) (string, *failure) {
	if name == "" { // not the folders themselves
		return "", failf("command-not-found", "'': command not found")
	}
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
		switch found, _ := os.Stat(file); {
		case errors.Is(err, os.ErrPermission): // also for a folder
			code, why = "command-failed", "permission denied (EACCES)"
		case err == nil && found != nil && !found.Mode().IsRegular():
			code, why = "command-failed", "is not a regular file" // the byte of a FIFO is its reader's
		case err == nil:
			// A hung file system blocks here: between fork and exec, it would block the whole process.
			if fd, err := syscall.Open(file, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0); err == nil {
				syscall.Read(fd, make([]byte, 1))
				syscall.Close(fd)
			}
			return file, nil
		}
	}
	return "", failf(code, "%s: %s", escape(name, 200), why)
}

// findUser returns the account to run a command as: the given one, or that of this process. A static program cannot
// use name services, so only /etc/passwd counts.
func findUser(name string) (*user.User, *failure) {
	own := strconv.Itoa(os.Geteuid())
	account, err := user.LookupId(own)
	if name != "" {
		account, err = user.Lookup(name)
	}
	switch {
	case err == nil:
		return account, nil
	case name != "":
		return nil, failf("command-failed", `unknown user "%s"`, escape(name, 64))
	}
	return &user.User{Username: own, Uid: own, Gid: strconv.Itoa(os.Getegid())}, nil
}

// startCommand starts a command as execvp(3) does: a file of unknown format is a shell script.
func startCommand(cmd *exec.Cmd, unwanted func() *failure) (*child, error) {
	started, err := start(cmd, unwanted)
	if errors.Is(err, syscall.ENOEXEC) {
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"/bin/sh", cmd.Path}, cmd.Args[1:]...)
		started, err = start(cmd, unwanted)
	}
	if _, isUnwanted := err.(*failure); isUnwanted {
		return nil, err
	} else if os.IsNotExist(err) {
		err = failf("command-failed", "%s: its interpreter does not exist", escape(cmd.Path, 200))
	} else if err != nil {
		err = failf("command-failed", "%s: %s", escape(cmd.Path, 200), describe(err))
	}
	return started, err
}

// openTerminal opens a pseudo-terminal owned by the command's user.
func openTerminal(columns, rows uint16, credential *syscall.Credential) (master, slave *os.File, err error) {
	var number, locked int32
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err == nil {
		err = ioctl(master, syscall.TIOCSPTLCK, &locked)
	}
	if err == nil {
		err = ioctl(master, syscall.TIOCGPTN, &number)
	}
	path := "/dev/pts/" + strconv.Itoa(int(number))
	if err == nil && credential != nil {
		err = os.Chown(path, int(credential.Uid), -1)
	}
	if err == nil {
		resize(master, columns, rows)
		slave, err = os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if at := (*os.PathError)(nil); errors.As(err, &at) {
		err = failf("command-failed", "cannot open a terminal: %s: %s", at.Path, describe(err))
	}
	return master, slave, err
}

// resize ignores a size without columns or rows.
func resize(master *os.File, columns, rows uint16) {
	if columns > 0 && rows > 0 {
		ioctl(master, syscall.TIOCSWINSZ, &[4]uint16{rows, columns})
	}
}

// numeric parses a user or group ID, which package user has checked.
func numeric(id string) uint32 {
	value, _ := strconv.ParseUint(id, 10, 32)
	return uint32(value)
}

func signalName(number syscall.Signal) string {
	if int(number) < len(signalNames) {
		return signalNames[number]
	}
	return fmt.Sprintf("SIG%d", number)
}
