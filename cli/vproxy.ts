#!/usr/bin/env node
/** The program `vproxy`. */
import { runCommandLine } from './main.js';

await runCommandLine(process.argv.slice(2));
