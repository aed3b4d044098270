package main

const sysStatx = 397
