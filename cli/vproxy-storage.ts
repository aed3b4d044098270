#!/usr/bin/env node
/** The program `vproxy-storage`. */
import { runStorageWrapper } from './storage-wrapper.js';

// Node makes the path absolute without following links, so it is the name that the utility was called by.
void runStorageWrapper(process.argv.slice(1));
