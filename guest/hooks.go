package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const hooksTime = 30 * time.Second // for all hooks of a folder

var hookNames = regexp.MustCompile(`^[\w-]+$`) // as in run-parts(8)

// runHooks runs the executable files of a folder one after the other, and returns the first failure, which does not stop the
// rest.
func runHooks(ctx context.Context, folder, argument string, env ...string) (first *failure) {
	ctx, cancel := context.WithTimeout(ctx, hooksTime)
	defer cancel()
	entries, _ := os.ReadDir(folder)
	for _, each := range entries {
		path := filepath.Join(folder, each.Name())
		if _, err := exec.LookPath(path); err != nil || !hookNames.MatchString(each.Name()) {
			continue
		}
		level, how := logInfo, runHook(ctx, exec.Command(path, strings.Fields(argument)...), env)
		message := escape(path, 200) + ": " + escape(how, 300)
		if how != "done" {
			level = logWarn
		}
		logLine(level, "hook", "%s", message)
		if how != "done" && first == nil {
			first = failf("freeze-failed", "%s", message)
		}
	}
	return first
}

// runHook returns "done", or else what the program wrote, or how it ended.
func runHook(ctx context.Context, command *exec.Cmd, env []string) string {
	read, write, err := os.Pipe()
	// Wait does not wait for a pipe that is a file: what the program leaves in the background may keep it open.
	command.Stdout, command.Stderr, command.Env = write, write, append(os.Environ(), env...)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var started *child
	if err == nil {
		started, err = start(command, func() *failure { return nil })
		write.Close()
		defer read.Close()
	}
	if err != nil {
		return describe(err)
	}
	defer started.release()
	name, how, heard := filepath.Base(command.Path), "done", make(chan string)
	go func() {
		output, _ := io.ReadAll(io.LimitReader(read, copyBlock))
		io.Copy(io.Discard, read)
		heard <- strings.Join(strings.Fields(string(output)), " ")
	}()
	select {
	case <-started.exited:
		if status := started.status; status.Signaled() {
			how = name + " signal: " + status.Signal().String()
		} else if status != 0 {
			how = name + " exited with " + strconv.Itoa(status.ExitStatus())
		}
	case <-ctx.Done():
		how = name + either(ctx.Err() == context.DeadlineExceeded, " timed out", " was cancelled")
		started.signal(syscall.SIGKILL) // a process that hangs in the kernel does not exit even then
	}
	read.SetReadDeadline(time.Now().Add(outputGrace))
	if output := <-heard; how != "done" && output != "" {
		return output
	}
	return how
}
