package main

// Package syscall has only socketcall(2) on 386; these came with Linux 4.3.
const sysBind, sysConnect, sysAccept4 = 361, 362, 364

const sysStatx = 383
