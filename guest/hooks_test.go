package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestHooks: executable files run in the order of their names, with an argument; the first failure is returned.
func TestHooks(t *testing.T) {
	folder := t.TempDir()
	out := folder + "/out.txt"
	for name, script := range map[string]string{
		"10-first": "echo $1 $X >> " + out, "20-second": "echo two >> " + out + "\necho to  log\necho 'it failed' >&2; exit 3",
		"30-third": "echo three >> " + out + "; exit 4", "40-backup~": "echo no >> " + out, ".50-hidden": "echo no >> " + out,
	} {
		os.WriteFile(folder+"/"+name, []byte("#!/bin/sh\n"+script+"\n"), 0o700)
	}
	os.WriteFile(folder+"/60-readme", []byte("text"), 0o600)
	os.Mkdir(folder+"/70-folder", 0o700)
	failed := runHooks(context.Background(), folder, "freeze", "X=x")
	if failed == nil || failed.message != folder+"/20-second: to log it failed" || readFile(out) != "freeze x\ntwo\nthree" {
		t.Error(failed, readFile(out))
	}
	if failed := runHooks(context.Background(), folder+"/none", ""); failed != nil {
		t.Error(failed)
	}
}

// TestLateHook: hooks end in time, whatever they leave behind, or write.
func TestLateHook(t *testing.T) {
	for script, want := range map[string]string{
		"exit 7": "10-hook exited with 7", "kill -9 $$": "10-hook signal: killed", "sleep 100": "10-hook timed out",
		"trap '' TERM HUP; sleep 100 & sleep 100": "10-hook timed out", "yes": "y y", "sleep 3 & exit 0": "done",
		"setsid sleep 4 & sleep 100": "10-hook timed out", "exec >&- 2>&-; sleep 100": "10-hook timed out",
	} {
		folder := t.TempDir()
		os.WriteFile(folder+"/10-hook", []byte("#!/bin/sh\n"+script+"\n"), 0o700)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		began, how := time.Now(), ""
		if failed := runHooks(ctx, folder, ""); failed != nil {
			how = strings.TrimPrefix(failed.message, folder+"/10-hook: ")
		}
		cancel()
		if how != want && !(how == "" && want == "done") && !(want == "y y" && strings.HasPrefix(how, want)) {
			t.Errorf("%s: %q", script, how)
		}
		if time.Since(began) > 3*time.Second {
			t.Error(script, time.Since(began))
		}
	}
}
