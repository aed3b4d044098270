package main

import "testing"

func TestMachine(t *testing.T) {
	if kernel := readMachine()["kernel"].(fields); kernel["architecture"] == "" {
		t.Error(kernel)
	}
	disks := readDisks("/dev/a / ext4 rw 0 0\n/dev/b /out/of/reach ext4 rw 0 0")
	if len(disks) != 2 || disks[0]["sizeBytes"] == nil || disks[1]["sizeBytes"] != nil {
		t.Error(disks)
	}
}
