//go:build !386

package main

import "syscall"

const sysBind, sysConnect, sysAccept4 = syscall.SYS_BIND, syscall.SYS_CONNECT, syscall.SYS_ACCEPT4
